"""Runs and studies under a regime: real fits of tiny size, and a curve from the study to its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from mmnar.cohort.split import Split
from mmnar.dataset.store import PatientDataset, open_store, write_store
from mmnar.errors import ConfigError, SchemaError
from mmnar.report.build import build_report
from mmnar.report.study.page import study_html, study_markdown, study_text
from mmnar.simulation.planted import planted
from mmnar.study.driver import run_study
from mmnar.study.progress import Quiet
from mmnar.study.result import EXACT, judge
from mmnar.study.saved import load_result, save_slim
from mmnar.study.spec import StudySpec, study_of
from mmnar.workflow import Run, evaluate_runs, open_run, train_run
from tests.inline import Inline
from tests.populations import mixed_population
from tests.study.test_page import Tables

TINY = ("train.min_steps=4", "train.max_epochs=1", "model.width=8", "model.image.backbone=tiny")
METHODS = {"zero-fill": TINY, "logistic-pattern": ()}
HALF = ("hide.modality=labs", "hide.share=.5", "fits=2")


def fitted(store: Path, model: str, out: Path, *overrides: str) -> Run:
    return train_run(store, model, out, ["fits=2", "rectifier.rule=none", *METHODS.get(model, ()), *overrides])


def files_of(run: Run) -> dict[str, bytes]:
    """What was fitted, and the risks, byte by byte."""
    places = [*(run.folder / "model").rglob("*"), *(run.folder / "predictions").rglob("*")]
    return {str(p.relative_to(run.folder)): p.read_bytes() for p in places if p.suffix in (".npz", ".safetensors")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("mixed") / "store", mixed_population(240))


@pytest.mark.parametrize("model", METHODS)
def test_a_share_of_nothing_is_no_setting_to_the_bit(model: str, store: Path, tmp_path: Path) -> None:
    plain = fitted(store, model, tmp_path / "plain")
    none = ("hide.modality=labs", "hide.share=0", "hide.where=test", "rows.modalities=labs", "rows.train=all")
    same = fitted(store, model, tmp_path / "same", *none)
    assert np.array_equal(plain.test.proba, same.test.proba)
    assert np.array_equal(plain.calibration().proba, same.calibration().proba)  # type: ignore[union-attr]
    assert files_of(plain) == files_of(same) != {}
    assert plain.record["config"] == same.record["config"]
    assert same.told == []


@pytest.mark.parametrize("model", METHODS)
def test_what_is_hidden_moves_nothing(model: str, store: Path, tmp_path: Path) -> None:
    """Other contents behind what is hidden, in training, out of fold and in the test: the same weights and risks."""
    data = open_store(store)
    before = fitted(store, model, tmp_path / "a", *HALF)
    hidden = before.regime.hidden(data, before.split)
    labs = np.array(data.values["labs"])
    labs[hidden] = 1e6
    poisoned = replace(data, values={**data.values, "labs": labs})
    after = fitted(write_store(tmp_path / "poisoned", poisoned), model, tmp_path / "b", *HALF)
    assert hidden[before.regime.laid_over(data, before.split).fold(before.split, "test").rows].sum() > 10
    assert np.array_equal(before.test.proba, after.test.proba)
    assert np.array_equal(before.calibration().proba, after.calibration().proba)  # type: ignore[union-attr]
    assert files_of(before) == files_of(after)
    plain = fitted(store, model, tmp_path / "c")
    assert not np.array_equal(plain.test.proba, before.test.proba)


def test_a_run_remembers_its_regime(store: Path, tmp_path: Path) -> None:
    data = open_store(store)
    law = ("hide.which=law", "hide.law=sex=Female")
    run = fitted(store, "logistic-pattern", tmp_path / "law", *HALF, *law)
    assert run.record["regime"]["law"]
    assert run.record["config"]["hide"]["share"] == 0.5
    seen = run.regime.laid_over(data, run.split)
    assert np.array_equal(seen.fold(run.split, "test").present, run.test.present)
    learned = run.calibration()
    assert learned is not None
    assert np.array_equal(np.sort(data.stay_id[seen.fold(run.split, "development").rows]), np.sort(learned.stay_id))
    assert any("as patients of 'sex=Female' lack it" in sentence for sentence in run.told)
    page = build_report([run], tmp_path / "report", resamples=10).read_text()
    assert "logistic-pattern was made under a regime" in page
    plain = fitted(store, "pattern-only", tmp_path / "plain")
    with pytest.raises(SchemaError, match="different present"):  # other patterns: no table may hold both
        evaluate_runs([run, plain], resamples=10)


def test_hidden_in_training_alone_leaves_the_test_as_it_is(store: Path, tmp_path: Path) -> None:
    data = open_store(store)
    run = fitted(store, "zero-fill", tmp_path / "train", *HALF, "hide.where=train")
    test = data.fold(run.split, "test")
    assert np.array_equal(run.test.present, test.present)
    learned, labs = run.calibration(), data.schema.modality_names.index("labs")
    assert learned is not None
    assert learned.present[:, labs].sum() < 0.6 * data.fold(run.split, "development").present[:, labs].sum()


def test_a_method_may_be_given_some_modalities(store: Path, tmp_path: Path) -> None:
    run = fitted(store, "logistic-pattern", tmp_path / "run", "modalities=labs,unit")
    assert run.test.modalities == ("labs", "unit")
    other = replace(open_store(store), subject_id=open_store(store).subject_id + 10_000)
    elsewhere = write_store(tmp_path / "elsewhere", other)
    assert evaluate_runs([run], on=elsewhere, store=store, resamples=10).tasks
    with pytest.raises(ConfigError, match="did you mean 'labs'"):
        fitted(store, "logistic-pattern", tmp_path / "none", "modalities=lbas")


def curve_of(data: PatientDataset, folder: Path, **changes: Any) -> StudySpec:
    store = write_store(folder / "store", data)
    raw: dict[str, Any] = {
        "title": "A curve",
        "layout": "curve",
        "data": {"planted": {"store": str(store)}},
        "rows": {"logistic-pattern": {}, "m3 alone": {"model": "logistic-pattern", "modalities": ["m3"]}},
        "folds": 2,
        "set": {"rectifier.rule": "none", "fit": "single"},
        "along": {"hide.share": [0, 0.5, 1]},
        "settings": {
            "m0, both": {"hide.modality": "m0"},
            "m0, test": {"hide.modality": "m0", "hide.where": "test"},
            "m1, both": {"hide.modality": "m1"},
        },
        "metrics": ["auroc", "brier"],
        "resamples": 60,
    }
    return study_of({**raw, **changes})


def test_a_curve_falls_where_the_signal_is_hidden_and_is_flat_elsewhere(tmp_path: Path) -> None:
    engine, spec = Inline(), curve_of(planted("single", 800), tmp_path)
    done = run_study(spec, tmp_path / "s", engine, Quiet())
    # both folds: one run at share 0 for all settings; the row that has m3 alone is never fitted again
    assert len(engine.done) == 2 * (1 + 3 * 2) + 2
    result = judge(done)
    numbers = {t.setting: t.tasks["outcome"] for t in result.tables}

    def auroc(setting: str, share: str, row: str = "logistic-pattern") -> float:
        return numbers[f"{setting} · {share}"][row].metrics["auroc"].value or 0.0

    for setting in ("m0, both", "m0, test"):
        first, middle, last = (auroc(setting, share) for share in ("0", "0.5", "1"))
        assert first - 0.05 > middle > last + 0.05
        assert last == pytest.approx(0.5, abs=0.07)
    assert auroc("m1, both", "0") == pytest.approx(auroc("m1, both", "1"), abs=0.03)
    assert auroc("m0, both", "0") == auroc("m0, test", "0") == auroc("m1, both", "0")
    flat = {auroc(setting, share, "m3 alone") for setting in ("m0, both", "m1, both") for share in ("0", "0.5", "1")}
    assert len(flat) == 1
    assert {t.setting for t in result.tables if t.bayes} == {f"{s} · 0" for s in ("m0, both", "m0, test", "m1, both")}
    _page_says_it(result.disclosed(), tmp_path, f"{auroc('m0, both', '0.5'):.3f} (")


def _page_says_it(result: Any, folder: Path, value: str) -> None:
    page = study_html(result)
    body = Tables(page).found["AUROC of outcome by share hidden."]
    (row,) = [cells for cells in body if cells[:2] == ["m0, both", "logistic-pattern"]]
    assert row[3].startswith(value)
    (exact,) = [cells for cells in body if cells[:2] == ["m0, both", EXACT]]
    assert exact[3:] == ["–", "–"]
    assert page.count('class="band"') == 2 * 3 * 2  # metrics × settings × rows
    assert "AUROC of outcome by share hidden, m0, both" not in page
    assert "Settings: m0, both; m0, test; m1, both. Each at hide.share = 0, 0.5, 1." in page
    assert value.removesuffix(" (") in study_text(result)
    assert "m0, test" in study_markdown(result)
    save_slim(result, folder / "slim.json")
    assert study_html(load_result(folder / "slim.json")) == page


def test_chosen_outcomes_of_a_panel_have_curves_of_their_own(tmp_path: Path) -> None:
    from tests.populations import paneled

    rows, settings = {"pattern-only": {}}, {"labs": {"hide.modality": "labs"}}
    spec = curve_of(
        paneled(600), tmp_path, rows=rows, settings=settings, outcomes=["stroke"], along={"hide.share": [0, 1]}
    )
    done = run_study(spec, tmp_path / "s", Inline(), Quiet())
    captions = set(Tables(study_html(judge(done))).found)
    for question in ("mortality", "stroke"):
        assert f"AUROC of {question} by share hidden." in captions
    assert "Mean AUROC of phenotypes by share hidden." in captions
    assert not any("asthma" in caption for caption in captions)
    other = replace(spec, outcomes=("stork",))
    with pytest.raises(ConfigError, match="did you mean 'stroke'"):
        run_study(other, tmp_path / "other", Inline(), Quiet())


def test_pairs_train_one_row_and_everybody_another(tmp_path: Path) -> None:
    data = planted("single", 600)
    pair = {"rows.modalities": ["m0", "m1"], "rows.train": "paired"}
    rows = {"all": {"model": "pattern-only"}, "paired": {"model": "pattern-only", "set": pair}}
    tested = {"tested on all": {}, "tested on pairs": {"rows.modalities": ["m0", "m1"], "rows.test": "paired"}}
    raw = {"rows": rows, "settings": tested, "layout": "comparison", "along": None}
    done = run_study(curve_of(data, tmp_path, **raw), tmp_path / "s", Inline(), Quiet())
    whole, pairs = judge(done).tables
    assert whole.samples == 600
    assert pairs.samples == data.present[:, :2].all(1).sum()
    assert set(pairs.tasks["outcome"]) == {"all", "paired"}


def test_rows_of_a_table_are_tested_alike_or_refused_before_anything_runs(tmp_path: Path) -> None:
    data, engine = planted("single", 300), Inline()
    hide = {"hide.modality": "m0", "hide.share": 0.5, "hide.where": "test"}
    for own in (hide, {"rows.modalities": ["m0"], "rows.test": "paired"}):
        rows = {"plain": {"model": "pattern-only"}, "other": {"model": "pattern-only", "set": own}}
        raw = {"rows": rows, "settings": {}, "layout": "comparison", "along": None}
        with pytest.raises(ConfigError, match="'plain' and 'other': expected the same test samples"):
            run_study(curve_of(data, tmp_path, **raw), tmp_path / "s", engine, Quiet())
    own = {**hide, "hide.where": "train"}
    rows = {"plain": {"model": "pattern-only"}, "other": {"model": "pattern-only", "set": own}}
    raw = {
        "rows": {**rows, "best": {"best_of": ["plain", "other"]}},
        "settings": {},
        "layout": "comparison",
        "along": None,
    }
    with pytest.raises(ConfigError, match="row 'best', best_of: expected rows that are judged out of fold"):
        run_study(curve_of(data, tmp_path, **raw), tmp_path / "s", engine, Quiet())
    absent = without_m0(data)
    few = {"rows.modalities": ["m0"], "rows.train": "paired"}
    raw = {"rows": {"pattern-only": {}}, "settings": {"few": few}, "layout": "comparison", "along": None}
    with pytest.raises(ConfigError, match=r"rows.train in fold 0: expected somebody with m0"):
        run_study(curve_of(absent, tmp_path / "few", **raw), tmp_path / "s", engine, Quiet())
    assert engine.done == []


def without_m0(data: PatientDataset) -> PatientDataset:
    return replace(data, present=data.present & [False, True, True, True])


def test_where_nobody_is_left_a_line_says_so_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Nobody has m0 but a patient of the test fold: no pair to learn from there, nobody to hide it from elsewhere."""
    data = planted("single", 300)
    test = Split.k_fold(data, 0, 2).roles(data.subject_id, data.attributes) == "test"
    alone = without_m0(data)
    alone.present[np.flatnonzero(test)[0], 0] = True
    hide, pairs = {"hide.modality": "m0", "hide.share": 0.5}, {"rows.modalities": ["m0"], "rows.train": "paired"}
    raw = {
        "rows": {"all": {"model": "pattern-only"}, "pairs": {"model": "pattern-only", "set": pairs}},
        "settings": {"everybody": {}, "hidden": hide, "a share": {"rows.modalities": ["m0"], "rows.train": 0.5}},
        "layout": "comparison",
        "along": None,
    }
    done = run_study(curve_of(alone, tmp_path, **raw), tmp_path / "s", Inline(), Quiet())
    result = judge(done)
    assert {t.setting: sorted(t.tasks["outcome"]) for t in result.tables} == {
        "everybody": ["all"],
        "a share": ["all", "pairs"],
    }
    why = {(row, reason.split(",")[0]): reason for _, row, reason in result.refused}
    assert "rows.train in fold 0: expected somebody with m0" in why["pairs", "setting 'everybody'"]
    assert "hide.modality 'm0' in fold 0" in why["all", "setting 'hidden'"]
    page = study_html(result)
    assert "somebody among patients learned from who has it" in page


def test_the_best_share_is_chosen_by_patients_whom_all_members_learn_from(tmp_path: Path) -> None:
    share = {"rows.modalities": ["m0", "m1"], "rows.train": 0.3}
    rows = {
        "all": {"model": "logistic-pattern"},
        "some": {"model": "logistic-pattern", "set": share},
        "pairs": {"model": "logistic-pattern", "set": {**share, "rows.train": "paired"}},
        "best": {"best_of": ["all", "some", "pairs"]},
    }
    own = {"rectifier.rule": "none", "fits": 2, "rows.modalities": ["m0", "m1"], "rows.test": "paired"}
    raw = {"rows": rows, "settings": {}, "layout": "comparison", "along": None, "set": own}
    done = run_study(curve_of(planted("single", 500), tmp_path, **raw), tmp_path / "s", Inline(), Quiet())
    (table,) = judge(done).tables
    for fold, chosen in enumerate(table.best["best"]["outcome"]):
        jobs = {c.row: c.job for c in done.plan.cells if c.fold == fold}
        losses = {}
        for row, job in jobs.items():
            risks = open_run(tmp_path / "s" / "runs" / job).calibration()
            assert risks is not None
            both = risks.present[:, :2].all(1)
            assert both.all() == (row == "pairs")
            losses[row] = log_loss(risks.labels[both, 0], risks.proba[both, 0])
        assert chosen == min(losses, key=lambda row: losses[row])


def test_a_search_meets_the_regime_too(tmp_path: Path) -> None:
    """Nobody has anything but noise: the pattern of m0, which alone tells, is hidden from everybody."""
    search = {"trials": 2, "sampler": "grid", "spaces": {"pattern-only": {"model.strength": [1.0, 40.0]}}}
    losses = []
    for share in (0.0, 1.0):
        hide = {"hide.modality": "m0", "hide.share": share, "rectifier.rule": "none", "fit": "single"}
        raw = {"rows": {"pattern-only": {}}, "settings": {}, "layout": "comparison", "along": None, "set": hide}
        spec = curve_of(planted("pattern", 400), tmp_path / str(share), search=search, **raw)
        done = run_study(spec, tmp_path / f"s{share}", Inline(), Quiet())
        losses.append(done.searches["planted", "pattern-only"]["tune_loss"])
    assert losses[0] < losses[1] - 0.02


@pytest.mark.parametrize(
    ("along", "words"),
    [
        (None, "layout: curve, got none"),
        ({"hide.share": [0]}, "at least two numbers"),
        ({"hide.share": [0.5, 0.2]}, "ascending"),
        ({"hide.share": ["a", "b"]}, "at least two numbers"),
        ({"hide.share": [0, 1], "rows.train": [0, 1]}, "one key"),
    ],
)
def test_an_axis_is_one_key_of_ascending_numbers(along: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        curve_of(planted("single", 20), tmp_path, along=along)
    with pytest.raises(ConfigError, match="layout: comparison"):
        curve_of(planted("single", 20), tmp_path, layout="comparison")
