"""The risk that knows which modalities are there, the one that does not, and what lies between and beyond: the ω-tilt.

    p_ω = σ(l₀ + ω (l_δ − l₀))          l₀, l_δ: logits of the δ-blind and of the δ-aware risk

ω = 1 is the aware risk: the pattern δ means what it meant where the run was trained. At 0 it means nothing, below 0 the
reverse. In an exclusive panel the same mixture is ``p_ω ∝ p₀^(1−ω) p_δ^ω`` over its outcomes, which again sum to 1.

Which ω holds elsewhere is not identified by any data of the first site: it fits (x, δ, y) as well if modalities are
ordered for who will have the outcome (selection, which another policy undoes) as if being measured changes the outcome
(a direct effect, which stays). ω is therefore shown as a band. ρ of ``evaluation.shift``, which needs no outcome, says
how much of the selection is left in another store; it is the ω to take if all of the pattern's meaning is selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from mmnar.evaluation.compare import same_sample
from mmnar.evaluation.evaluate import is_coarse
from mmnar.evaluation.intervals import Resampling, interval, point
from mmnar.evaluation.metrics import Auroc, FoldMean, Mean, Metric, log_loss_metric
from mmnar.evaluation.result import COARSE, Estimate, decimals
from mmnar.evaluation.scored import Scored, score
from mmnar.evaluation.shift import Shift
from mmnar.evaluation.thresholds import Thresholds
from mmnar.ops.threads import one_thread
from mmnar.predictions import Predictions, commonly_asked
from mmnar.privacy import FEW, FEW_OUTCOMES, SMALL_CELL, few
from mmnar.roles import Test
from mmnar.schema import exclusive_columns

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

OMEGAS: Final = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
CLIP: Final = 1e-12
"""Keeps the logits of 0 and 1 finite."""
WIDEST: Final = 0.9
LEAST: Final = 100
"""A tenth of fewer patients would be fewer than ten."""
FEW_FLIPS: Final = f"withheld: {FEW} change sides between it and another ω that is shown, or all but so few do"


@dataclass(frozen=True)
class TiltPoint:
    """A task at one ω; what is refused says why.

    Args:
        moved: Mean |p_ω − p_1|.
        flips: (threshold, share of samples whose risk is on the other side of it than at ω = 1).
        auroc, log_loss: On the outcomes of the samples judged.
        auroc_change, log_loss_change: Less those at ω = 1, paired.
    """

    omega: float
    moved: Estimate
    flips: tuple[tuple[float, Estimate], ...]
    auroc: Estimate
    log_loss: Estimate
    auroc_change: Estimate
    log_loss_change: Estimate


@dataclass(frozen=True)
class TaskTilt:
    """A task over ω.

    Args:
        points: Rising in ω.
        band: Mean over samples of the largest less the least risk over ω.
        widest: What that difference exceeds in a tenth of the samples.
        main, source: The threshold that matters most, and where thresholds are from.
    """

    points: tuple[TiltPoint, ...]
    band: Estimate
    widest: Estimate
    main: float
    source: str


@dataclass(frozen=True)
class Advice:
    """Which ω another store's ordering speaks for, by ``shift`` alone.

    Args:
        omega: Within the band; None where it cannot be told.
        rho, rho_source: Of the second store and of the first.
        shown: Whether a change of selection survives correction; without, ω stays 1.
        reason: Why there is no ω; "" where there is one.
    """

    omega: float | None
    rho: Estimate
    rho_source: Estimate
    shown: bool
    reason: str = ""


def advised(shift: Shift) -> Advice:
    """ω = ρ of the second store over the first store's own, kept within the band; 1 where no change was shown.

    The first store's own ρ is below 1 by what a regression is too sure of; the second's is so by as much.
    """
    shown = "selection" in shift.shown
    rho, own = shift.rho.value, shift.rho_source.value
    if rho is None or own is None or own <= 0:
        why = shift.rho.reason or shift.rho_source.reason or "the first store's own selection is not seen"
        return Advice(None, shift.rho, shift.rho_source, False, why)
    omega = round(float(np.clip(rho / own, OMEGAS[0], OMEGAS[-1])), COARSE) if shown else 1.0
    return Advice(omega, shift.rho, shift.rho_source, shown)


def tilted(blind: Float, aware: Float, omega: float, exclusive: Sequence[Sequence[int]] = ()) -> Float:
    """(N, K) p_ω of (N, K) blind and aware risks.

    Args:
        exclusive: Columns of each exclusive panel.

    >>> tilted(np.array([[.2]]), np.array([[.5]]), .5).round(4).tolist()
    [[0.3333]]
    """
    if omega == 1:
        return aware
    b, a = (np.clip(p, CLIP, 1 - CLIP) for p in (blind, aware))
    risks = np.asarray(expit(logit(b) + omega * (logit(a) - logit(b))))
    for columns in map(list, exclusive):
        risks[:, columns] = softmax((1 - omega) * np.log(b[:, columns]) + omega * np.log(a[:, columns]), axis=1)
    return risks


@one_thread
def tilts(
    aware: Predictions[Test],
    blind: Predictions[Test],
    thresholds: dict[str, Thresholds],
    *,
    also: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, TaskTilt]:
    """Task → its tilt.

    Args:
        aware, blind: Risks of the same samples, by what knows the pattern and by what does not.
        thresholds: Of each task, said before these samples were looked at.
        also: A further ω to show, within the band.
        resamples, seed: Of the patients.

    Raises:
        SchemaError: Other samples.
    """
    aware, blind = commonly_asked([aware, blind])
    same_sample(aware, blind)
    omegas = sorted({*OMEGAS, *([] if also is None else [also])})
    exclusive = exclusive_columns(aware.panels, aware.tasks)
    risks = [tilted(blind.proba, aware.proba, omega, exclusive) for omega in omegas]
    resampling = Resampling.draw(aware.subject_id, resamples, seed)
    found = {}
    for k, task in enumerate(aware.tasks):
        p = np.stack([of[:, k] for of in risks])  # (Ω, N)
        found[task] = _task(aware, score(aware, task, resampling), omegas, p, thresholds[task], resampling)
    return found


def _task(
    aware: Predictions[Any],
    scored: Scored,
    omegas: Sequence[float],
    p: Float,
    thresholds: Thresholds,
    resampling: Resampling,
) -> TaskTilt:
    rows, subject = scored.rows, resampling.subject[scored.rows]
    p, patients = p[:, rows], len(np.unique(subject))
    refused = FEW if patients < SMALL_CELL else scored.refused
    if refused:
        none = Estimate(None, reason=FEW_OUTCOMES if refused != FEW else FEW)
        flips = tuple((t, none) for t in thresholds.stated)
        empty = tuple(TiltPoint(omega, none, flips, none, none, none, none) for omega in omegas)
        return TaskTilt(empty, none, none, thresholds.main, thresholds.source)
    flips_at = {t: _flips(p >= t, rows, subject, resampling) for t in thresholds.stated}
    coarse = is_coarse(aware, scored)
    kinds = {"auroc": Auroc, "log_loss": log_loss_metric}
    draws = {
        name: [_drawn(FoldMean(kind, scored.fold, scored.y, of), rows, resampling) for of in p]
        for name, kind in kinds.items()
    }
    points = []
    for i, omega in enumerate(omegas):
        of: dict[str, Estimate] = {}
        for name, values in draws.items():
            digits = decimals(name, coarse)
            (value, drawn), (last, drawn_last) = values[i], values[-1]
            of[name] = interval(value, drawn, "a fold lacks events or non-events").rounded(digits)
            of[f"{name}_change"] = interval(value - last, drawn - drawn_last, "the same").rounded(digits)
        flips = tuple((t, found[i]) for t, found in flips_at.items())
        points.append(TiltPoint(omega, _mean(np.abs(p[i] - p[-1]), rows, resampling), flips, **of))
    width = p.max(axis=0) - p.min(axis=0)
    widest = Estimate(None, reason=f"fewer than {LEAST} patients")
    if patients >= LEAST:
        widest = Estimate(round(float(np.quantile(width, WIDEST)), COARSE))
    return TaskTilt(tuple(points), _mean(width, rows, resampling), widest, thresholds.main, thresholds.source)


def _drawn(metric: Metric, rows: Int, resampling: Resampling) -> tuple[float, Float]:
    return point(metric, len(rows)), resampling.values(metric, rows)


def _mean(values: Float, rows: Int, resampling: Resampling) -> Estimate:
    return interval(*_drawn(Mean(values), rows, resampling), "").rounded(COARSE + 1)


def _flips(above: Bool, rows: Int, subject: Int, resampling: Resampling) -> list[Estimate]:
    """Of each ω, the share on the other side of a threshold than at the last ω, which is 1.

    Who has changed sides at one ω has at every one farther from 1: shown shares differ by nobody or by ten patients.

    Args:
        above: (Ω, n).
    """
    found: list[Estimate] = []
    shown = np.zeros(above.shape[1], dtype=bool)
    for side in above[::-1]:
        changed = side != above[-1]
        if few(_patients(subject, changed ^ shown)) or few(_patients(subject, ~changed)):
            found.append(Estimate(None, reason=FEW_FLIPS))
            continue
        shown = changed
        share = interval(*_drawn(Mean(changed.astype(np.float64)), rows, resampling), "")
        found.append(share.rounded(COARSE))
    return found[::-1]


def _patients(subject: Int, of: Bool) -> int:
    return len(np.unique(subject[of]))
