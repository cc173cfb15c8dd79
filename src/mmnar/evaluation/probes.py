"""How steady risks and alerts are: from fit to fit, and with one modality hidden.

Both need the model again, on the samples it was judged on. What is hidden says what the model leans on, not what would
happen if the modality were not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.evaluation.decided import Hidden, Spread
from mmnar.evaluation.intervals import Resampling, estimate
from mmnar.evaluation.metrics import METRICS, Difference, Mean
from mmnar.evaluation.result import Estimate
from mmnar.privacy import BY_GROUP, FEW_WITH, FEW_WITHOUT, SMALL_CELL, few

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

FLIPS: Final = f"withheld: fewer than {SMALL_CELL} patients are decided otherwise, or fewer than {SMALL_CELL} are not"


def spread(
    risks: Float, fits: Sequence[Float], rows: Int, threshold: float, resampling: Resampling, tied: bool = False
) -> Spread:
    """How far the risks of several fits lie apart, and how often they decide otherwise than their mean.

    Args:
        risks: (n,) of the model; ``fits``: (n,) of each fit behind it.
        rows: (n,) where the samples are among those ``resampling`` was drawn for.
        tied: The risk is the same for all of a group: who is decided otherwise are whole groups, which may be small.
    """
    every = np.stack(fits)
    apart = np.asarray(every.std(axis=0, ddof=1))
    alerts = every >= threshold
    otherwise = (alerts != (risks >= threshold)).mean(axis=0)
    divided = np.asarray(alerts.any(axis=0) & ~alerts.all(axis=0))
    refused = _flips_refused(resampling.subject[rows], divided, tied)
    return Spread(
        fits=len(fits),
        mean=_mean(apart, rows, resampling, ""),
        ninth=Estimate(float(np.quantile(apart, 0.9))),
        divided=_mean(divided.astype(np.float64), rows, resampling, refused),
        otherwise=_mean(otherwise, rows, resampling, refused),
    )


def hidden(
    modality: str,
    y: Float,
    risks: Float,
    without: Float,
    has: Bool,
    rows: Int,
    threshold: float,
    resampling: Resampling,
    tied: bool = False,
) -> Hidden:
    """What hiding one modality from a model changes.

    Args:
        y: (n,) outcomes; risks, without: (n,) with it and with it hidden; has: (n,) who has it.
        rows: (n,) where the samples are among those ``resampling`` was drawn for.
        tied: See ``spread``.
    """
    subject = resampling.subject[rows]
    if _few_sides(subject, has) or not has.any():
        none = Estimate(None, reason=FEW_WITH if few(len(np.unique(subject[has]))) or not has.any() else FEW_WITHOUT)
        return Hidden(modality, none, none, none)
    mine = np.flatnonzero(has)
    moved = np.abs(without - risks)[mine]
    flipped = np.asarray((without >= threshold) != (risks >= threshold))[mine]
    refused = _flips_refused(subject[mine], flipped, tied)
    auroc = Difference(METRICS["auroc"](y, without), METRICS["auroc"](y, risks))
    change, _ = estimate(auroc, rows, resampling, "only one outcome")
    return Hidden(
        modality,
        auroc=change,
        moved=_mean(moved, rows[mine], resampling, ""),
        flipped=_mean(flipped.astype(np.float64), rows[mine], resampling, refused),
    )


def _flips_refused(subject: Int, otherwise: Bool, tied: bool) -> str:
    return BY_GROUP if tied else FLIPS if _few_sides(subject, otherwise) else ""


def _few_sides(subject: Int, some: NDArray[Any]) -> bool:
    """Whether those rows, or the others, are of one to nine patients."""
    return any(few(len(np.unique(subject[side]))) for side in (some, ~some))


def _mean(values: NDArray[Any], rows: Int, resampling: Resampling, refused: str) -> Estimate:
    return Estimate(None, reason=refused) if refused else estimate(Mean(values), rows, resampling, "nobody")[0]
