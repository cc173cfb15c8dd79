"""A run's label sets: calibrated on its risks out of fold, judged on patients whom it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmnar.errors import StoreError
from mmnar.evaluation.abstain import SetRow, set_rows
from mmnar.posthoc.sets import LabelSets
from mmnar.predictions import OUT_OF_FOLD
from mmnar.privacy import counted
from mmnar.workflow.judge import scored_predictions
from mmnar.workflow.run import Run


@dataclass(frozen=True)
class Abstention:
    """What a run's label sets say and whom they cover.

    Args:
        name: The run's.
        alpha, exact: Of ``LabelSets``.
        tasks: Task → all samples, then by pattern; () where few have or lack the event.
        judged: Which samples, in words.
        elsewhere: Whether they are another store's.
    """

    name: str
    alpha: float
    exact: bool
    tasks: dict[str, tuple[SetRow, ...]]
    judged: str
    elsewhere: bool


def abstain(
    run: Run,
    sets: LabelSets = LabelSets(),  # noqa: B008
    *,
    on: Path | None = None,
    store: Path | None = None,
    beside: Sequence[Run] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Abstention:
    """Label sets of a run's test patients, or of another store's, from its risks before the rectifier: thresholds by
    pattern do what offsets by pattern would.

    Args:
        store: Where the run's store lies now, if it has moved since.
        beside: As in ``scored_predictions``.

    Raises:
        StoreError: A run without risks out of fold, or without a test fold.
        LeakageError, SchemaError: See ``scored_predictions``.
    """
    calibration = run.calibration()
    if calibration is None:
        fact = "none: a single fit that needed none"
        raise StoreError(f"run '{run.name}'", "risks out of fold", fact, "train it without fit=single")
    if on is None and run.test.provenance.get("validation") == OUT_OF_FOLD:
        fact = "none: its risks out of fold are all that it is judged by"
        raise StoreError(f"run '{run.name}'", "a test fold", fact, "train one with a test fold, or add --on")
    scored = scored_predictions(run, on, store, beside)[0]
    found = set_rows(sets.fit(calibration), scored, resamples=resamples, seed=seed)
    where = run.judged if on is None else "samples of another store"
    return Abstention(run.name, sets.alpha, sets.exact, found, f"{counted(len(scored))} {where}", on is not None)
