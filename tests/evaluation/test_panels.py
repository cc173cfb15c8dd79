"""Metrics of panels against scikit-learn, and the swap test against every permutation there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from mmnar.cohort.split import Split
from mmnar.evaluation import evaluate
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.panels import COMPARED, DECIDED, EXCLUSIVE
from mmnar.predictions import Predictions
from mmnar.roles import Test
from mmnar.schema import Panel
from tests.populations import paneled

SPLIT = Split(tune=0.1, test=0.8)
PHENOTYPES, STAY = slice(1, 4), slice(4, 7)
NOBODY = np.array([0], dtype=np.uint64)


def scored(n: int = 700, name: str = "a", noise: float = 1.0, seed: int = 0, **changes: Any) -> Predictions[Test]:
    """Risks that know the labels, in noise."""
    fold = paneled(n).fold(SPLIT, "test")
    rng = np.random.default_rng([seed, 7])
    logits = 2.0 * fold.labels + noise * rng.normal(size=fold.labels.shape) - 1
    p = 1 / (1 + np.exp(-logits))
    p[:, STAY] = np.exp(logits[:, STAY]) / np.exp(logits[:, STAY]).sum(1, keepdims=True)
    key = fold.subjects()[:1] if len(fold.subjects()) else NOBODY
    mark = fold.predictions(p, key, {"model": name})
    return replace(mark, fitted_subjects=(np.array([mark.key_mark], dtype=np.uint64),), **changes)


def test_metrics_of_a_panel_are_means_over_its_outcomes() -> None:
    p = scored()
    found = evaluate(p, resamples=20).panels["phenotypes"]["a"]
    y, risk = p.labels[:, PHENOTYPES], p.proba[:, PHENOTYPES]
    each = range(3)
    want = {
        "macro_auroc": np.mean([roc_auc_score(y[:, k], risk[:, k]) for k in each]),
        "macro_auprc": np.mean([average_precision_score(y[:, k], risk[:, k]) for k in each]),
        "macro_f1@.5": f1_score(y, risk >= 0.5, average="macro"),
        "macro_precision@.5": precision_score(y, risk >= 0.5, average="macro"),
        "macro_recall@.5": recall_score(y, risk >= 0.5, average="macro"),
        "macro_specificity@.5": np.mean([recall_score(~y[:, k], risk[:, k] < 0.5) for k in each]),
        "macro_accuracy@.5": np.mean([accuracy_score(y[:, k], risk[:, k] >= 0.5) for k in each]),
    }
    assert {name: of.value for name, of in found.metrics.items()} == pytest.approx(want)
    assert set(want) == {"macro_auroc", "macro_auprc", *DECIDED}
    assert found.counted == ("sepsis", "stroke", "asthma")


def test_metrics_of_an_exclusive_panel_are_those_of_its_most_likely_outcome() -> None:
    p = scored()
    found = evaluate(p, resamples=20).panels["stay"]["a"].metrics
    asked = p.label_mask[:, 4]
    y, said = p.labels[asked, STAY].argmax(1), p.proba[asked, STAY].argmax(1)
    want = {
        "accuracy": accuracy_score(y, said),
        "macro_f1": f1_score(y, said, average="macro"),
        "kappa": cohen_kappa_score(y, said),
        "quadratic_kappa": cohen_kappa_score(y, said, weights="quadratic"),
    }
    assert {name: found[name].value for name in EXCLUSIVE} == pytest.approx(want)
    assert not asked.all()


def test_intervals_are_of_patients_drawn_again() -> None:
    p = scored(300)
    found = evaluate(p, resamples=150, seed=4).panels
    draw = Resampling.draw(p.subject_id, 150, 4)
    values: dict[str, list[float]] = {"f1": [], "kappa": [], "auroc": []}
    for weights in (block[draw.subject] for block in draw.counts):
        for w in weights.T.astype(float):
            asked = p.label_mask[:, 4]
            y, said = p.labels[asked, STAY].argmax(1), p.proba[asked, STAY].argmax(1)
            values["kappa"].append(cohen_kappa_score(y, said, weights="quadratic", sample_weight=w[asked]))
            three = [(p.labels[:, k], p.proba[:, k]) for k in (1, 2, 3)]
            values["f1"].append(np.mean([f1_score(y, q >= 0.5, sample_weight=w) for y, q in three]))
            values["auroc"].append(np.mean([roc_auc_score(y, q, sample_weight=w) for y, q in three]))
    for name, panel, metric in (
        ("f1", "phenotypes", "macro_f1@.5"),
        ("auroc", "phenotypes", "macro_auroc"),
        ("kappa", "stay", "quadratic_kappa"),
    ):
        estimate = found[panel]["a"].metrics[metric]
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values[name], [0.025, 0.975])))


def test_the_swap_test_counts_the_permutations_that_go_as_far() -> None:
    """Nine patients have 512 swaps: all of them, by hand."""
    whole = scored(600)
    keep = np.flatnonzero(whole.label_mask[:, 4])
    rows = np.concatenate([keep[whole.labels[keep, c]][:3] for c in STAY_COLUMNS])
    names = ("labels", "label_mask", "present", "subject_id", "hadm_id", "stay_id", "prediction_time", "fold")
    part = {name: getattr(whole, name)[rows] for name in (*names, "subject_digest", "proba")}
    a = replace(whole, attributes={}, **part)
    b = a.with_proba(np.roll(a.proba, 1, axis=0), model="b")
    exact = _all_swaps(a, b)
    from mmnar.evaluation.panels import _swapped, swap_p

    panel = a.panels[1]
    draw = Resampling.draw(a.subject_id, 1, 0)
    for metric, want in exact.items():
        got = swap_p([_swapped(metric, panel, panel.tasks, a, b)], draw, 3000, 1)
        assert got == pytest.approx(want, abs=4 * np.sqrt(want * (1 - want) / 3000) + 0.001)


STAY_COLUMNS = (4, 5, 6)


def _all_swaps(a: Predictions[Test], b: Predictions[Test]) -> dict[str, float]:
    y = a.labels[:, STAY]
    ranks = [np.column_stack([rankdata(x) for x in of.proba[:, STAY].T]) for of in (a, b)]

    def numbers(p: np.ndarray, r: np.ndarray) -> tuple[float, float]:
        auroc = np.mean([roc_auc_score(y[:, k], r[:, k]) for k in range(3)])
        return float(auroc), float(cohen_kappa_score(y.argmax(1), p.argmax(1), weights="quadratic"))

    differences = []
    for bits in product([False, True], repeat=len(y)):
        swap = np.array(bits)[:, None]
        mine = numbers(np.where(swap, b.proba[:, STAY], a.proba[:, STAY]), np.where(swap, ranks[1], ranks[0]))
        other = numbers(np.where(swap, a.proba[:, STAY], b.proba[:, STAY]), np.where(swap, ranks[0], ranks[1]))
        differences.append(np.subtract(mine, other))
    d = np.abs(differences)
    share = (d >= d[0] - 1e-12).mean(0)
    return {"macro_auroc": float(share[0]), "quadratic_kappa": float(share[1])}


def test_panels_are_compared_as_one_and_corrected_over_models_and_panels() -> None:
    a, b, c = scored(noise=0.5), scored(name="b", noise=2.0, seed=1), scored(name="c", noise=2.0, seed=2)
    result = evaluate(a, b, c, controls=["c"], resamples=99)
    assert {x.task for x in result.comparisons} == {"mortality"}
    panels = {(x.task, x.metric, x.model): x for x in result.panel_comparisons}
    assert len(panels) == 2 * (len(COMPARED[True]) + len(COMPARED[False]))
    better, same = panels["phenotypes", "macro_auroc", "a"], panels["phenotypes", "macro_auroc", "b"]
    assert better.p == 0.01
    assert better.p_holm == pytest.approx(0.04)  # four comparisons of this metric: two models, two panels
    assert same.p is not None
    assert same.p > 0.05
    plain = result.to_dict()
    assert plain["panel_comparisons"][0]["task"] == "phenotypes"
    assert plain["provenance"]["panels"][1]["exclusive"] is True


def test_swapping_under_the_null_finds_one_in_twenty() -> None:
    from mmnar.evaluation.panels import _swapped, swap_p

    found = []
    for seed in range(120):
        a, b = scored(90, noise=1.5, seed=2 * seed), scored(90, "b", noise=1.5, seed=2 * seed + 1)
        draw, panel = Resampling.draw(a.subject_id, 1, 0), a.panels[0]
        found.append(swap_p([_swapped("macro_auroc", panel, panel.tasks, a, b)], draw, 99, seed))
    assert 0.0 <= np.mean(np.array(found) <= 0.05) <= 0.13  # 6 of 120 expected, sd 2.4
    assert 0.35 < np.mean(found) < 0.65


def test_rare_outcomes_are_left_out_of_the_mean_and_few_decisions_are_withheld() -> None:
    p = scored(400)
    labels = p.labels.copy()
    labels[:, 3] = False
    labels[:5, 3] = True
    rare = replace(p, labels=labels)
    found = evaluate(rare, resamples=20).panels["phenotypes"]["a"]
    assert found.counted == ("sepsis", "stroke")
    assert "fewer than 10 patients" in found.left_out["asthma"]
    one = p.proba.copy()
    one[np.flatnonzero(p.labels[:, 1])[:3], 1] = 0.2
    one[:, 1] = np.where(p.labels[:, 1] & (np.cumsum(p.labels[:, 1]) > 3), 0.9, 0.1)
    few = evaluate(p.with_proba(one), resamples=20)
    assert few.panels["phenotypes"]["a"].few
    shown = few.to_dict()["panels"]["phenotypes"]["a"]["metrics"]["macro_recall@.5"]["value"]
    assert shown == round(shown, 2)
    alone = replace(p, panels=(Panel("one", ("sepsis",)),)).with_proba(one)
    withheld = evaluate(alone, resamples=20).panels["one"]["a"].metrics["macro_f1@.5"]
    assert withheld.value is None
    assert withheld.reason.startswith("fewer than 10 patients on one side")


def test_few_patients_or_few_of_them_decided_wrongly_withhold_every_metric_of_decisions() -> None:
    """A share of 18 patients in two decimals is a count."""
    small = evaluate(scored(80), resamples=20).panels["stay"]["a"]
    assert small.few
    assert small.metrics["accuracy"].value is None
    p = scored(700)
    sure = np.where(p.labels, 0.9, 0.05)
    sure[:, STAY] /= sure[:, STAY].sum(1, keepdims=True)
    wrong = np.flatnonzero(p.label_mask[:, 4])[:6]
    sure[wrong] = np.roll(sure[wrong], 1, axis=1)
    sure[wrong, STAY] /= sure[wrong, STAY].sum(1, keepdims=True)
    found = evaluate(p.with_proba(sure), resamples=20).panels["stay"]["a"]
    assert all(found.metrics[name].value is None for name in EXCLUSIVE)
    assert found.metrics["macro_auroc"].value is not None
