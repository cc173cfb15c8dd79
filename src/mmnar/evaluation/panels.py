"""Metrics of a panel of outcomes, and paired tests that swap two models' risks patient by patient.

Macro metrics are means over a panel's outcomes. AUROC and AUPRC are those of the outcomes themselves, within folds and
averaged over folds. What depends on decisions is counted over all folds together; its name says where it decides:
``@.5`` is yes from a risk of .5. Of an exclusive panel the outcome with the highest risk is decided for, and metrics
without a word are of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mmnar.evaluation.intervals import BLOCK, Resampling, interval, point
from mmnar.evaluation.metrics import Auroc, AveragePrecision, FoldMean, Metric, ratio
from mmnar.evaluation.result import Comparison, Estimate, PanelModel
from mmnar.evaluation.scored import Scored
from mmnar.predictions import Predictions
from mmnar.privacy import FEW_OUTCOMES, SMALL_CELL, patients_by_group
from mmnar.schema import Panel

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

THRESHOLD: Final = 0.5
RANKING: Final = ("macro_auroc", "macro_auprc")
EXCLUSIVE: Final = ("accuracy", "macro_f1", "kappa", "quadratic_kappa")
"""Of the outcome with the highest risk."""
DECIDED: Final = ("macro_f1@.5", "macro_precision@.5", "macro_recall@.5", "macro_specificity@.5", "macro_accuracy@.5")
COMPARED: Final = {True: (*RANKING, *EXCLUSIVE), False: (*RANKING, "macro_f1@.5")}
"""What is tested, of an exclusive panel and of another."""
MANY: Final = 3
"""Where a decision has few patients on one side, numbers of fewer outcomes could be taken apart."""
LEAST: Final = 100
"""Patients of whom two decimals of a share leave several counts open."""
FEW_DECISIONS: Final = f"fewer than {SMALL_CELL} patients on one side of a decision"


class Decisions(Metric):
    """The mean over outcomes of a number made of weighted counts of decisions; outcomes that it is not defined for are
    left out of the mean.

    Args:
        y, yes, asked: (n, K) outcome, decision, whether it counts.
        number: (true positives, false positives, false negatives, true negatives) → their number, each (K, B).
    """

    def __init__(self, y: Bool, yes: Bool, asked: Bool, number: Callable[[Float, Float, Float, Float], Float]) -> None:
        cells = (y & yes, ~y & yes, y & ~yes, ~y & ~yes)
        self.cells = [(cell & asked).astype(np.float64).T for cell in cells]
        self.number = number

    def __call__(self, W: Float) -> Float:
        values = self.number(*(cell @ W for cell in self.cells))  # (K, B)
        known = np.isfinite(values)
        return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


class Confusion(Metric):
    """A number made of the weighted confusion matrix of C classes.

    Args:
        truth, decided: (n,) classes.
        number: (C, C, B) weight by true and decided class → (B,).
    """

    def __init__(self, truth: Int, decided: Int, classes: int, number: Callable[[Float], Float]) -> None:
        cell = truth * classes + decided
        self.member = (cell == np.arange(classes**2)[:, None]).astype(np.float64)  # (C², n)
        self.classes, self.number = classes, number

    def __call__(self, W: Float) -> Float:
        return self.number((self.member @ W).reshape(self.classes, self.classes, -1))


def f1(tp: Float, fp: Float, fn: Float, tn: Float) -> Float:
    """``2 TP / (2 TP + FP + FN)``; not defined where nobody has the outcome."""
    return np.where(tp + fn > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan)


def precision(tp: Float, fp: Float, fn: Float, tn: Float) -> Float:
    """``TP / (TP + FP)``, 0 where nobody is decided for."""
    return np.where(tp + fn > 0, np.nan_to_num(ratio(tp, tp + fp)), np.nan)


def recall(tp: Float, fp: Float, fn: Float, tn: Float) -> Float:
    """``TP / (TP + FN)``: sensitivity."""
    return ratio(tp, tp + fn)


def specificity(tp: Float, fp: Float, fn: Float, tn: Float) -> Float:
    """``TN / (TN + FP)``."""
    return ratio(tn, tn + fp)


def share_right(tp: Float, fp: Float, fn: Float, tn: Float) -> Float:
    """``(TP + TN) / all``."""
    return ratio(tp + tn, tp + fp + fn + tn)


def accuracy(matrix: Float) -> Float:
    """Share decided rightly."""
    return ratio(np.einsum("ccb->b", matrix), matrix.sum(axis=(0, 1)))


def macro_f1(matrix: Float) -> Float:
    """Mean over classes that are true or decided for of ``2 TP / (2 TP + FP + FN)``."""
    both = matrix.sum(axis=0) + matrix.sum(axis=1)  # (C, B)
    values = ratio(2 * np.einsum("ccb->cb", matrix), both)
    known = both > 0
    return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def kappa(matrix: Float) -> Float:
    """Cohen's (1960) ``(p_o − p_e) / (1 − p_e)``."""
    return _weighted_kappa(matrix, 1 - np.eye(len(matrix)))


def quadratic_kappa(matrix: Float) -> Float:
    """Cohen's (1968) kappa where a decision costs the square of its distance from the truth, in the panel's order."""
    place = np.arange(len(matrix), dtype=np.float64)
    return _weighted_kappa(matrix, (place[:, None] - place) ** 2)


def _weighted_kappa(matrix: Float, cost: Float) -> Float:
    total = matrix.sum(axis=(0, 1))
    by_chance = np.einsum("ib,jb,ij->b", matrix.sum(axis=1), matrix.sum(axis=0), cost)
    return np.asarray(1 - ratio(np.einsum("ijb,ij->b", matrix, cost) * total, by_chance))


class Rated(NamedTuple):
    """One model on one panel: its name, its predictions (one for each seed of training), its metrics, and the (B,)
    resampled values behind them."""

    name: str
    seeds: Sequence[Predictions[Any]]
    found: PanelModel
    draws: dict[str, Float]


def rate(
    name: str,
    seeds: Sequence[Predictions[Any]],
    panel: Panel,
    scores: Mapping[str, Scored],
    coarse: bool,
    resampling: Resampling,
) -> Rated:
    """Every metric of one model on one panel.

    Args:
        seeds: Predictions of the same rows, one for each seed of training; a metric is the mean over them.
        scores: task → what was computed of it.
        coarse: Whether a rank metric of one of the tasks is.
    """
    counted, left_out = _counted(seeds[0], panel, scores)
    metrics: dict[str, Estimate] = {}
    draws: dict[str, Float] = {}
    for metric in RANKING:
        plain = metric.removeprefix("macro_")
        if not counted:
            metrics[metric] = Estimate(None, reason=FEW_OUTCOMES)
            continue
        draws[metric] = _mean([scores[task].draws[plain] for task in counted])
        values = [scores[task].metrics[plain].value for task in counted]
        known = [value for value in values if value is not None]
        metrics[metric] = interval(float(np.mean(known)) if known else np.nan, draws[metric], FEW_OUTCOMES)
    decided = [_decisions(predictions, panel, counted) for predictions in seeds]
    few, told = any(of.few for of in decided), any(of.told for of in decided)
    for metric in decided[0].metrics:
        if told or (few and len(panel.tasks) < MANY):
            metrics[metric] = Estimate(None, reason=FEW_DECISIONS)
            continue
        draws[metric] = np.mean([resampling.values(of.metrics[metric], of.rows) for of in decided], axis=0)
        value = float(np.mean([point(of.metrics[metric], len(of.rows)) for of in decided]))
        metrics[metric] = interval(value, draws[metric], FEW_OUTCOMES)
    return Rated(name, seeds, PanelModel(metrics, tuple(counted), left_out, coarse, few), draws)


def _counted(
    predictions: Predictions[Any], panel: Panel, scores: Mapping[str, Scored]
) -> tuple[list[str], dict[str, str]]:
    """Outcomes that enter the means of ranking metrics, and why the others do not."""
    counted, left_out = [], {}
    for task in panel.tasks:
        _, y, asked = predictions.task(task)
        without, with_it = patients_by_group(y[asked].astype(np.int64), predictions.subject_id[asked], 2)
        auroc = scores[task].metrics["auroc"]
        if auroc.value is None:
            left_out[task] = auroc.reason
        elif min(with_it, without) < SMALL_CELL:
            left_out[task] = FEW_OUTCOMES
        else:
            counted.append(task)
    return counted, left_out


def _mean(draws: Sequence[Float]) -> Float:
    """Over outcomes that a resample defines."""
    stacked = np.stack(draws)
    known = np.isfinite(stacked)
    return ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


class Decided(NamedTuple):
    """Metrics of decisions, the (n,) rows they are of, whether fewer than ten patients are on one side of one, and
    whether even two decimals would tell how many."""

    metrics: dict[str, Metric]
    rows: Int
    few: bool
    told: bool


def _decisions(predictions: Predictions[Any], panel: Panel, counted: Sequence[str]) -> Decided:
    columns = [predictions.tasks.index(task) for task in (panel.tasks if panel.exclusive else counted)]
    rows = np.flatnonzero(predictions.label_mask[:, columns].any(axis=1))
    if not len(rows):
        return Decided({}, rows, False, False)
    at, patients = np.ix_(rows, np.array(columns)), len(np.unique(predictions.subject_id[rows]))
    p, y, asked = predictions.proba[at], predictions.labels[at], predictions.label_mask[at]
    if panel.exclusive:
        truth, decided, classes = y.argmax(axis=1), p.argmax(axis=1), len(columns)
        numbers = (accuracy, macro_f1, kappa, quadratic_kappa)
        metrics: dict[str, Metric] = {
            name: Confusion(truth, decided, classes, number) for name, number in zip(EXCLUSIVE, numbers, strict=True)
        }
        people = patients_by_group(truth * classes + decided, predictions.subject_id[rows], classes**2)
        few = any(0 < n < SMALL_CELL for n in people)
        sides = patients_by_group((truth == decided).astype(np.int64), predictions.subject_id[rows], 2)
        return Decided(metrics, rows, few, any(0 < n < SMALL_CELL for n in sides) or (few and patients < LEAST))
    yes = p >= THRESHOLD
    by_threshold = (f1, precision, recall, specificity, share_right)
    metrics = {name: Decisions(y, yes, asked, number) for name, number in zip(DECIDED, by_threshold, strict=True)}
    few = False
    for k in range(len(columns)):
        mine = asked[:, k]
        cell = 2 * y[mine, k].astype(np.int64) + yes[mine, k]
        few |= any(0 < n < SMALL_CELL for n in patients_by_group(cell, predictions.subject_id[rows][mine], 4))
    return Decided(metrics, rows, few, few and patients < LEAST)


# --- paired tests -----------------------------------------------------------------------------------------------------


def compare_panel(panel: Panel, model: Rated, control: Rated, resampling: Resampling, seed: int) -> list[Comparison]:
    """Differences (model − control) of a panel's metrics, before correction for their number.

    The interval is the paired bootstrap's. The p-value is that of a permutation test: under the null hypothesis either
    model could have said what the other said of a patient, so both models' risks of random patients, all rows and
    outcomes of a patient together, change places; ranking metrics see each model's ranks within a fold, for models on
    different scales do not exchange. ``(#{|d*| >= |d|} + 1) / (swaps + 1)`` (Phipson & Smyth 2010).
    """
    rows, names = [], (model.name, control.name)
    shared = [task for task in model.found.counted if task in control.found.counted]
    for metric in COMPARED[panel.exclusive]:
        a, b = (of.found.metrics.get(metric, Estimate(None, reason=FEW_OUTCOMES)) for of in (model, control))
        if a.value is None or b.value is None:
            refused = Estimate(None, reason=a.reason or b.reason)
            rows.append(Comparison(panel.name, metric, *names, refused, None, None))
            continue
        draws = model.draws[metric] - control.draws[metric]
        pairs = [_swapped(metric, panel, shared, *both) for both in zip(model.seeds, control.seeds, strict=True)]
        p = swap_p(pairs, resampling, len(draws), seed)
        rows.append(Comparison(panel.name, metric, *names, interval(a.value - b.value, draws, ""), p, None))
    return rows


Pair = tuple[Metric, Int]
"""A metric of 2n rows, the model's and then the control's, and which n rows of the predictions they are."""


def _swapped(metric: str, panel: Panel, tasks: Sequence[str], a: Predictions[Any], b: Predictions[Any]) -> Pair:
    if metric in RANKING:
        kind = Auroc if metric == "macro_auroc" else AveragePrecision
        return _RankedTasks(kind, tasks, a, b), np.arange(len(a))
    first, second = _decisions(a, panel, tasks), _decisions(b, panel, tasks)
    return _joined(first.metrics[metric], second.metrics[metric]), first.rows


class _RankedTasks(Metric):
    """The mean over tasks of a ranking metric of both models' rows, within folds."""

    def __init__(self, kind: type[Metric], tasks: Sequence[str], a: Predictions[Any], b: Predictions[Any]) -> None:
        self.parts = []
        for task in tasks:
            asked = np.flatnonzero(a.task(task)[2])
            fold, y = a.fold[asked], a.labels[asked, a.tasks.index(task)].astype(np.float64)
            ranks = [_ranks_within(of.task(task)[0][asked], fold) for of in (a, b)]
            both = np.concatenate([asked, len(a) + asked])
            self.parts.append((both, FoldMean(kind, np.tile(fold, 2), np.tile(y, 2), np.concatenate(ranks))))

    def __call__(self, W: Float) -> Float:
        return _mean([metric(W[rows]) for rows, metric in self.parts])


def _ranks_within(p: Float, fold: Int) -> Float:
    """(n,) mid-ranks within each fold, in (0, 1]."""
    ranks = np.empty_like(p)
    for k in np.unique(fold):
        mine = fold == k
        ranks[mine] = rankdata(p[mine]) / mine.sum()
    return ranks


def _joined(a: Metric, b: Metric) -> Metric:
    """The same number of both models' rows together."""
    if isinstance(a, Confusion) and isinstance(b, Confusion):
        a.member = np.concatenate([a.member, b.member], axis=1)
    else:
        assert isinstance(a, Decisions)
        assert isinstance(b, Decisions)
        a.cells = [np.concatenate(cells, axis=1) for cells in zip(a.cells, b.cells, strict=True)]
    return a


def swap_p(pairs: Sequence[Pair], resampling: Resampling, swaps: int, seed: int) -> float:
    """Two-sided p-value of the mean difference over ``pairs``, each of which changes places for the same patients."""

    def difference(bits: Float) -> Float:
        """(b,) of (S, b) 1 where a patient's risks stay, 0 where they change places."""
        each = []
        for metric, rows in pairs:
            stay = bits[resampling.subject[rows]]
            W = np.concatenate([stay, 1 - stay])
            each.append(metric(W) - metric(1 - W))
        return np.asarray(np.mean(each, axis=0))

    rng, patients = np.random.default_rng(seed), len(resampling.counts[0])
    observed = abs(float(difference(np.ones((patients, 1)))[0]))
    least, reached = observed - 1e-12, 0  # rounding must not decide whether a tie counts
    for start in range(0, swaps, BLOCK):
        bits = rng.integers(0, 2, (patients, min(BLOCK, swaps - start))).astype(np.float64)
        reached += int((np.abs(difference(bits)) >= least).sum())
    return (reached + 1) / (swaps + 1)
