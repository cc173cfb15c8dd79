"""Two runs of one store, one that knows the pattern and one that does not, and the ω-tilt between their risks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmnar.dataset.store import open_store
from mmnar.errors import ConfigError, StoreError
from mmnar.evaluation.shift import shift
from mmnar.evaluation.tilt import Advice, TaskTilt, advised, tilts
from mmnar.predictions import OUT_OF_FOLD
from mmnar.privacy import counted
from mmnar.progress import say
from mmnar.workflow.judge import scored_predictions, store_of, thresholds_of
from mmnar.workflow.run import Run

BLIND_ONES: Final = (
    "crl-mmnar with model.pattern_input=blind, or logistic-, boosting- or lightgbm-pattern with "
    "model.append_pattern=false"
)


@dataclass(frozen=True)
class Tilt:
    """What the pattern's meaning is worth, and what becomes of decisions where it is another.

    Args:
        aware, blind: Names of the runs, ``+rectifier`` where the aware one's risks are corrected.
        tasks: Task → its tilt.
        judged: Which samples, in words.
        advice: Of another store; None on the runs' own.
    """

    aware: str
    blind: str
    tasks: dict[str, TaskTilt]
    judged: str
    advice: Advice | None = None


def tilt(
    run: Run,
    blind: Run,
    *,
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    seed: int = 0,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    advise: bool = True,
    beside: Sequence[Run] = (),
) -> Tilt:
    """The ω-tilt of two runs, on the samples they were judged on or on another store's.

    The aware run's risks are those after its rectifier, which is part of what it knows of the pattern; the blind one's
    are those before, or the pattern would come in again.

    Args:
        blind: A run on the same store, split and regime whose method cannot tell which modalities are there.
        on: Another store: its samples are judged, and ``Tilt.advice`` says what its ordering speaks for.
        store: Where the runs' store lies now, if it has moved since.
        thresholds: As in ``evaluate_runs``.
        advise: Whether to compare the stores; the runs' own must be there.
        beside: As in ``scored_predictions``.

    Raises:
        ConfigError: A "blind" run that can see the pattern, an aware one that cannot, or thresholds of no task.
        StoreError: Runs of different data, splits or regimes, or a store that is gone.
        LeakageError: See ``evaluate_runs``.
    """
    _refuse_sighted(run, blind)
    _refuse_unlike(run, blind)
    at = thresholds_of([run], thresholds or {}, out_of_fold_too=on is not None)
    advice = None
    if on is not None and advise:
        say("comparing who has which modality in the two stores")
        advice = advised(shift(store_of(run, store), open_store(on), seed=seed).disclosed())
    aware = scored_predictions(run, on, store, (blind, *beside))[-1]
    sightless = scored_predictions(blind, on, store, (run, *beside))[0]
    also = None if advice is None else advice.omega
    found = tilts(aware, sightless, at, also=also, resamples=resamples, seed=seed)
    where = run.judged if on is None else "samples of another store"
    return Tilt(str(aware.provenance["model"]), blind.name, found, f"{counted(len(aware))} {where}", advice)


def _refuse_sighted(run: Run, blind: Run) -> None:
    if not blind.predictor().blind:
        expected = f"a run that cannot tell which modalities are there ({BLIND_ONES})"
        fact = "one whose inputs tell: zeros, masks or columns of the pattern"
        raise ConfigError(f"--blind '{blind.folder.name}'", expected, fact, "train one on the same store and split")
    if run.predictor().blind:
        raise ConfigError(f"run '{run.folder.name}'", "one that knows the pattern", "a blind one", "name another")


def _refuse_unlike(run: Run, blind: Run) -> None:
    apart = unlike(run, blind)
    if apart:
        subject = f"runs '{run.folder.name}' and '{blind.folder.name}'"
        fact = f"another {' and another '.join(apart)}"
        raise StoreError(subject, "two runs of one store, split and regime", fact, "train the blind one alike")


def unlike(run: Run, blind: Run) -> list[str]:
    """In what two runs differ that a tilt needs alike."""
    mine, theirs = (
        {
            "store": of.record["data"],
            "split": of.record["config"]["split"],
            "regime": of.record.get("regime", {}),
            "modalities": of.test.modalities,
            "way of judging": of.test.provenance.get("validation") == OUT_OF_FOLD,
        }
        for of in (run, blind)
    )
    return [name for name in mine if mine[name] != theirs[name]]
