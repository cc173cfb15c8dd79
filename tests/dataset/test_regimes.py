"""Who loses a modality and who plays no role: counted by hand, nested, blind to labels, and nothing left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.config import HideConfig, RowsConfig, RunConfig, override
from mmnar.dataset.content import SeriesArrays, content_arrays
from mmnar.dataset.regimes import ANY_OTHER, Regime, settled
from mmnar.dataset.store import PatientDataset, write_store
from mmnar.errors import ConfigError
from mmnar.simulation.planted import planted
from tests.populations import mixed_population, population

SPLIT = Split(folds=2)
PARTS = ("train", "test")


def regime_of(data: PatientDataset, **keys: Any) -> Regime:
    dotted = {key.replace("__", "."): value for key, value in keys.items()}
    return settled(override(RunConfig(), {"split.folds": 2, **dotted}), data)[1]


def is_test(data: PatientDataset) -> np.ndarray:
    return SPLIT.roles(data.subject_id, data.attributes) == "test"


def hidden(data: PatientDataset, **keys: Any) -> np.ndarray:
    return regime_of(data, **keys).hidden(data, SPLIT)


WAYS: list[dict[str, Any]] = [
    {},
    {"hide__which": "severity", "hide__by": "vitals.hr"},
    {"hide__which": "severity", "hide__by": "course.hr", "hide__first": "lowest"},
    {"hide__which": "severity", "hide__by": "sex", "hide__first": "Male"},
    {"hide__which": "law", "hide__law": "sex=Female"},
    {"hide__which": "law", "hide__law": "sex=Female", "hide__by": "sex"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda w: " ".join(w.values()) or "random")
def test_shares_are_exact_nested_and_blind_to_labels(way: dict[str, Any]) -> None:
    data = mixed_population(400)
    at, test = data.schema.modality_names.index("labs"), is_test(data)
    before = np.zeros(len(data), dtype=bool)
    for share in (0.2, 0.4, 0.8, 1.0):
        now = hidden(data, hide__modality="labs", hide__share=share, **way)
        assert not (now & ~data.present[:, at]).any()
        assert (now | ~before).all()  # who was hidden at less is hidden now
        for part in (test, ~test):
            has = data.present[:, at] & part
            assert (now & part).sum() == int(share * has.sum() + 0.5)  # here a patient has one sample
        before = now
        flipped = replace(data, labels=~data.labels)
        assert np.array_equal(now, hidden(flipped, hide__modality="labs", hide__share=share, **way))
    other = hidden(data, hide__modality="labs", hide__share=0.4, hide__seed=1, **way)
    ordered = way.get("hide__by") in ("vitals.hr", "course.hr")  # whose order leaves the hash nothing to decide
    assert ordered or not np.array_equal(other, hidden(data, hide__modality="labs", hide__share=0.4, **way))


def test_a_patient_loses_it_in_all_samples_and_each_part_counts_for_itself() -> None:
    data = population(600, subjects=150)
    at = data.schema.modality_names.index("labs")
    for where in ("train", "test", "both"):
        now = hidden(data, hide__modality="labs", hide__share=0.5, hide__where=where)
        has = data.present[:, at]
        assert np.array_equal(now, has & np.isin(data.subject_id, data.subject_id[now]))
        for part, mine in (("train", ~is_test(data)), ("test", is_test(data))):
            people, of = len(np.unique(data.subject_id[now & mine])), len(np.unique(data.subject_id[has & mine]))
            assert people == (int(of / 2 + 0.5) if where in (part, "both") else 0)


@pytest.mark.parametrize("modality", ["labs", "course", "note", "report", "film"])
def test_nothing_is_left_behind(modality: str) -> None:
    data = mixed_population(200)
    regime = regime_of(data, hide__modality=modality, hide__share=0.5)
    now, seen = regime.hidden(data, SPLIT), regime.laid_over(data, SPLIT)
    at = data.schema.modality_names.index(modality)
    assert now.sum() > 20
    assert np.array_equal(seen.present[:, at], data.present[:, at] & ~now)
    for role in ("development", "test"):
        fold = seen.fold(SPLIT, role)  # type: ignore[call-overload]
        content, gone = fold.content(modality), now[fold.rows]
        if isinstance(content, np.ndarray):
            assert np.isnan(content[gone]).all()
            assert np.array_equal(content[~gone], data.values[modality][fold.rows[~gone]], equal_nan=True)
        else:
            assert (content.counts[gone] == 0).all()
            kept = content.take(np.flatnonzero(~gone))
            want = data.values[modality].take(fold.rows[~gone])  # type: ignore[union-attr]
            for name, array in content_arrays(kept).items():
                assert np.array_equal(array, content_arrays(want)[name])
    others = [name for name in data.schema.modality_names if name != modality]
    assert all(seen.values[name] is data.values[name] for name in others)
    assert seen.labels is data.labels


def test_severity_takes_the_last_measurement_and_spares_the_unmeasured() -> None:
    data = mixed_population(12)
    offsets = np.arange(13) * 2
    offsets[12] -= 1
    values = np.array([9, 1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9, 7, 9, 8, 9, 9, 9, 10, 9, 11, 99], dtype=np.float32)
    feature = np.where(np.arange(23) == 22, 1, 0).astype(np.int16)  # the last one was never measured
    series = SeriesArrays(offsets, np.tile(np.float32([-2, -1]), 12)[:23], feature, values)
    present = data.present.copy()
    present[:, :2] = True
    data = replace(data, values={**data.values, "course": series}, present=present)
    everyone = Split.external()
    for first, want in (("lowest", [*range(6)]), ("highest", [*range(5, 11)])):
        hide = HideConfig("labs", 0.5, which="severity", by="course.hr", first=(first,))
        assert np.flatnonzero(Regime(hide).hidden(data, everyone)).tolist() == want


def test_an_attributes_values_go_in_order() -> None:
    data = population(400)
    at = data.schema.modality_names.index("labs")
    way = {"hide__which": "severity", "hide__by": "sex", "hide__modality": "labs"}
    few, more = (hidden(data, hide__share=s, hide__first="Male,Female", **way) for s in (0.3, 0.7))
    assert set(data.attributes["sex"][few]) == {"Male"}
    assert set(data.attributes["sex"][more]) == {"Male", "Female"}
    assert (more | ~(data.present[:, at] & (data.attributes["sex"] == "Male"))).all()


def test_a_law_is_the_other_sites_frequencies_and_needs_ten(tmp_path: Path) -> None:
    site = population(3000, seed=5)
    labs, unit = (site.schema.modality_names.index(name) for name in ("labs", "unit"))
    # all have vitals but nine; labs are missing for 60 % with a unit and for 20 % without
    present = np.random.default_rng(0).random((3000, 3)) < 0.5
    present[:, 0] = np.arange(3000) >= 9
    lacks = np.random.default_rng(1).random(3000) < np.where(present[:, unit], 0.6, 0.2)
    present[:, labs] = ~lacks
    store = write_store(tmp_path / "elsewhere", replace(site, present=present))
    data = population(3000, seed=6)
    regime = regime_of(data, hide__modality="labs", hide__share=0.4, hide__which="law", hide__law=str(store))
    want = {f"1-{u}": lacks[(present[:, unit] == u) & present[:, 0]].mean() for u in (0, 1)}
    assert {kind: of for kind, of in regime.law.items() if kind != ANY_OTHER} == pytest.approx(want, abs=1e-4)
    assert regime.law[ANY_OTHER] == pytest.approx(lacks.mean(), abs=1e-4)  # the nine are a small cell: everybody's
    assert regime.hide.law == "elsewhere"
    # at the share that the law itself hides of these patients, each kind is hidden as often as there
    has = data.present[:, labs] & data.present[:, 0]
    one = replace(data, present=np.where(has[:, None], data.present, False))
    chance = np.array([regime.law[f"1-{int(u)}"] for u in one.present[has, unit]])
    now = replace(regime, hide=replace(regime.hide, share=chance.mean())).hidden(one, SPLIT)
    for u, target in ((False, want["1-0"]), (True, want["1-1"])):
        mine = has & (one.present[:, unit] == u)
        assert now[mine].mean() == pytest.approx(target, abs=4 * np.sqrt(0.25 / mine.sum()))
    # said again from the record alone: the other store is not needed
    store.rename(tmp_path / "gone")
    again = Regime.from_dict(json.loads(json.dumps(regime.to_dict())))
    assert np.array_equal(again.hidden(data, SPLIT), regime.hidden(data, SPLIT))


def test_an_attributes_law_is_read_from_who_is_not_tested() -> None:
    data = population(2000)
    way = {"hide__modality": "labs", "hide__share": 0.4, "hide__which": "law", "hide__law": "sex=Female"}
    present = np.where(is_test(data)[:, None], True, data.present)
    assert regime_of(replace(data, present=present), **way).law == regime_of(data, **way).law
    assert regime_of(replace(data, present=~data.present), **way).law != regime_of(data, **way).law


def test_pairs_and_a_nested_share_of_the_others() -> None:
    data = population(600, subjects=300)
    names = data.schema.modality_names
    paired = data.present[:, [names.index("labs"), names.index("unit")]].all(1)
    roles = SPLIT.roles(data.subject_id)
    kept_before = paired
    for share in ("paired", 0.25, 0.5, "all"):
        keys = {"rows__modalities": "labs,unit", "rows__train": share}
        seen = regime_of(data, **keys).chosen(data, SPLIT)
        folds = {role: seen.fold(SPLIT, role).rows for role in ("train", "tune", "test", "development")}  # type: ignore[call-overload]
        kept = np.isin(np.arange(len(data)), folds["development"])
        assert np.array_equal(folds["test"], np.flatnonzero(roles == "test"))
        assert len(folds["train"]) + len(folds["tune"]) == len(folds["development"])
        assert (kept | ~(kept_before & (roles != "test"))).all()
        unpaired = ~paired & (roles != "test")
        people = len(np.unique(data.subject_id[unpaired & kept]))
        of = len(np.unique(data.subject_id[unpaired]))
        assert people == int({"paired": 0, "all": 1}.get(str(share), share) * of + 0.5)  # type: ignore[operator]
        kept_before = kept
    tested = regime_of(data, rows__modalities="labs,unit", rows__test="paired").chosen(data, SPLIT)
    assert np.array_equal(tested.fold(SPLIT, "test").rows, np.flatnonzero((roles == "test") & paired))
    assert np.array_equal(tested.fold(SPLIT, "development").rows, np.flatnonzero(roles != "test"))


def test_pairs_are_chosen_by_what_patients_have_and_then_something_is_hidden() -> None:
    data = population(600)
    keys = {"rows__modalities": "labs", "rows__test": "paired", "hide__modality": "labs", "hide__where": "test"}
    seen = regime_of(data, hide__share=0.5, **keys).laid_over(data, SPLIT)
    fold, at = seen.fold(SPLIT, "test"), data.schema.modality_names.index("labs")
    assert data.present[fold.rows, at].all()
    assert fold.present[:, at].sum() == len(fold) - int(len(fold) / 2 + 0.5)


def test_nothing_asked_is_nothing_done() -> None:
    data = population(300)
    for keys in (
        {"hide__modality": "labs", "hide__share": 0.0, "hide__where": "test"},
        {"hide__modality": "labs", "hide__share": 0.0, "hide__which": "law", "hide__law": "sex=Female"},
        {"rows__modalities": "labs", "rows__train": "all", "rows__test": "1.0"},
        {"hide__modality": "labs", "hide__share": 0.5, "modalities": "vitals"},  # the method is not given it
    ):
        config = override(RunConfig(), {key.replace("__", "."): value for key, value in keys.items()})
        found, regime = settled(config, data)
        assert regime == Regime()
        assert replace(found, modalities=()) == RunConfig()
        assert regime.laid_over(data, SPLIT) is data
        assert regime.words(data, SPLIT) == []


def test_exact_risks_that_knew_what_is_hidden_are_left_out() -> None:
    data = planted("single", 300)
    for where, known in (("train", True), ("test", False), ("both", False)):
        regime = regime_of(data, hide__modality="m0", hide__share=0.5, hide__where=where)
        seen = regime.laid_over(data, SPLIT)
        assert (seen.bayes is not None) == known
        if seen.bayes is not None:
            assert np.array_equal(np.isnan(seen.bayes[:, 0]), regime.hidden(data, SPLIT))
    out_of_fold = Split(test=0.0)  # where there is no test fold, all others are judged
    assert Regime(HideConfig("m0", 0.5)).laid_over(data, out_of_fold).bayes is None
    assert data.bayes is not None
    assert np.isfinite(data.bayes).all()


def test_what_is_the_same_for_the_test_is_told_from_what_is_not() -> None:
    train, test, both = (Regime(HideConfig("labs", 0.4, where=w)).tested for w in ("train", "test", "both"))  # type: ignore[arg-type]
    assert train == Regime()
    assert test == both != train
    assert Regime().tested == Regime(rows=RowsConfig(("labs",), train="paired")).tested == Regime()
    assert Regime(rows=RowsConfig(("labs",), "paired", "paired")).tested != Regime()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hide__share": 0.5}, "hide.modality"),
        ({"hide__modality": "labs", "hide__share": 1.2}, "0 … 1"),
        ({"hide__modality": "labs", "hide__share": "nan"}, "0 … 1"),
        ({"hide__modality": "lbas", "hide__share": 0.5}, "did you mean 'labs'"),
        ({"hide__modality": "lbas"}, "did you mean 'labs'"),
        ({"hide__modality": "labs", "hide__which": "severity"}, "hide.by"),
        ({"hide__modality": "labs", "hide__which": "law"}, "hide.law"),
        ({"hide__which": "severity", "hide__by": "vitals.hrr"}, "did you mean 'vitals.hr'"),
        ({"hide__which": "severity", "hide__by": "unit.kind"}, "a measurement"),
        ({"hide__which": "severity", "hide__by": "vitals.hr", "hide__first": "worst"}, "highest or lowest"),
        ({"hide__which": "severity", "hide__by": "sex", "hide__first": "Mael"}, "did you mean 'Male'"),
        ({"hide__which": "law", "hide__law": "/nowhere/at/all"}, "'all': expected a store, or ATTRIBUTE=VALUE"),
        ({"hide__which": "law", "hide__law": "sexx=Male"}, "its attributes are sex"),
        ({"hide__which": "law", "hide__law": "sex=Other"}, "with the modality and patients without"),
        (
            {"hide__which": "law", "hide__law": "sex=Male", "hide__by": "race"},
            "the same attribute, got none named race",
        ),
        ({"rows__train": "paired"}, "rows.modalities"),
        ({"rows__modalities": "labs", "rows__train": "pared"}, "all, paired, or a share"),
        ({"rows__modalities": "labs", "rows__test": -0.1}, "all, paired, or a share"),
        ({"rows__modalities": "lab", "rows__train": "paired"}, "did you mean 'labs'"),
    ],
)
def test_every_mistake_has_a_remedy(keys: dict[str, Any], words: str) -> None:
    if keys.get("hide__which") and "hide__modality" not in keys:
        keys = {**keys, "hide__modality": "labs", "hide__share": 0.5}
    with pytest.raises(ConfigError, match=words):
        regime_of(population(200), **keys)


def test_an_empty_fold_and_a_modality_of_nobody_are_refused_by_name(tmp_path: Path) -> None:
    data = population(200)
    at = data.schema.modality_names.index("labs")
    present = data.present.copy()
    present[is_test(data), at] = False
    nobody = replace(data, present=present)
    with pytest.raises(ConfigError, match=r"rows.test in fold 0: expected somebody with labs in the test fold"):
        regime_of(nobody, rows__modalities="labs", rows__test="paired")
    for where in ("test", "both"):
        with pytest.raises(ConfigError, match=r"hide.modality 'labs' in fold 0: expected somebody among test patients"):
            regime_of(nobody, hide__modality="labs", hide__share=0.5, hide__where=where)
    assert regime_of(nobody, hide__modality="labs", hide__share=0.5, hide__where="train").hide.modality
    with pytest.raises(ConfigError, match="among test patients"):
        regime_of(data, hide__modality="labs", hide__share=0.5, hide__where="test", split__folds=1, split__test=0.0)
    foreign = write_store(tmp_path / "other", planted("single", 100))
    with pytest.raises(ConfigError, match="the same modalities, got none named vitals, labs, unit"):
        regime_of(data, hide__modality="labs", hide__share=0.5, hide__which="law", hide__law=str(foreign))


def test_sentences_hide_small_counts() -> None:
    data = population(120)
    (said, _) = regime_of(data, hide__modality="labs", hide__share=0.1).words(data, SPLIT)
    assert "hidden from fewer than 10 of" in said
    (said,) = regime_of(data, rows__modalities="labs", rows__train="paired").words(data, SPLIT)
    assert said == "Of patients learned from without labs, a share of 0 takes part."


@pytest.mark.parametrize("way", WAYS, ids=lambda w: " ".join(w.values()) or "random")
def test_no_test_patient_decides_who_is_hidden_or_left_out_in_training(way: dict[str, Any]) -> None:
    data = mixed_population(400)
    test = is_test(data)
    vitals = np.where(test[:, None], 99.0, np.asarray(data.values["vitals"])).astype(np.float32)
    attributes = {"sex": np.where(test, "Male", data.attributes["sex"])}
    present = data.present & (~test[:, None] | (np.arange(len(data)) % 3 == 0)[:, None])
    other = replace(data, values={**data.values, "vitals": vitals}, present=present, attributes=attributes)
    keys = {"hide__modality": "labs", "hide__share": 0.4, "rows__modalities": "unit", "rows__train": 0.5, **way}
    before, after = regime_of(data, **keys), regime_of(other, **keys)
    first, second = before.chosen(data, SPLIT), after.chosen(other, SPLIT)
    assert first.left_out is not None
    assert second.left_out is not None
    assert np.array_equal(first.left_out[~test], second.left_out[~test])
    assert np.array_equal(before.hidden(first, SPLIT)[~test], after.hidden(second, SPLIT)[~test])
