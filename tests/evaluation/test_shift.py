"""Two stores held against each other: simulated policies are found, equal ones are not, nothing tells of few."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mmnar.cli import main
from mmnar.cohort.build import build_cohort
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset, write_store
from mmnar.errors import SchemaError
from mmnar.evaluation.intervals import Resampling
from mmnar.evaluation.recalibration import line_draws
from mmnar.evaluation.shift import Shift, _Dealt, pattern_share, shift
from mmnar.privacy import FEW
from mmnar.report.shift import verdicts
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions


@lru_cache(maxsize=8)
def store(seed: int, patients: int = 1500, **policy: Any) -> PatientDataset:
    extract = read_synthetic(simulate(patients, 4, seed, **policy))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def compared(**policy: Any) -> Shift:
    return shift(store(0), store(1, **policy), resamples=100)


def test_the_same_policy_is_not_called_another() -> None:
    found = compared()
    assert found.shown == ()
    assert found.rho.value == pytest.approx(found.rho_source.value, abs=0.4)
    assert all("not shown" in said or "No difference" in said or "have a pattern" in said for said in verdicts(found))


def test_reversed_selection_and_higher_rates_are_told_apart() -> None:
    turned, higher = compared(gamma=-1.0), compared(rate_shift=0.7)
    assert "selection" in turned.shown
    assert turned.rho.high is not None
    assert turned.rho.high < 0
    assert any("who would not get them" in said for said in verdicts(turned))
    assert higher.shown == ("law",)
    alphas = [m.alpha.value for m in higher.modalities if m.alpha.value is not None]
    assert len(alphas) == 3
    assert 0.3 < np.mean(alphas) < 1.1  # .7 of like patients in the logit, less what the regression does not see
    assert all(m.difference.low > 0 for m in higher.modalities[1:])  # type: ignore[operator]
    assert higher.modalities[0].alpha.reason  # part of what is always observed


def test_a_policy_without_selection_has_rho_zero() -> None:
    found = compared(mcar=1.0)
    assert "selection" in found.shown
    assert found.rho.value == pytest.approx(0, abs=0.35)


def test_rates_and_variation_by_hand() -> None:
    a, b = store(0), store(1, rate_shift=0.7)
    found = shift(a, b, resamples=20)
    for m, of in enumerate(found.modalities):
        assert of.source.value == pytest.approx(a.present[:, m].mean())
        assert of.target.value == pytest.approx(b.present[:, m].mean())
    laws = []
    for data in (a, b):
        words = ["".join(map(str, row.astype(int))) for row in data.present]
        laws.append({w: words.count(w) / len(words) for w in set(words)})
    by_hand = 0.5 * sum(abs(laws[0].get(w, 0) - laws[1].get(w, 0)) for w in set(laws[0]) | set(laws[1]))
    assert found.variation == pytest.approx(by_hand)


def test_permutations_deal_out_patients_whole() -> None:
    present = [np.array([[1, 0]] * 30 + [[1, 1]] * 10, dtype=bool), np.array([[1, 1]] * 12, dtype=bool)]
    subject = [np.repeat(np.arange(10), 4), np.repeat(np.arange(3), 4)]
    dealt = _Dealt(present, subject, 0)
    assert np.allclose(dealt.law.sum(2), 1)
    shares = dealt.law[:, 0] * 40  # every patient has four rows, so ten of thirteen patients are always forty rows
    assert np.allclose(shares, np.round(shares))
    assert np.allclose(shares[0], [30, 10])
    assert dealt.variation()[0] == pytest.approx(0.75)


def test_slopes_are_those_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    e = rng.uniform(0.05, 0.95, 800)
    y = rng.random(800) < e
    drawn = Resampling.draw(np.arange(800), 30, 0)
    rho, draws = line_draws(y.astype(float), e, np.arange(800), drawn)
    line = LogisticRegression(C=np.inf, tol=1e-8).fit(np.log(e / (1 - e))[:, None], y)
    assert rho == pytest.approx(line.coef_[0, 0], abs=1e-3)
    assert draws.shape == (30,)


def test_a_modality_that_nine_lack_is_not_told() -> None:
    a, b = store(0), store(1)
    present = b.present.copy()
    present[:, 1] = True
    present[:9, 1] = False
    found = shift(a, replace(b, present=present), resamples=20)
    assert found.modalities[1].target.value is None
    assert found.modalities[1].p is None
    assert found.modalities[1].target.reason.startswith(FEW)
    assert pattern_share(replace(b, present=present), lambda pattern: pattern[1] == "0").value is None


def test_stores_of_other_modalities_are_refused() -> None:
    other = dataset_of_three()
    with pytest.raises(SchemaError, match="second store"):
        shift(store(0), other)


def dataset_of_three() -> PatientDataset:
    extract = read_synthetic(simulate(200, 3, 0))
    return dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))


def test_the_command_says_it_and_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_store(tmp_path / name, of) for name, of in (("a", store(0)), ("b", store(1, gamma=-1.0)))]
    with pytest.raises(SystemExit) as ended:
        main(["shift", *map(str, paths), "--out", str(tmp_path / "out")])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "who would not get them in the first store" in said
    assert "Modality by modality" in said
    page = (tmp_path / "out" / "shift.html").read_text()
    assert "mmnar evaluate RUN --on STORE" in page
    record = json.loads((tmp_path / "out" / "shift.json").read_text())
    assert record["shown"] == ["selection"]
    assert round(record["variation"], 2) == record["variation"]
