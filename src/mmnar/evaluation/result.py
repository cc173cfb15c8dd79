"""Result: every number of a report, with its interval or the reason it is refused. Plain data, JSON both ways.

``disclosed`` gives a number the digits that may leave the house: fifteen digits of a mean over n patients tell n and
the sum, so that counts that no table shows could be computed. What is saved or shown is disclosed first.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmnar.predictions import ELSEWHERE, OUT_OF_FOLD, OUTSIDE
from mmnar.schema import gathered, panels_from
from mmnar.shown import Shown, names, table_html

if TYPE_CHECKING:
    from mmnar.evaluation.decided import Decided, TaskDecisions

DIGITS: Final = 4
"""Decimals of a metric that is saved or shown."""
COARSE: Final = 2
"""Decimals of a rank metric where it would tell how few events are spread over groups: see ``ModelTask.coarse``."""
RANKING: Final = ("auroc", "auprc", "auroc_within_pattern", "auroc_between_pattern", "auroc_gap_to_bayes")
PAIR_SHARE: Final = "pattern_pair_share"
"""Always coarse: it is the sum over patterns of events times non-events."""
EXACT_RISKS: Final = ("kl_to_bayes", "brier_to_bayes")
"""Of simulated patients alone, and small."""


@dataclass(frozen=True)
class Estimate:
    """A number with a 95 % interval, or the reason there is none.

    ``value``, ``low``, ``high`` are None where refused; ``reason`` is "" otherwise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"an Estimate must be finite or refused with a reason, however: value={self.value}")
        if self.value is None and not self.reason:
            raise ValueError("a refused Estimate needs a reason")

    def rounded(self, digits: int) -> Estimate:
        """With so many decimals."""
        value, low, high = (None if v is None else round(v, digits) for v in (self.value, self.low, self.high))
        return Estimate(value, low, high, self.reason)


@dataclass(frozen=True)
class Comparison:
    """Paired comparison on the same patients: ``difference`` = model − control, higher = more."""

    task: str
    metric: str
    model: str
    control: str
    difference: Estimate
    p: float | None
    p_holm: float | None

    def disclosed(self, coarse: bool) -> Comparison:
        """With the digits that may be shown; ``coarse``: of one of the two models the metric is."""
        return replace(self, difference=self.difference.rounded(decimals(self.metric, coarse)))


@dataclass(frozen=True)
class GroupRow:
    """One observation pattern or subgroup, or several that share a row.

    A row of fewer than SMALL_CELL patients with or without the event has no figures; ``observed_rate.reason`` says why.
    ``n`` and ``events`` alone are None where they would tell of how few patients the outcome is not known.
    """

    group: str
    n: int | None
    events: int | None
    observed_rate: Estimate
    mean_risk: Estimate
    auroc: Estimate
    calibration_bias: Estimate

    def disclosed(self, coarse: bool) -> GroupRow:
        """With the digits that may be shown."""
        return replace(
            self,
            observed_rate=self.observed_rate.rounded(DIGITS),
            mean_risk=self.mean_risk.rounded(DIGITS),
            auroc=self.auroc.rounded(COARSE if coarse else DIGITS),
            calibration_bias=self.calibration_bias.rounded(DIGITS),
        )


@dataclass(frozen=True)
class Curve:
    """Points of a plot, e.g. ROC (x = false positive rate, y = true positive rate)."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def rounded(self, digits: int) -> Curve:
        """With so many decimals."""
        return Curve(*(tuple(round(v, digits) for v in of) for of in (self.x, self.y, self.low, self.high)))


@dataclass(frozen=True)
class OracleBound:
    """How much AUROC the exact population pattern correction could give, and what we report.

    ``alarm`` is true where the reported gain exceeds the bound by three standard errors: look for a leak.
    """

    bound: Estimate
    reported_gain: float | None
    alarm: bool
    words: str


@dataclass(frozen=True)
class ModelTask:
    """One model on one task.

    ``coarse``: the risk is a name of the patient's group (a control that sees the pattern alone), or fewer than ten
    patients have the event or lack it. Rank metrics are then rational numbers of a few small counts.
    """

    metrics: dict[str, Estimate]
    patterns: tuple[GroupRow, ...] = ()
    subgroups: dict[str, tuple[GroupRow, ...]] = field(default_factory=dict)
    roc: Curve | None = None
    pr: Curve | None = None
    calibration: Curve | None = None
    oracle: OracleBound | None = None
    coarse: bool = False
    decided: Decided | None = None

    def disclosed(self) -> ModelTask:
        """With the digits that may be shown."""
        oracle, few_unasked = self.oracle, self.decided is not None and self.decided.coarse
        if oracle is not None:
            digits = decimals("auroc", self.coarse)
            gain = None if oracle.reported_gain is None else round(oracle.reported_gain, digits)
            oracle = replace(oracle, bound=oracle.bound.rounded(digits), reported_gain=gain)
        # corners are shares of all with, or without the event: of many decimals only one number of either fits
        curves = [of and of.rounded(COARSE if few_unasked else DIGITS) for of in (self.roc, self.pr, self.calibration)]
        return replace(
            self,
            metrics=disclosed_metrics(self.metrics, self.coarse),
            patterns=tuple(row.disclosed(self.coarse) for row in self.patterns),
            subgroups={name: tuple(r.disclosed(self.coarse) for r in rows) for name, rows in self.subgroups.items()},
            roc=curves[0],
            pr=curves[1],
            calibration=curves[2],
            oracle=oracle,
            decided=None if self.decided is None else self.decided.disclosed(self.coarse),
        )


@dataclass(frozen=True)
class PanelModel:
    """One model on one panel of outcomes; see ``evaluation.panels``.

    Args:
        metrics: Name → value; ``macro_…`` are means over outcomes.
        counted: Outcomes that enter the means of ranking metrics.
        left_out: Outcome → why it does not.
        coarse: A rank metric of one of its outcomes is, see ``ModelTask.coarse``.
        few: Fewer than ten patients are on one side of a decision, so that its metrics have two decimals.
    """

    metrics: dict[str, Estimate]
    counted: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    coarse: bool = False
    few: bool = False

    def digits(self, metric: str) -> int:
        """Decimals of a metric that may be shown."""
        return COARSE if (self.coarse if metric in ("macro_auroc", "macro_auprc") else self.few) else DIGITS

    def disclosed(self) -> PanelModel:
        """With the digits that may be shown."""
        return replace(self, metrics={name: of.rounded(self.digits(name)) for name, of in self.metrics.items()})


@dataclass(frozen=True)
class TaskCounts:
    """Whom the task was asked of in the test fold.

    ``events`` is None where fewer than ten patients have it, or lack it; ``n`` and ``subjects`` where it was asked of
    fewer than ten, or of all but fewer than ten; ``reason`` says which, "" where all are given.
    """

    n: int | None
    events: int | None
    subjects: int | None
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """Everything evaluated: ``tasks[task][model]``.

    ``metrics`` names: auroc, auprc, brier, log_loss, ece, auroc_within_pattern, auroc_between_pattern,
    pattern_pair_share, and for simulated data auroc_gap_to_bayes, kl_to_bayes, brier_to_bayes.
    A rectified model appears as ``<model>+rectifier``. Tasks of a panel of several are compared as a panel alone.
    What a model's risks are worth at thresholds is in ``ModelTask.decided``.

    Args:
        panels: panel → model → numbers, of panels in ``provenance["panels"]``.
        panel_comparisons: ``task`` is the panel's name; corrected over models and panels for each metric.
        decisions: task → its thresholds, and what needs no model.
    """

    tasks: dict[str, dict[str, ModelTask]]
    counts: dict[str, TaskCounts]
    comparisons: tuple[Comparison, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    panels: dict[str, dict[str, PanelModel]] = field(default_factory=dict)
    panel_comparisons: tuple[Comparison, ...] = ()
    decisions: dict[str, TaskDecisions] = field(default_factory=dict)

    def _facts(self) -> dict[str, str]:
        models = list(next(iter(self.tasks.values()), {}))
        how = "out of fold" if self.out_of_fold else "another store" if self.elsewhere else "the test fold"
        return {"models": names(models), "tasks": names(list(self.tasks)), "judged on": how}

    def _repr_html_(self) -> str:
        """A row for each task and model, with the digits that may be shown."""
        rows = [
            (task, name, *(_in_words(of.metrics.get(metric), digits) for metric, digits in _GLANCED.items()))
            for task, models in self.disclosed().tasks.items()
            for name, of in models.items()
        ]
        title = "Result: 95 % intervals, judged on " + self._facts()["judged on"]
        return table_html(title, rows, ("Task", "Model", *_GLANCED))

    @property
    def gathered(self) -> dict[str, tuple[str, ...]]:
        """Panels of several tasks, which are shown as one."""
        return gathered(panels_from(self.provenance.get("panels", ())))

    @property
    def out_of_fold(self) -> bool:
        """Whether there was no test fold: what is judged are risks of each patient by the fit that never saw them."""
        return self._validated(OUT_OF_FOLD)

    @property
    def elsewhere(self) -> bool:
        """Whether the patients judged are another store's."""
        return self._validated(ELSEWHERE)

    @property
    def outside(self) -> list[str]:
        """Names of risks that were made elsewhere."""
        return [name for name, of in self.provenance.get("models", {}).items() if of.get("origin") == OUTSIDE]

    def _validated(self, how: str) -> bool:
        return any(of.get("validation") == how for of in self.provenance.get("models", {}).values())

    def disclosed(self) -> Result:
        """The digits that may be saved or shown."""
        coarse = {(task, name) for task, models in self.tasks.items() for name, of in models.items() if of.coarse}
        return replace(
            self,
            tasks={task: {name: of.disclosed() for name, of in models.items()} for task, models in self.tasks.items()},
            comparisons=tuple(
                c.disclosed(bool({(c.task, c.model), (c.task, c.control)} & coarse)) for c in self.comparisons
            ),
            panels={name: {m: of.disclosed() for m, of in models.items()} for name, models in self.panels.items()},
            panel_comparisons=tuple(disclosed_of_panel(c, self.panels) for c in self.panel_comparisons),
            decisions={task: of.disclosed() for task, of in self.decisions.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON with ``tasks.<task>.<model>.<metric> = {value, low, high}``; everything else under ``details``. Numbers
        have the digits that may be shown (``disclosed``).
        """
        return self.disclosed()._plain()

    def _plain(self) -> dict[str, Any]:
        return {
            "tasks": {
                task: {model: {name: asdict(e) for name, e in entry.metrics.items()} for model, entry in models.items()}
                for task, models in self.tasks.items()
            },
            "counts": {t: asdict(c) for t, c in self.counts.items()},
            "comparisons": [asdict(c) for c in self.comparisons],
            "panels": {name: {m: asdict(of) for m, of in models.items()} for name, models in self.panels.items()},
            "panel_comparisons": [asdict(c) for c in self.panel_comparisons],
            "decisions": {task: asdict(of) for task, of in self.decisions.items()},
            "details": {
                task: {
                    model: {k: v for k, v in asdict(entry).items() if k != "metrics"} for model, entry in models.items()
                }
                for task, models in self.tasks.items()
            },
            "provenance": self.provenance,
        }

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")


_GLANCED: Final = {"auroc": 2, "auprc": 2, "brier": 3, "ece": 3}
"""Metric → decimals, where a result is looked at in a notebook."""


def _in_words(of: Estimate | None, digits: int) -> str:
    if of is None or of.value is None:
        return "" if of is None else of.reason
    between = "" if of.low is None or of.high is None else f" ({of.low:.{digits}f} to {of.high:.{digits}f})"
    return f"{of.value:.{digits}f}{between}"


def decimals(metric: str, coarse: bool) -> int:
    """How many decimals of a metric may be shown.

    >>> decimals("auroc", False), decimals("auroc", True), decimals("brier", True), decimals(PAIR_SHARE, False)
    (4, 2, 4, 2)
    """
    if metric in EXACT_RISKS:
        return DIGITS + 2
    return COARSE if metric == PAIR_SHARE or (coarse and metric in RANKING) else DIGITS


def disclosed_of_panel(comparison: Comparison, panels: dict[str, dict[str, PanelModel]]) -> Comparison:
    """With the digits that both models' metric may have."""
    models = panels[comparison.task]
    digits = min(models[name].digits(comparison.metric) for name in (comparison.model, comparison.control))
    return replace(comparison, difference=comparison.difference.rounded(digits))


def disclosed_metrics(metrics: dict[str, Estimate], coarse: bool) -> dict[str, Estimate]:
    """Metrics with the digits that may be shown."""
    return {name: of.rounded(decimals(name, coarse)) for name, of in metrics.items()}
