"""What risks are worth as decisions, as plain data: figures at thresholds, calibration, groups, and who is compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from mmnar.evaluation.result import COARSE, DIGITS, Curve, Estimate

EVALUATED: Final = "evaluated_per_event"
"""A number of patients, not a share: two decimals say as much as four of its inverse."""
EVERYONE: Final = "everyone"
NOBODY: Final = "nobody"
"""The two rules that need no model: alert everyone, alert nobody."""


@dataclass(frozen=True)
class Point:
    """One model with alerts for all whose risk is at or above a threshold.

    Args:
        threshold: In (0, 1).
        kind: "stated": of the table; "per 100": where so many of 100 patients got an alert out of fold; "curve": of
            the decision curve alone.
        per_100: How many, of the kind "per 100".
        figures: net_benefit; of tables also sensitivity, specificity, ppv, npv, alerts (share of all), missed (share
            of all who have the event and no alert), evaluated_per_event (alerts for one event found).
    """

    threshold: float
    kind: Literal["stated", "per 100", "curve"]
    per_100: int | None
    figures: dict[str, Estimate]

    def rounded(self, digits: int) -> Point:
        """With so many decimals, two of ``evaluated_per_event``."""
        least = {EVALUATED: min(digits, COARSE)}
        return replace(self, figures={k: e.rounded(least.get(k, digits)) for k, e in self.figures.items()})


@dataclass(frozen=True)
class Calibrated:
    """Whether risks mean what they say.

    Args:
        slope: Of outcomes on log odds of risk (logistic); below 1: risks are too extreme.
        intercept: Of the same with the slope held at 1; above 0: risks are too low.
        o_to_e: Observed events over the sum of risks.
        ici, e50, e90: Mean, median and 90 % quantile of the distance between a patient's risk and the smooth curve.
        smooth: That curve, with a 95 % band.
    """

    slope: Estimate
    intercept: Estimate
    o_to_e: Estimate
    ici: Estimate
    e50: Estimate
    e90: Estimate
    smooth: Curve | None = None

    def rounded(self, digits: int) -> Calibrated:
        """With so many decimals."""
        return replace(
            self,
            **{k: getattr(self, k).rounded(digits) for k in ("slope", "intercept", "o_to_e", "ici", "e50", "e90")},
            smooth=None if self.smooth is None else self.smooth.rounded(digits),
        )


@dataclass(frozen=True)
class RiskBin:
    """Patients whose risk is at least ``low`` and below ``high``, as shares of those with and of those without the
    event."""

    low: float
    high: float
    with_event: float
    without: float

    def rounded(self, digits: int) -> RiskBin:
        """With shares of so many decimals."""
        return replace(self, with_event=round(self.with_event, digits), without=round(self.without, digits))


@dataclass(frozen=True)
class Difference:
    """Net benefit of a model minus that of another, or of alerting everyone or nobody, on the same patients."""

    threshold: float
    model: str
    against: str
    difference: Estimate


@dataclass(frozen=True)
class RateRow:
    """One group of an attribute at a threshold.

    Args:
        rates: sensitivity (TPR), false_alarms (FPR), ppv, and calibration slope and o_to_e; refused where a small count
            would follow.
    """

    group: str
    rates: dict[str, Estimate]


@dataclass(frozen=True)
class Gap:
    """The group with the highest rate against the one with the lowest.

    Args:
        rate: sensitivity, false_alarms or ppv.
        difference: Of their rates; the two were picked for it, so it leans high.
        p: Of a permutation of the attribute across patients; None where it was not made.
        p_holm: Corrected for every rate and attribute of the model on the task.
    """

    rate: str
    highest: str
    lowest: str
    difference: Estimate
    p: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True)
class Fairness:
    """Rates by the values of one attribute at the main threshold; ``reason`` says why there are none."""

    threshold: float
    rows: tuple[RateRow, ...] = ()
    gaps: tuple[Gap, ...] = ()
    reason: str = ""

    def rounded(self, digits: int) -> Fairness:
        """With so many decimals."""
        return replace(
            self,
            rows=tuple(RateRow(r.group, {k: e.rounded(digits) for k, e in r.rates.items()}) for r in self.rows),
            gaps=tuple(replace(g, difference=g.difference.rounded(digits)) for g in self.gaps),
        )


@dataclass(frozen=True)
class Spread:
    """How far the risks of the fits behind a model lie apart, on the samples it was judged on.

    Args:
        fits: How many.
        mean, ninth: Mean and 90 % quantile over samples of the standard deviation of the fits' risks.
        divided: Share of samples that some fits would alert for, and others not, at the main threshold.
        otherwise: How often a fit decides otherwise than the model.
    """

    fits: int
    mean: Estimate
    ninth: Estimate
    divided: Estimate
    otherwise: Estimate

    def rounded(self, digits: int) -> Spread:
        """With so many decimals."""
        names = ("mean", "ninth", "divided", "otherwise")
        return replace(self, **{k: getattr(self, k).rounded(digits) for k in names})


@dataclass(frozen=True)
class Hidden:
    """What hiding one modality from a model changes; it says what the model leans on, nothing about the patients.

    Args:
        auroc: Of all samples, hidden less seen.
        moved: Mean distance between the two risks, of the samples that have the modality.
        flipped: Share of these whose alert at the main threshold changes.
    """

    modality: str
    auroc: Estimate
    moved: Estimate
    flipped: Estimate

    def rounded(self, digits: int, coarse: bool) -> Hidden:
        """With so many decimals; the AUROC, if ``coarse``, with two."""
        ranks = self.auroc.rounded(COARSE if coarse else digits)
        return replace(self, auroc=ranks, moved=self.moved.rounded(digits), flipped=self.flipped.rounded(digits))


@dataclass(frozen=True)
class Decided:
    """One model on one task: what its risks are worth as decisions.

    ``spread`` and ``hidden`` are of a report alone: they need the model again. ``reason`` says why there is nothing;
    ``coarse``: of how few patients the outcome is not known must not follow, so that all figures have two decimals.
    """

    points: tuple[Point, ...] = ()
    calibrated: Calibrated | None = None
    risks: tuple[RiskBin, ...] = ()
    fairness: dict[str, Fairness] = field(default_factory=dict)
    coarse: bool = False
    reason: str = ""
    spread: Spread | None = None
    hidden: tuple[Hidden, ...] = ()

    def disclosed(self, coarse_ranks: bool) -> Decided:
        """With the digits that may be shown; ``coarse_ranks``: see ``ModelTask.coarse``."""
        digits = COARSE if self.coarse else DIGITS
        return replace(
            self,
            points=tuple(p.rounded(digits) for p in self.points),
            calibrated=None if self.calibrated is None else self.calibrated.rounded(digits),
            risks=tuple(b.rounded(digits) for b in self.risks),
            fairness={name: of.rounded(digits) for name, of in self.fairness.items()},
            spread=None if self.spread is None else self.spread.rounded(digits),
            hidden=tuple(h.rounded(digits, coarse_ranks) for h in self.hidden),
        )


@dataclass(frozen=True)
class Enough:
    """How many samples would make something known that well, and how many there are."""

    what: str
    needed: int
    had: int

    @property
    def suffices(self) -> bool:
        return self.had >= self.needed


@dataclass(frozen=True)
class TaskDecisions:
    """A task's thresholds, what alerting everyone is worth at each, and paired differences of net benefit.

    Args:
        main: The threshold at which groups are judged.
        stated: Thresholds of the tables.
        source: Where the thresholds are from.
        everyone: (threshold, net benefit of alerting everyone); alerting nobody is worth 0.
        differences: At the stated thresholds.
        learned: Samples that were learned from and asked, to the nearest ten.
        enough: What the samples suffice for, at this outcome rate and the best model's AUROC.
        coefficients: Of a logistic regression that the samples learned from would carry; None where they are not known.
    """

    main: float
    stated: tuple[float, ...]
    source: str
    everyone: tuple[tuple[float, Estimate], ...] = ()
    differences: tuple[Difference, ...] = ()
    coarse: bool = False
    learned: int | None = None
    enough: tuple[Enough, ...] = ()
    coefficients: int | None = None

    def disclosed(self) -> TaskDecisions:
        """With the digits that may be shown."""
        digits = COARSE if self.coarse else DIGITS
        return replace(
            self,
            everyone=tuple((t, e.rounded(digits)) for t, e in self.everyone),
            differences=tuple(replace(d, difference=d.difference.rounded(digits)) for d in self.differences),
        )
