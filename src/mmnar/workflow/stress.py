"""What a run keeps as modalities go missing: its model again, on its test patients, with more and more hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mmnar.config import HideConfig, RowsConfig, RunConfig, override
from mmnar.dataset.regimes import settled
from mmnar.dataset.store import PatientDataset
from mmnar.errors import ConfigError, StoreError
from mmnar.evaluation.compare import compare
from mmnar.evaluation.evaluate import is_coarse, judged
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.result import Estimate, decimals
from mmnar.evaluation.scored import Scored
from mmnar.predictions import OUT_OF_FOLD, Predictions
from mmnar.progress import say
from mmnar.roles import Test
from mmnar.workflow.judge import store_of
from mmnar.workflow.run import Run

SHARES: Final = (0.2, 0.4, 0.6, 0.8)
SHOWN: Final = ("auroc", "brier")


@dataclass(frozen=True)
class Stressed:
    """A task where one modality is hidden from a share of the test patients who have it.

    Args:
        metrics: auroc and brier then.
        change: Less those of nothing hidden, the same patients.
    """

    task: str
    modality: str
    share: float
    metrics: dict[str, Estimate]
    change: dict[str, Estimate]


@dataclass(frozen=True)
class Stress:
    """A run under stress.

    Args:
        name: The run's, ``+rectifier`` where its risks are corrected.
        which: In words, who loses a modality first.
        whole: task → metrics with nothing hidden.
        rows: Every task, modality and share.
        samples: Of the test fold.
    """

    name: str
    which: str
    whole: dict[str, dict[str, Estimate]]
    rows: tuple[Stressed, ...]
    samples: int


def stress(
    run: Run,
    *,
    modalities: Sequence[str] = (),
    shares: Sequence[float] = SHARES,
    how: HideConfig = HideConfig(),  # noqa: B008
    store: Path | None = None,
    resamples: int = 1000,
) -> Stress:
    """Hide each modality from growing shares of the test patients, and judge the run's risks again.

    Args:
        modalities: Which; none = all that somebody in the test fold has and somebody lacks.
        shares: Of the patients who have it; who is hidden at one is hidden at every larger one.
        how: Who loses it first (``which``, ``by``, ``first``, ``law``, ``seed``); its modality and share are not read.
        store: Where the run's store lies now, if it has moved since.

    Raises:
        ConfigError: No share, one outside 0 … 1, a modality that the run is not given; see ``dataset.regimes.settled``.
        StoreError: A run without a test fold, or whose store is gone or changed.
    """
    if run.test.provenance.get("validation") == OUT_OF_FOLD:
        raise StoreError(
            f"run '{run.name}'", "a test fold", "none: its model has seen everybody", "train one with a test fold"
        )
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigError("shares", "one or more above 0, up to 1", str(tuple(shares)), "correct them")
    data = run.regime.laid_over(store_of(run, store), run.split)
    names = tuple(modalities) or _sometimes_absent(run, data)
    for name in names:
        if run.modalities and name not in run.modalities:
            known = ", ".join(run.modalities)
            raise ConfigError(f"modality '{name}'", f"one that the run is given ({known})", "another", "choose one")
    config = replace(override(RunConfig(), run.record["config"]), rows=RowsConfig())
    plans = []
    for name in names:  # every mistake shows before the first risk is computed
        for share in shares:
            asked = replace(config, hide=replace(how, modality=name, share=share, where="test"))
            plans.append((name, share, settled(asked, data)[1]))
    said = _Said(run)
    before = said.risks(data)
    resampling = Resampling.draw(before.subject_id, resamples, 0)
    whole = _scores(before, resampling)
    rows: list[Stressed] = []
    for name, share, regime in plans:
        say(f"{run.name}: '{name}' hidden from {share:g} of those who have it")
        after = said.risks(regime.laid_over(data, run.split))
        scores = _scores(after, resampling)
        rows += [_row(task, name, share, scores[task], whole[task], before, resampling) for task in scores]
    return Stress(
        said.name,
        _words(how),
        {task: _shown(of.metrics, before, of) for task, of in whole.items()},
        tuple(rows),
        len(before),
    )


class _Said:
    """What a run says of its test patients: after Platt's line and the rectifier, where it has them."""

    def __init__(self, run: Run) -> None:
        self.run, self.predictor = run, run.predictor()
        self.line, self.rectifier = run.platt(), run.rectifier()
        self.name = run.name if self.rectifier is None else f"{run.name}+rectifier"

    def risks(self, data: PatientDataset) -> Predictions[Test]:
        fold = data.with_modalities(self.run.modalities).fold(self.run.split, "test")
        scored = self.predictor.predict(fold)
        scored = scored if self.line is None else self.line.apply(scored)
        scored = scored if self.rectifier is None else self.rectifier.apply(scored)
        return replace(scored, bayes=None)


def _sometimes_absent(run: Run, data: PatientDataset) -> tuple[str, ...]:
    fold = data.with_modalities(run.modalities).fold(run.split, "test")
    had = fold.present.mean(axis=0)
    names = tuple(name for name, share in zip(fold.schema.modality_names, had, strict=True) if 0 < share < 1)
    if not names:
        fact = "every one is there for all, or for none"
        raise ConfigError("modalities", "one that some test patients have and others lack", fact, "name one")
    return names


def _scores(predictions: Predictions[Test], resampling: Resampling) -> dict[str, Scored]:
    return {task: judged(predictions, task, resampling) for task in predictions.tasks}


def _row(
    task: str,
    modality: str,
    share: float,
    scored: Scored,
    whole: Scored,
    predictions: Predictions[Test],
    resampling: Resampling,
) -> Stressed:
    found = {c.metric: c.difference for c in compare(scored, whole, resampling, 0)}
    change = _rounded({name: found[name] for name in SHOWN}, predictions, scored)
    return Stressed(task, modality, share, _shown(scored.metrics, predictions, scored), change)


def _shown(metrics: Mapping[str, Estimate], predictions: Predictions[Any], scored: Scored) -> dict[str, Estimate]:
    return _rounded({name: metrics[name] for name in SHOWN}, predictions, scored)


def _rounded(of: Mapping[str, Estimate], predictions: Predictions[Any], scored: Scored) -> dict[str, Estimate]:
    """With the digits that may be shown."""
    coarse = is_coarse(predictions, scored)
    return {name: estimate.rounded(decimals(name, coarse)) for name, estimate in of.items()}


def _words(how: HideConfig) -> str:
    if how.which == "severity":
        return f"those with the {', '.join(how.first)} {how.by} first"
    if how.which == "law":
        return "those first whom the other site leaves without it"
    return "anybody first, by chance"
