"""A run scores records by its own recipe: as its own test patients were scored, to the bit, at every door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from mmnar import cli
from mmnar.dataset.store import open_store
from mmnar.errors import ConfigError, SchemaError, SourceError, StoreError
from mmnar.evaluation.export import write_labels
from mmnar.workflow import Run, evaluate_runs, train_run
from mmnar.workflow.predict import predict

WARD = ("surgery", "medicine", "cardiology")
SPEC: dict[str, Any] = {
    "name": "wards",
    "files": ["visits.csv"],
    "subject": "person",
    "sample": "visit",
    "modalities": {
        "basics": ["age", "ward"],
        "labs": [{"column": "lactate", "unit": "mmol/L", "low": 0, "high": 30}, "crp"],
        "image": ["density"],
    },
    "outcomes": {"death": {"column": "died"}},
    "attributes": {"sex": "sex"},
}


def visits(n: int = 500, seed: int = 0, first: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    ill, measured = rng.normal(size=n), rng.random(n) < 0.6
    lactate = np.where(measured, np.round(2 + ill + rng.normal(size=n) / 3, 2).clip(0.1), np.nan)
    return pl.DataFrame(
        {
            "visit": first + np.arange(n) + 1000,
            "person": first + np.arange(n) + 5000,
            "age": rng.integers(20, 90, n),
            "ward": rng.choice(WARD, n),
            "lactate": pl.Series(lactate).fill_nan(None),
            "crp": pl.Series(np.where(measured, rng.integers(1, 200, n), np.nan)).fill_nan(None),
            "density": [None] * n,
            "sex": rng.choice(["f", "m"], n),
            "died": (ill + rng.normal(size=n) > 0.8).astype(int),
        }
    )


def put(folder: Path, frame: pl.DataFrame, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_csv(folder / "visits.csv")
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("predict")
    cli.prepare.table(str(put(place, visits())), out=place / "store")
    return place


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return train_run(place / "store", "logistic-pattern", place / "run", ("fits=2",))


def test_own_test_patients_are_scored_to_the_bit_without_their_outcomes(run: Run, place: Path, tmp_path: Path) -> None:
    visits().drop("died", "sex").write_csv(tmp_path / "new.csv")
    frame = predict(run, table=tmp_path / "new.csv").frame
    scored = frame.filter(pl.col("stay_id").is_in(run.test.stay_id.tolist())).sort("stay_id")
    order = np.argsort(run.test.stay_id)
    assert scored.height == len(run.test)
    assert np.array_equal(scored["death.risk"].to_numpy(), run.test.proba[order, 0])
    assert run.rectified is not None
    assert np.array_equal(scored["death.rectified"].to_numpy(), run.rectified.proba[order, 0])
    assert (frame["death.low"] <= frame["death.risk"]).all()
    assert (frame["death.risk"] <= frame["death.high"]).all()
    assert (frame["death.low"] < frame["death.high"]).any()
    assert set(frame["absent"]) == {"image", "labs,image"}  # nobody has the image: absent, not an error
    learned = run.calibration()
    assert learned is not None
    with_labs = int(learned.present[:, 1].sum())
    assert set(frame.filter(pl.col("pattern") == "110")["training_patients"]) == {with_labs}


def test_one_patient_alone_is_scored_as_in_company_and_so_is_one_of_whom_nothing_is_known(
    run: Run, tmp_path: Path
) -> None:
    frame = visits().drop("died")
    frame.write_csv(tmp_path / "all.csv")
    frame.slice(7, 1).write_csv(tmp_path / "one.csv")
    together = predict(run, table=tmp_path / "all.csv").frame.filter(pl.col("stay_id") == 1007)
    alone = predict(run, table=tmp_path / "one.csv").frame
    assert alone.equals(together)
    nothing = frame.slice(7, 1).with_columns(
        pl.lit(None).alias(c) for c in ("age", "ward", "lactate", "crp", "density")
    )
    nothing.write_csv(tmp_path / "nothing.csv")
    scored = predict(run, table=tmp_path / "nothing.csv").frame
    assert scored["absent"].to_list() == ["basics,labs,image"]
    assert scored["training_patients"].to_list() == [None]
    assert 0 < scored["death.risk"][0] < 1


def test_unseen_words_become_other_and_columns_that_are_not_there_are_absent(run: Run, tmp_path: Path) -> None:
    one = visits().drop("died").slice(7, 2)
    for name, frame in {
        "unseen": one.with_columns(ward=pl.lit("dentistry")),
        "stated": one.with_columns(ward=pl.lit("other")),
        "spelled": one.with_columns(ward=pl.lit(" SURGERY")),
        "surgery": one.with_columns(ward=pl.lit("surgery")),
        "lacking": one.drop("lactate", "crp"),
        "empty": one.with_columns(pl.lit(None).alias(c) for c in ("lactate", "crp")),
    }.items():
        frame.write_csv(tmp_path / f"{name}.csv")
    of = {p.stem: predict(run, table=p) for p in sorted(tmp_path.glob("*.csv"))}
    assert of["unseen"].frame.equals(of["stated"].frame)
    assert of["spelled"].frame.equals(of["surgery"].frame)
    assert not of["unseen"].frame.equals(of["surgery"].frame)
    assert any("pooled into 'other'" in line for line in of["unseen"].warnings)
    assert of["lacking"].frame.equals(of["empty"].frame)


def test_a_store_like_the_runs_is_judged_by_it_though_a_word_does_not_occur_there(
    run: Run, place: Path, tmp_path: Path
) -> None:
    cli.prepare.table(str(place / "spec.yaml"), out=tmp_path / "twin", like=run.folder)
    assert open_store(tmp_path / "twin").fingerprint == open_store(place / "store").fingerprint
    other = visits(300, seed=5, first=50_000).with_columns(ward=pl.col("ward").replace("cardiology", "medicine"))
    spec = put(tmp_path / "there", other)
    cli.prepare.table(str(spec), out=tmp_path / "plain")
    with pytest.raises(SchemaError, match=r"'ward' of modality 'basics'.*cardiology"):
        evaluate_runs([run], on=tmp_path / "plain", resamples=20)
    cli.prepare.table(str(spec), out=tmp_path / "like", like=run.folder)
    assert evaluate_runs([run], on=tmp_path / "like", resamples=20).counts["death"].n == 300


def test_what_cannot_be_reconciled_is_refused_by_name(run: Run, place: Path, tmp_path: Path) -> None:
    mmol = {**SPEC["modalities"], "labs": [{"column": "lactate", "unit": "mg/dL"}, "crp"]}
    spec = put(tmp_path / "units", visits(), modalities=mmol)
    with pytest.raises(SchemaError, match=r"'lactate' of modality 'labs'.*mmol/L.*mg/dL"):
        cli.prepare.table(str(spec), out=tmp_path / "x", like=run.folder)
    visits().drop("died").with_columns(lactate=pl.lit("high")).write_csv(tmp_path / "words.csv")
    with pytest.raises(SourceError, match=r"'lactate': .* cells are no finite number"):
        predict(run, table=tmp_path / "words.csv")
    with pytest.raises(ConfigError, match=r"expected --table alone, got --root"):
        predict(run, root=tmp_path)
    with pytest.raises(SourceError, match="expected a file, got none"):
        predict(run, table=tmp_path / "nowhere.csv")
    record = json.loads((run.folder / "recipe.json").read_text())
    assert "visits.csv" in json.dumps(record)
    assert str(place) not in json.dumps(record)


def test_a_run_without_a_recipe_or_with_one_of_another_version_says_so(run: Run, place: Path, tmp_path: Path) -> None:
    from mmnar.dataset.recipe import Recipe

    with pytest.raises(StoreError, match="a recipe of version 1, got 9"):
        Recipe.from_dict({**run.recipe().to_dict(), "recipe_version": 9}, "recipe of a run")
    with pytest.raises(StoreError, match="got something else"):
        Recipe.from_dict([1, 2], "recipe of a run")
    cli.prepare.synthetic(out=tmp_path / "store", patients=300)
    other = train_run(tmp_path / "store", "pattern-only", tmp_path / "run", ("fits=2",))
    with pytest.raises(StoreError, match=r"the recipe of its inputs.*got none"):
        predict(other, table=tmp_path / "any.csv")
    with pytest.raises(ConfigError, match="a run on a store of `prepare eicu`"):
        cli.prepare.eicu(root=tmp_path, out=tmp_path / "y", like=run.folder)


def check_door(run: Run, frame: pl.DataFrame) -> None:
    """Every test sample of the run has the risk it had there, of each task that its door asks then."""
    key = ["stay_id", "prediction_time"]
    asked = pl.DataFrame(
        {"stay_id": run.test.stay_id, "prediction_time": pl.Series(run.test.prediction_time).cast(pl.Datetime("us"))}
    )
    found = asked.join(frame, on=key, how="left", maintain_order="left")
    for k, task in enumerate(run.test.tasks):
        risks, asked = found[f"{task}.risk"], found[f"{task}.risk"].is_not_null().to_numpy()
        assert asked[run.test.label_mask[:, k]].all(), task
        assert np.array_equal(risks.drop_nulls().to_numpy(), run.test.proba[asked, k]), task


def test_mimic_iv_with_notes_and_a_meds_data_set(tmp_path: Path) -> None:
    cli.simulate.mimic_iv(patients=150, out=tmp_path / "raw")
    release, notes = tmp_path / "raw" / "mimiciv" / "3.1", tmp_path / "raw" / "mimic-iv-note" / "2.2"
    cli.prepare.mimic_iv(root=release, notes=notes, notes_encoder="hashing", out=tmp_path / "store")
    run = train_run(tmp_path / "store", "logistic-pattern", tmp_path / "run", ("fits=2",))
    check_door(run, predict(run, root=release, notes=notes).frame)
    without = predict(run, root=release).frame  # the notes' modalities are absent for everybody
    assert without["absent"].str.contains("discharge").all()
    cli.prepare.mimic_iv(root=release, notes=notes, out=tmp_path / "twin", like=run.folder)
    assert open_store(tmp_path / "twin").fingerprint == open_store(tmp_path / "store").fingerprint

    events = tmp_path / "store" / "events" / "meds"
    write_labels(open_store(tmp_path / "store"), tmp_path / "labels")
    cli.prepare.meds(root=events, labels=tmp_path / "labels", out=tmp_path / "meds", notes_encoder="hashing")
    on_meds = train_run(tmp_path / "meds", "pattern-only", tmp_path / "meds-run", ("fits=2",))
    times = open_store(tmp_path / "meds")
    moments = pl.DataFrame(
        {"subject_id": times.subject_id, "prediction_time": pl.Series(times.prediction_time).cast(pl.Datetime("us"))}
    )
    moments.write_parquet(tmp_path / "times.parquet")
    check_door(on_meds, predict(on_meds, events=events, at=tmp_path / "times.parquet").frame)
    with pytest.raises(ConfigError, match="moments to ask at"):
        predict(on_meds, events=events)


def test_eicu_and_moments_of_ones_own(tmp_path: Path) -> None:
    cli.simulate.eicu(patients=150, out=tmp_path / "raw")
    (root,) = [p.parent for p in (tmp_path / "raw").rglob("patient.csv*")]
    cli.prepare.eicu(root=root, out=tmp_path / "store")
    run = train_run(tmp_path / "store", "pattern-only", tmp_path / "run", ("fits=2",))
    frame = predict(run, root=root).frame
    check_door(run, frame)
    moments = frame.select("subject_id", "prediction_time").unique().sort("subject_id").head(5)
    moments.write_parquet(tmp_path / "times.parquet")
    assert predict(run, root=root, at=tmp_path / "times.parquet").frame.height == 5
    for name, wrong, why in (
        ("strangers", moments.with_columns(pl.col("subject_id") + 10**9), "subjects of the records"),
        ("late", moments.with_columns(pl.col("prediction_time") + pl.duration(days=4000)), "moments within a stay"),
        ("twice", pl.concat([moments, moments]), "every subject and moment once"),
        ("nobody", moments.clear(), "every subject and moment once"),
        ("other", moments.rename({"prediction_time": "time"}), "no prediction_time"),
    ):
        wrong.write_parquet(tmp_path / f"{name}.parquet")
        with pytest.raises(SourceError, match=why):
            predict(run, root=root, at=tmp_path / f"{name}.parquet")
    (tmp_path / "text.parquet").write_text("subject_id")
    with pytest.raises(SourceError, match="write it again"):
        predict(run, root=root, at=tmp_path / "text.parquet")
