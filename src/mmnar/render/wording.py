"""How numbers, metrics and verdicts are worded. Intervals read "0.83 (0.80 to 0.86)"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mmnar.evaluation.result import Comparison, Estimate, GroupRow, TaskCounts
from mmnar.privacy import FEW, SMALL_CELL, counted

ALPHA: Final = 0.05
UNFOLDED: Final = 6
"""Tasks of which each is told at once; more are folded."""
RECTIFIED: Final = "+rectifier"


@dataclass(frozen=True)
class MetricText:
    """How a metric is shown: heading, decimals, which direction is good, one line of meaning."""

    label: str
    digits: int
    better: Literal["higher", "lower", ""]
    meaning: str


METRICS: Final[dict[str, MetricText]] = {
    "auroc": MetricText(
        "AUROC",
        2,
        "higher",
        "Chance that a patient with the outcome gets a higher risk than one without. 0.5 is a coin.",
    ),
    "auprc": MetricText("AUPRC", 2, "higher", "Average precision. A model that knows nothing scores the outcome rate."),
    "brier": MetricText("Brier", 3, "lower", "Mean squared distance between risk and outcome."),
    "log_loss": MetricText("Log loss", 3, "lower", "Mean surprise at the outcome; punishes confident errors."),
    "ece": MetricText("ECE", 3, "lower", "Average distance between predicted risk and observed rate over risk groups."),
    "auroc_within_pattern": MetricText(
        "AUROC within patterns", 2, "higher", "Pairs of patients who have the same modalities."
    ),
    "auroc_between_pattern": MetricText(
        "AUROC between patterns", 2, "higher", "Pairs of patients who have different modalities."
    ),
    "pattern_pair_share": MetricText(
        "Pairs within a pattern", 2, "", "Share of all patient pairs that have the same modalities."
    ),
    "auroc_gap_to_bayes": MetricText("AUROC gap", 3, "lower", "AUROC of the exact Bayes risk minus the model's."),
    "brier_to_bayes": MetricText("Brier excess", 4, "lower", "Mean squared difference from the exact Bayes risk."),
    "macro_auroc": MetricText("Mean AUROC", 2, "higher", "AUROC, averaged over the outcomes of a panel."),
    "macro_auprc": MetricText("Mean AUPRC", 2, "higher", "AUPRC, averaged over the outcomes of a panel."),
    "macro_f1@.5": MetricText(
        "Mean F1 at .5", 2, "higher", "F1 of deciding for an outcome from a risk of .5, averaged over outcomes."
    ),
    "macro_precision@.5": MetricText(
        "Mean precision at .5", 2, "higher", "Of whom an outcome was decided from .5, the share that had it; averaged."
    ),
    "macro_recall@.5": MetricText(
        "Mean recall at .5", 2, "higher", "Of whom had an outcome, the share decided for from .5; averaged."
    ),
    "macro_specificity@.5": MetricText(
        "Mean specificity at .5", 2, "higher", "Of whom had not an outcome, the share not decided for; averaged."
    ),
    "macro_accuracy@.5": MetricText(
        "Mean accuracy at .5", 2, "higher", "Share decided rightly from a risk of .5, averaged over outcomes."
    ),
    "accuracy": MetricText("Accuracy", 2, "higher", "Share whose outcome is the one with the highest risk."),
    "macro_f1": MetricText("Macro F1", 2, "higher", "F1 of deciding for the highest risk, averaged over outcomes."),
    "kappa": MetricText("Kappa", 2, "higher", "Agreement of decision and outcome beyond chance (Cohen)."),
    "quadratic_kappa": MetricText(
        "Quadratic kappa", 2, "higher", "Kappa in which far misses, in the panel's order, cost more than near ones."
    ),
    "kl_to_bayes": MetricText("KL divergence", 4, "lower", "Mean divergence from the exact Bayes risk. 0 is perfect."),
}


def metric_text(name: str) -> MetricText:
    """How a metric is shown; an unknown one goes by its own name.

    >>> metric_text("auroc").label
    'AUROC'
    """
    return METRICS.get(name, MetricText(name, 3, "", ""))


def number(value: float, digits: int = 2) -> str:
    """A number with a real minus sign and no negative zero.

    >>> number(-0.0312), number(-0.001)
    ('−0.03', '0.00')
    """
    text = f"{value:,.{digits}f}"
    return text.replace("-", "") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def interval(estimate: Estimate, digits: int = 2) -> str:
    """Value with interval, or the reason there is none.

    >>> interval(Estimate(0.831, 0.799, 0.862))
    '0.83 (0.80 to 0.86)'
    >>> interval(Estimate(None, reason="one class only"))
    'one class only'
    """
    return _interval(estimate, digits, 1, "")


def percent(share: float, digits: int = 1) -> str:
    """A share in percent.

    >>> percent(0.0953)
    '9.5 %'
    """
    return f"{number(100 * share, digits)} %"


def threshold_text(risk: float) -> str:
    """A risk as the threshold of an alert, with as many digits as it has, four at most.

    >>> threshold_text(0.1), threshold_text(0.075), threshold_text(0.1234)
    ('10 %', '7.5 %', '12.34 %')
    """
    return f"{round(100 * risk, 2):g} %"


def per_100(share: Estimate) -> str:
    """A share as so many of 100, with its interval.

    >>> per_100(Estimate(0.0953, 0.08, 0.112))
    '9.5 (8.0 to 11.2)'
    """
    return _interval(share, 1, 100, "")


def percent_interval(estimate: Estimate, digits: int = 1) -> str:
    """A share with its interval in percent.

    >>> percent_interval(Estimate(0.0953, 0.08, 0.112))
    '9.5 % (8.0 to 11.2)'
    """
    return _interval(estimate, digits, 100, " %")


def _interval(estimate: Estimate, digits: int, scale: int, unit: str) -> str:
    if estimate.value is None:
        return estimate.reason
    value = number(scale * estimate.value, digits) + unit
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({number(scale * estimate.low, digits)} to {number(scale * estimate.high, digits)})"


def count(n: int | None) -> str:
    """A count of patients or samples; small cells are never printed.

    >>> count(12345), count(None), count(3)
    ('12,345', '<10', '<10')
    """
    return f"<{SMALL_CELL}" if n is None or n < SMALL_CELL else f"{n:,}"


def asked(counts: TaskCounts) -> str:
    """How many samples of how many patients a task was asked of.

    >>> asked(TaskCounts(900, 70, 850)), asked(TaskCounts(None, None, None, "withheld"))
    ('900 samples of 850 patients', 'all but fewer than 10 patients')
    >>> asked(TaskCounts(None, None, None, FEW))
    '<10 samples of <10 patients'
    """
    if counts.n is None and counts.reason != FEW:
        return f"all but {counted(1)} patients"
    return f"{count(counts.n)} samples of {count(counts.subjects)} patients"


def events(n: int | None) -> str:
    """How many had the event; None where few had it or few did not, which of the two is not said.

    >>> events(120), events(None)
    ('120', 'withheld')
    """
    return "withheld" if n is None else count(n)


def group_count(n: int | None, group: GroupRow) -> str:
    """A count of one group: a number, "<10" for a small group, "withheld" where it would tell a small count."""
    return count(n) if n is not None or group.observed_rate.reason == FEW else "withheld"


def p_value(p: float | None) -> str:
    """A p value without false precision.

    >>> p_value(0.00004), p_value(0.0312), p_value(None)
    ('<0.001', '0.031', 'not tested')
    """
    if p is None:
        return "not tested"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def survives(comparison: Comparison) -> bool:
    """Whether the difference holds after Holm's correction, in either direction."""
    return comparison.p_holm is not None and comparison.p_holm < ALPHA


def favours_model(comparison: Comparison) -> bool:
    """Whether the difference points the model's way, significant or not."""
    value = comparison.difference.value
    if value is None:
        return False
    return value < 0 if metric_text(comparison.metric).better == "lower" else value > 0


def verdict(comparison: Comparison) -> str:
    """What may be said after correction for multiple comparisons.

    >>> verdict(Comparison("death", "auroc", "a", "b", Estimate(0.02, -0.01, 0.05), 0.2, 0.4))
    'no difference shown'
    """
    if comparison.difference.value is None or comparison.p_holm is None:
        return "not tested"
    if not survives(comparison):
        return "no difference shown"
    return f"{comparison.model if favours_model(comparison) else comparison.control} better"


def listed(names: Sequence[str]) -> str:
    """
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def some(count: int, what: str) -> str:
    """
    >>> some(1, "run"), some(1200, "run")
    ('1 run', '1,200 runs')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
