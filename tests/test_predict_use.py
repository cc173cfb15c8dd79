"""What somebody with patients of today needs of ``mmnar predict``: a file, who was left out, no outcome anywhere."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar import cli
from mmnar.cohort.split import Split
from mmnar.dataset.recipe import Recipe
from mmnar.dataset.store import open_store
from mmnar.errors import ConfigError, SchemaError, SourceError
from mmnar.schema import ModalitySpec, Schema, Task
from mmnar.sources.events import ImageRule, VectorRule
from mmnar.sources.table import plan_table
from mmnar.sources.table.spec import load_spec
from mmnar.workflow import Run, train_run
from mmnar.workflow.predict import predict
from tests.test_predict import check_door, put, visits


def challenge(root: Path, n: int = 120) -> None:
    """Stays of the challenge: sicker ones have a faster heart, a lactate more often, and die more often."""
    rng, answers = np.random.default_rng(3), ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    (root / "set-a").mkdir(parents=True)
    for record, ill in enumerate(rng.normal(size=n), 1000):
        rows = [("00:00", "RecordID", record), ("00:00", "Age", 50 + record % 40), ("00:00", "ICUType", 1 + record % 4)]
        rows += [(f"{hour:02d}:10", "HR", round(80 + 15 * ill + hour / 9, 1)) for hour in range(0, 48, 6)]
        rows += [("07:30", "Lactate", round(2.5 + ill / 2, 2))] * bool(rng.random() < 0.5 + ill / 4)
        text = "\n".join(["Time,Parameter,Value", *(f"{at},{name},{value}" for at, name, value in rows), ""])
        (root / "set-a" / f"{record}.txt").write_text(text)
        answers.append(f"{record},6,1,9,-1,{int(ill + rng.normal() > 0.7)}")
    (root / "Outcomes-a.txt").write_text("\n".join([*answers, ""]))


def test_the_challenges_stays_are_scored_without_outcomes_and_what_comes_later_moves_nothing(tmp_path: Path) -> None:
    challenge(tmp_path / "raw")
    cli.prepare.physionet2012(root=tmp_path / "raw", out=tmp_path / "store")
    run = train_run(tmp_path / "store", "logistic-pattern", tmp_path / "run", ("fits=2",))
    cli.prepare.physionet2012(root=tmp_path / "raw", out=tmp_path / "twin", like=run.folder)
    assert open_store(tmp_path / "twin").fingerprint == open_store(tmp_path / "store").fingerprint
    (tmp_path / "raw" / "Outcomes-a.txt").unlink()
    before = predict(run, root=tmp_path / "raw").frame
    check_door(run, before)
    for file in (tmp_path / "raw" / "set-a").iterdir():
        file.write_text(file.read_text() + "48:01,HR,300\n60:00,Lactate,29\n")
    assert predict(run, root=tmp_path / "raw").frame.equals(before)
    one = tmp_path / "one" / "set-a"
    one.mkdir(parents=True)
    shutil.copy(tmp_path / "raw" / "set-a" / "1007.txt", one)
    (one / "7.txt").write_text("Time,Parameter,Value\n00:00,RecordID,7\n")  # of whom nothing is known
    alone = predict(run, root=tmp_path / "one").frame
    assert alone.filter(stay_id=1007).equals(before.filter(stay_id=1007))
    assert alone.filter(stay_id=7)["mortality.risk"].is_between(0, 1).all()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="set-a"):
        predict(run, root=tmp_path / "empty")
    (tmp_path / "empty" / "set-a").mkdir()
    with pytest.raises(SourceError):
        predict(run, root=tmp_path / "empty")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    place = tmp_path_factory.mktemp("use")
    gone = [{"name": "moved away", "column": "sex", "values": ["x"]}]
    sexes = pl.Series(np.where(np.arange(500) % 25 == 0, "x", visits()["sex"].to_numpy()))
    cli.prepare.table(str(put(place, visits().with_columns(sex=sexes), exclude=gone)), out=place / "store")
    return train_run(place / "store", "logistic-pattern", place / "run", ("fits=2",)), place


def test_the_command_writes_one_file_and_leaves_nothing_beside_it(
    ward: tuple[Run, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, place = ward
    visits().drop("died").with_columns(sex=pl.lit("f")).write_csv(tmp_path / "new.csv")
    for _ in range(2):  # a file of before is replaced
        cli.predict.predict(run.folder, table=tmp_path / "new.csv", out=tmp_path / "r" / "risks.parquet")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["risks.parquet"]
    assert pl.read_parquet(tmp_path / "r" / "risks.parquet").equals(predict(run, table=tmp_path / "new.csv").frame)
    told = capsys.readouterr().out
    assert "modality 'image': nobody has it" in told
    assert "patient data" in told
    with pytest.raises(ConfigError, match="a file to write, got a folder"):
        cli.predict.predict(run.folder, table=tmp_path / "new.csv", out=tmp_path / "r")
    with pytest.raises(ConfigError, match="--notes: expected a run on MIMIC-IV, got one on 'table'"):
        predict(run, table=tmp_path / "new.csv", notes=place)


def test_who_is_left_out_is_said(ward: tuple[Run, Path], tmp_path: Path) -> None:
    run, _ = ward
    frame = visits().drop("died").with_columns(sex=pl.Series(["x"] * 20 + ["f"] * 480))
    frame.write_csv(tmp_path / "new.csv")
    scored = predict(run, table=tmp_path / "new.csv")
    assert scored.frame.height == 480
    assert "cohort: 20 left out by the rule 'not: moved away'" in scored.warnings


def test_patients_still_there_are_asked_and_tasks_only_at_their_own_moment(tmp_path: Path) -> None:
    cli.simulate.mimic_iv(patients=150, out=tmp_path / "raw")
    release = tmp_path / "raw" / "mimiciv" / "3.1"
    cli.prepare.mimic_iv(root=release, out=tmp_path / "store")
    store = open_store(tmp_path / "store")
    run = train_run(tmp_path / "store", "logistic-pattern", tmp_path / "run", ("fits=2",))
    before = predict(run, root=release).frame
    for k, task in enumerate(store.schema.task_names):
        known = pl.DataFrame(
            {"stay_id": store.stay_id, "prediction_time": pl.Series(store.prediction_time).cast(pl.Datetime("us"))}
        )
        asked = known.filter(pl.Series(store.label_mask[:, k]))
        risks = asked.join(before, on=["stay_id", "prediction_time"], how="left")[f"{task}.risk"]
        assert risks.null_count() == 0
    assert before["mortality.risk"].null_count() > 0  # at discharge nobody asks it
    assert (before["mortality.risk"].is_null() == before["mortality.low"].is_null()).all()
    subject = before["subject_id"][0]
    few = tmp_path / "few"
    for file in release.rglob("*.csv.gz"):
        table = pl.read_csv(file, infer_schema=False)
        if "subject_id" in table.columns:
            table = table.filter(subject_id=str(subject))
        if file.name == "labevents.csv.gz":  # what is known later
            noise = {"charttime": "2399-01-01 00:00:00", "storetime": "2399-01-01 00:00:00", "valuenum": "77"}
            table = pl.concat([table, table.with_columns(pl.lit(cell).alias(name) for name, cell in noise.items())])
        (few / file.parent.name).mkdir(parents=True, exist_ok=True)
        table.write_csv(few / file.parent.name / file.name.removesuffix(".gz"))
    assert predict(run, root=few).frame.equals(before.filter(subject_id=subject))
    admissions = next(release.rglob("admissions.csv*"))
    table = pl.read_csv(admissions, infer_schema=False)
    unknown = ("dischtime", "deathtime", "discharge_location", "hospital_expire_flag")
    admissions.unlink()
    table.with_columns(pl.lit(None, pl.String).alias(c) for c in unknown).write_csv(
        admissions.with_name("admissions.csv")
    )
    now = predict(run, root=release).frame
    both = now.join(before.drop_nulls("mortality.risk"), on=["stay_id", "prediction_time"], how="semi")
    assert both.height == before["mortality.risk"].count()
    assert now["readmission.risk"].null_count() == now.height  # nobody is discharged yet


def test_a_cell_means_the_same_whatever_other_cells_there_are(tmp_path: Path) -> None:
    codes = pl.Series(np.random.default_rng(1).choice(["250", "250.0", "250.83", "9"], 500))
    modalities = {
        "codes": [{"column": "code", "type": "category"}],
        "scan": [{"column": "density", "categories": ["a"]}],
    }
    spec = put(tmp_path, visits().with_columns(code=codes), modalities=modalities)
    cli.prepare.table(str(spec), out=tmp_path / "store")
    assert open_store(tmp_path / "store").schema.modalities[1].features[0].categories == ("a", "other")
    run = train_run(tmp_path / "store", "logistic-pattern", tmp_path / "run", ("fits=2",))
    frame = visits().drop("died").with_columns(code=codes, person=pl.format("P-{}", "person"))
    frame.write_csv(tmp_path / "all.csv")
    together = predict(run, table=tmp_path / "all.csv").frame
    assert together["death.risk"].n_unique() == 4
    assert set(together["subject"]) == set(frame["person"])  # as the table writes them, for our numbers are hashes
    for code in ("250", "250.0", "250.83", "9"):
        frame.filter(code=code).head(1).write_csv(tmp_path / "one.csv")
        one = predict(run, table=tmp_path / "one.csv").frame
        assert one.equals(together.filter(stay_id=one["stay_id"][0]))
    frame.head(3).with_columns(density=pl.Series(["a", " A", "b"])).write_csv(tmp_path / "scan.csv")
    scans = predict(run, table=tmp_path / "scan.csv")  # nobody had one in training
    assert set(scans.frame["absent"]) == {""}
    assert scans.frame["training_patients"].null_count() == 3
    single = train_run(
        tmp_path / "store", "logistic-pattern", tmp_path / "single", ("fit=single", "rectifier.rule=none")
    )
    counted = predict(single, table=tmp_path / "all.csv").frame  # a run without risks out of fold knows it, too
    data = open_store(tmp_path / "store")
    fold = data.fold(Split(**single.record["config"]["split"]), "train")
    for pattern, n in counted.select("pattern", "training_patients").unique().rows():
        people = len(np.unique(fold.subject_id[(fold.present == [bit == "1" for bit in pattern]).all(1)]))
        assert n == (people if people >= 10 else None)
    assert counted["training_patients"].max() < together["training_patients"].max()
    assert any("'density': fewer than 10 rows pooled" in line and "taken as one" in line for line in scans.warnings)


def test_a_stacks_risk_lies_within_its_spread_and_its_networks_score_as_they_did(
    ward: tuple[Run, Path], tmp_path: Path
) -> None:
    _, place = ward
    short = ("fits=2", "train.max_epochs=2", "train.min_steps=0", "model.members=crl-mmnar,logistic-pattern")
    run = train_run(place / "store", "stack", tmp_path / "run", short)
    visits().drop("died").with_columns(sex=pl.lit("f")).write_csv(tmp_path / "all.csv")
    frame = predict(run, table=tmp_path / "all.csv").frame
    found = pl.DataFrame({"stay_id": run.test.stay_id}).join(frame, on="stay_id", how="left", maintain_order="left")
    assert np.allclose(found["death.risk"].to_numpy(), run.test.proba[:, 0], rtol=0, atol=1e-6)
    assert (frame["death.low"] <= frame["death.risk"]).all()
    assert (frame["death.risk"] <= frame["death.high"]).all()
    visits().drop("died").slice(7, 1).write_csv(tmp_path / "one.csv")
    alone = predict(run, table=tmp_path / "one.csv").frame["death.risk"][0]
    assert abs(alone - frame.filter(stay_id=1007)["death.risk"][0]) < 1e-6


def test_the_recipe_decides_what_it_decides_and_moments_are_on_the_records_clock(tmp_path: Path) -> None:
    challenge(tmp_path / "raw")
    cli.prepare.physionet2012(root=tmp_path / "raw", out=tmp_path / "store", bin_hours=4.0)
    run = train_run(tmp_path / "store", "pattern-only", tmp_path / "run", ("fits=2",))
    with pytest.raises(ConfigError, match="none that the run's recipe decides, got --bin-hours"):
        cli.prepare.physionet2012(root=tmp_path / "raw", out=tmp_path / "x", bin_hours=2.0, like=run.folder)
    moment = pl.DataFrame({"subject_id": [1007], "prediction_time": [datetime(2000, 1, 2)]})
    moment.write_parquet(tmp_path / "plain.parquet")
    assert predict(run, root=tmp_path / "raw", at=tmp_path / "plain.parquet").frame["mortality.risk"].null_count() == 0
    moment.with_columns(pl.col("prediction_time").dt.replace_time_zone("UTC")).write_parquet(tmp_path / "zoned.parquet")
    with pytest.raises(SourceError, match="times without a zone"):
        predict(run, root=tmp_path / "raw", at=tmp_path / "zoned.parquet")
    large = moment.with_columns(subject_id=pl.Series([2**64 - 1], dtype=pl.UInt64))
    large.write_parquet(tmp_path / "large.parquet")
    with pytest.raises(SourceError, match="with an empty cell") as refusal:
        predict(run, root=tmp_path / "raw", at=tmp_path / "large.parquet")
    assert str(2**64 - 1) not in str(refusal.value)


def hospital(root: Path, people: range, codes: tuple[str, str] = ("LAB//lactate", "DX//sepsis")) -> pl.DataFrame:
    """A MEDS data set; sicker people have more lactate, and sepsis more often."""
    rng, rows = np.random.default_rng(7), []
    start = datetime(2020, 1, 1)
    for ill, subject in zip(rng.normal(size=len(people)), people, strict=True):
        rows += [(subject, datetime(1960, 1, 1), "MEDS_BIRTH", None)]
        rows += [(subject, start + timedelta(hours=h), codes[0], float(round(2 + ill / 2, 2))) for h in range(3)]
        rows += [(subject, start + timedelta(hours=5), codes[1], None)] * bool(rng.random() < 0.5 + ill / 5)
        rows += [(subject, start + timedelta(days=9), "MEDS_DEATH", None)] * bool(ill + rng.normal() > 0.7)
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32}
    frame = pl.DataFrame(rows, schema, orient="row")
    (root / "data" / "train").mkdir(parents=True)
    frame.write_parquet(root / "data" / "train" / "0.parquet")
    return frame


MODALITIES = """
laboratory: {kind: series, codes: [LAB//*]}
diagnoses: {codes: [DX//*]}
person: {features: {age: {codes: [AGE_AT_PREDICTION], unit: a}}}
"""


def test_a_meds_data_set_is_read_by_the_runs_modalities_whatever_codes_it_has(tmp_path: Path) -> None:
    events = hospital(tmp_path / "raw", range(1, 161))
    died = events.filter(code="MEDS_DEATH")["subject_id"].to_list()
    asked = events.select("subject_id").unique().sort("subject_id").with_columns(prediction_time=datetime(2020, 1, 3))
    (tmp_path / "labels").mkdir()
    asked.with_columns(boolean_value=pl.col("subject_id").is_in(died)).write_parquet(tmp_path / "labels" / "d.parquet")
    (tmp_path / "modalities.yaml").write_text(MODALITIES)
    given = {"root": tmp_path / "raw", "labels": tmp_path / "labels"}
    cli.prepare.meds(**given, out=tmp_path / "store", modalities=tmp_path / "modalities.yaml")
    run = train_run(tmp_path / "store", "logistic-pattern", tmp_path / "run", ("fits=2",))
    cli.prepare.meds(**given, out=tmp_path / "twin", like=run.folder)
    assert open_store(tmp_path / "twin").fingerprint == open_store(tmp_path / "store").fingerprint
    asked.write_parquet(tmp_path / "times.parquet")
    scored = predict(run, events=tmp_path / "raw", at=tmp_path / "times.parquet")
    check_door(run, scored.frame)
    assert "2 of 5 codes of the data set are in no feature of the run" in scored.warnings  # birth and death
    hospital(tmp_path / "one", range(1, 2), ("LAB//lactate", "OTHER//1"))
    alone = predict(run, events=tmp_path / "one", at=tmp_path / "times.parquet")
    assert any("subjects asked about are not in the data set: left out" in line for line in alone.warnings)
    lab = scored.frame.row(0, named=True)
    assert alone.frame.height == 1
    assert alone.frame["pattern"][0][0] == lab["pattern"][0] == "1"
    hospital(tmp_path / "else", range(1, 4), ("X//1", "X//2"))
    nothing = predict(run, events=tmp_path / "else", at=tmp_path / "times.parquet")
    assert set(nothing.frame["absent"]) == {"laboratory,diagnoses"}
    assert "modality 'laboratory': nobody has it" in nothing.warnings
    for wrong, why in (
        (asked.with_columns(pl.col("subject_id") + 1000), "moments asked about: expected subjects of this data set"),
        (asked.with_columns(pl.col("prediction_time").dt.replace_time_zone("UTC")), "all with a zone, or none"),
    ):
        wrong.write_parquet(tmp_path / "wrong.parquet")
        with pytest.raises(SourceError, match=why):
            predict(run, events=tmp_path / "raw", at=tmp_path / "wrong.parquet")


def test_images_are_not_taken_for_vectors(tmp_path: Path) -> None:
    put(tmp_path, visits())
    extract = plan_table(load_spec(tmp_path / "spec.yaml"), tmp_path).extract()
    schema = Schema((ModalitySpec("xray", kind="embedding", shape=(4,)),), (Task("death", "", ""),))
    recipe = Recipe("mimic-iv", {}, (VectorRule("xray", ("XRAY",), Path(), 4),), schema, 0.8)
    assert recipe.follow(extract, tmp_path).rules[0].modality == "xray"
    with pytest.raises(SchemaError, match=r"'xray': expected vectors \(--embeddings\), as the run's, got images"):
        recipe.follow(replace(extract, rules=(ImageRule("xray", ("XRAY",), tmp_path),)), tmp_path)
