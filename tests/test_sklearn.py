"""The classifier is what scikit-learn expects, and gives the risks of the door and the cross-fit it stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import check_estimator

import mmnar
from mmnar.sklearn import MMNARClassifier

FAILS = {
    "check_fit2d_1feature": "ten rows: a fit has none with the outcome, and says that instead of words on one feature"
}


def visits(n: int = 240, seed: int = 0) -> pl.DataFrame:
    """Of n / 2 patients; blood is measured of the ill."""
    rng = np.random.default_rng(seed)
    ill = rng.normal(size=n)
    measured = rng.random(n) < 1 / (1 + np.exp(-ill))
    return pl.DataFrame(
        {
            "patient": [f"p{i // 2}" for i in range(n)],
            "ward": np.where(rng.random(n) < 0.5, "a", "b"),
            "pulse": 80 + 10 * ill + rng.normal(size=n),
            "crp": np.where(measured, ill + rng.normal(size=n), np.nan),
            "died": rng.random(n) < 1 / (1 + np.exp(1 - 2 * ill)),
        }
    ).sample(fraction=1.0, shuffle=True, seed=3)


SPEC = {"subject": "patient", "modalities": {"basics": ["ward", "pulse"], "blood": ["crp"]}}


def classifier(**changes: Any) -> MMNARClassifier:
    return MMNARClassifier(**{"spec": SPEC, "fits": 3, "random_state": 0, **changes})


def test_the_checks_of_scikit_learn() -> None:
    plain = MMNARClassifier(fits=3, tune=0.3, random_state=0)
    results = check_estimator(plain, expected_failed_checks=FAILS, on_skip=None)
    assert len(results) > 40
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(FAILS)


def test_risks_are_those_of_the_door_and_the_cross_fit() -> None:
    frame, new = visits(), visits(60, seed=1).with_columns(pl.col("patient") + "x")
    X, y = frame.drop("died"), frame["died"].to_numpy()
    fitted = classifier().fit(X, y)
    assert fitted.classes_.tolist() == [False, True]
    seed = int(check_random_state(0).randint(2**31 - 1))
    spec = {**SPEC, "name": "X", "outcomes": {"event": "died"}}
    data = mmnar.from_frame(frame, spec)
    crossed = mmnar.cross_fit(
        mmnar.estimator("logistic-pattern"), data.fold(mmnar.Split(test=0), "development"), 3, seed=seed
    )
    mine, theirs = fitted.fitted_.out_of_fold, crossed.out_of_fold
    by_row = {int(s): p for s, p in zip(mine.stay_id, mine.proba[:, 0], strict=True)}
    assert np.allclose([by_row[int(s)] for s in theirs.stay_id], theirs.proba[:, 0], atol=1e-12)
    # other rows, prepared beside the first, whose features are all numbers or stated words
    both = mmnar.from_frame(pl.concat([frame, new]), spec)
    scored = crossed.predictor.predict(both.fold(mmnar.Split.external(), "test"))
    wanted = {int(s): p for s, p in zip(scored.stay_id, scored.proba[:, 0], strict=True)}
    got = fitted.predict_proba(new.drop("died"))
    assert np.allclose(got[:, 1], [wanted[240 + i] for i in range(60)], atol=1e-12)
    assert np.allclose(got.sum(1), 1)
    assert roc_auc_score(new["died"], got[:, 1]) > 0.7


def test_rows_keep_their_order_and_companions_move_nothing() -> None:
    frame = visits()
    fitted = classifier().fit(frame.drop("died"), frame["died"].to_numpy())
    X = visits(60, seed=1).drop("died")
    together = fitted.predict_proba(X)
    order = np.random.default_rng(0).permutation(60)
    assert np.allclose(fitted.predict_proba(X[order]), together[order], atol=1e-12)
    assert np.allclose(fitted.predict_proba(X[:1]), together[:1], atol=1e-12)
    assert np.allclose(fitted.predict_proba(X.to_pandas().set_index(pd.Index(order))), together, atol=1e-12)
    assert (fitted.predict(X) == (together[:, 1] > 0.5)).all()


def test_rows_of_one_patient_are_never_parted() -> None:
    frame = visits()
    out_of_fold = classifier().fit(frame.drop("died"), frame["died"].to_numpy()).fitted_.out_of_fold
    people, folds = np.unique(out_of_fold.subject_id, return_inverse=True)
    assert len(people) == 120
    assert all(len(np.unique(out_of_fold.fold[folds == i])) == 1 for i in range(len(people)))


def test_a_search_over_methods_by_patient() -> None:
    frame = visits()
    X, y = frame.drop("died").to_pandas(), np.where(frame["died"], "yes", "no")
    grid = {"model": ["pattern-only", "logistic-pattern"], "fits": [2]}
    search = GridSearchCV(classifier(), grid, scoring="roc_auc", cv=GroupKFold(2)).fit(X, y, groups=X["patient"])
    assert search.best_params_["model"] == "logistic-pattern"
    assert search.best_estimator_.classes_.tolist() == ["no", "yes"]
    assert clone(search.best_estimator_).get_params()["spec"] == SPEC


def test_words_never_seen_and_cells_that_are_missing_have_a_risk() -> None:
    frame = visits()
    fitted = classifier().fit(frame.drop("died"), frame["died"].to_numpy())
    odd = (
        visits(4).drop("died").with_columns(ward=pl.lit("another"), pulse=pl.lit(None, pl.Float64), crp=pl.lit(np.nan))
    )
    assert np.isfinite(fitted.predict_proba(odd)).all()


@pytest.mark.parametrize(
    ("changes", "columns", "said"),
    [
        ({"spec": {**SPEC, "outcomes": {"died": "died"}}}, {}, "spec has 'outcomes', which X and y say"),
        ({"spec": {**SPEC, "modality": {}}}, {}, "did you mean 'modalities'"),
        ({"model": "logistic-patern"}, {}, "did you mean 'logistic-pattern'"),
        ({}, {"y": pl.lit(1)}, "X has a column 'y'"),
        ({}, {"patient": pl.when(pl.int_range(pl.len()) < 9).then(pl.col("patient"))}, "an identifier in most rows"),
        ({}, {"patient": pl.when(pl.int_range(pl.len()) > 9).then(pl.col("patient"))}, "rows without a subject"),
        ({}, {"pulse": pl.col("died").cast(pl.Int64)}, "its value tells the outcome"),
    ],
)
def test_what_the_door_refuses_is_a_value_error(changes: dict[str, Any], columns: dict[str, Any], said: str) -> None:
    frame = visits().with_columns(**columns)
    with pytest.raises(ValueError, match=said):
        classifier(**changes).fit(frame.drop("died"), frame["died"].to_numpy())
