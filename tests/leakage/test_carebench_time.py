"""CareBench: neither what became known after the question nor the index stay's own codes move a bit of the inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import Cohort, build_cohort
from mmnar.cohort.carebench import carebench_criteria, carebench_questions
from mmnar.dataset.content import Packed
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.simulation.mimic_iv.release import CXR, IV, write_mimic_iv
from mmnar.sources.mimic_iv.carebench import read_carebench

FORM = "%Y-%m-%d %H:%M:%S"
RNG = np.random.default_rng(0)
RHYTHMS = ("SR (Sinus Rhythm)", "AF (Atrial Fibrillation)", "ST (Sinus Tachycardia)", "A Paced")


def time(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime(FORM, strict=False, time_unit="us")


def raw(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def charted(stays: pl.DataFrame, items: dict[str, tuple[str, ...]], every: int, unit: str = "") -> pl.DataFrame:
    """Rows of unit stays, one item after another, from a day before the unit on to three days after admission to it;
    one in four is entered up to half a day late."""
    hours = np.arange(-24, 72, every)
    frame = stays.join(pl.DataFrame({"hour": hours}), how="cross")
    pick = RNG.integers(0, len(items), frame.height)
    words = [str(RNG.choice(list(items.values())[i])) for i in pick]
    late = np.where(RNG.random(frame.height) < 0.25, RNG.integers(1, 720, frame.height), 0)
    at = time("intime") + pl.duration(hours="hour", minutes=pl.Series(RNG.integers(0, 59, frame.height)))
    return frame.select(
        *("subject_id", "hadm_id", "stay_id"),
        charttime=at.dt.strftime(FORM),
        storetime=(at + pl.duration(minutes=pl.Series(late))).dt.strftime(FORM),
        itemid=pl.Series([list(items)[i] for i in pick]),
        value=pl.Series(words),
        valuenum=pl.Series([w if w.isdigit() else None for w in words]),
        valueuom=pl.lit(unit or None, pl.String),
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated tree whose charts tell what CareBench reads, too."""
    out = tmp_path_factory.mktemp("simulated") / "tree"
    write_mimic_iv(out, 80, seed=5, images=True)
    stays = raw(out / IV / "icu" / "icustays.csv.gz").select("subject_id", "hadm_id", "stay_id", "intime")
    scores = {"220739": ("1", "3", "4"), "223900": ("No Response-ETT", "2", "5"), "223901": ("1", "5", "6")}
    texts = {"220048": RHYTHMS, "224650": ("None", "PVCs", "PACs")}
    weights = {"226512": ("70", "90"), "224639": ("72", "95")}
    outputs = {"226559": ("30", "200"), "227489": ("500",), "227488": ("400",)}
    chart = pl.concat([charted(stays, scores, 2), charted(stays, texts, 3), charted(stays, weights, 12, "kg")])
    for name, rows in (("chartevents", chart), ("outputevents", charted(stays, outputs, 1, "mL").drop("valuenum"))):
        path = out / IV / "icu" / f"{name}.csv.gz"
        frame = pl.concat([raw(path), rows], how="diagonal")
        path.unlink()
        frame.write_csv(path.with_suffix(""))
    return out


def read(tree: Path, work: Path) -> tuple[Cohort, PatientDataset]:
    extract = read_carebench(tree / IV, work=work, cxr=tree / CXR, side=32)
    # of so few patients a question has one answer only: any of them will do
    questions = [q for q in carebench_questions() if q.task.name in ("mortality", "los_2_3")]
    cohort = build_cohort(extract, carebench_criteria(notes=False, matched=False), questions)
    return cohort, dataset_of(extract, cohort, Gathering(folder=work))


@pytest.fixture(scope="module")
def clean(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, PatientDataset]:
    return read(tree, tmp_path_factory.mktemp("clean"))


def copy_with(tree: Path, copy: Path, changed: dict[str, pl.DataFrame]) -> Path:
    """The tree with some of its tables exchanged."""
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree)
        if path.is_file() and name.name.partition(".csv")[0] not in {Path(key).name for key in changed}:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).symlink_to(path)
    for key, frame in changed.items():
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        # no ``with_suffix``: some names have points of their own
        frame.write_csv(copy / f"{key}.csv")
    return copy


def assert_same_inputs(first: PatientDataset, second: PatientDataset) -> None:
    assert first.schema == second.schema
    for name in ("subject_id", "hadm_id", "stay_id", "prediction_time", "present"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    for modality, content in first.values.items():
        other = second.values[modality]
        assert isinstance(content, Packed)
        assert isinstance(other, Packed)
        theirs = other.arrays()
        for name, array in content.arrays().items():
            assert array.tobytes() == theirs[name].tobytes(), f"{modality}.{name}"


def table(tree: Path, name: str) -> pl.DataFrame:
    return raw(next((tree / IV).glob(f"*/{name}.csv*")))


def noisy(frame: pl.DataFrame, moments: pl.DataFrame, times: tuple[str, ...]) -> pl.DataFrame:
    """Rows known after the question: contents exchanged, times moved on, some removed, some made up."""
    joined = frame.join(moments, on="subject_id", how="left", maintain_order="left")
    known = pl.max_horizontal(*(time(t) for t in times))
    rows = np.flatnonzero(joined.select((known > pl.col("moment")).fill_null(False)).to_series().to_numpy())
    assert len(rows) > 100
    donors = np.arange(frame.height)
    donors[rows] = RNG.integers(0, frame.height, len(rows))
    minutes = np.zeros(frame.height, dtype=np.int64)
    minutes[rows] = RNG.integers(0, 3000, len(rows))
    on = pl.duration(minutes=pl.Series(minutes))
    ids = ("subject_id", "hadm_id", "stay_id")
    changed = frame.with_columns(frame[c].gather(donors) for c in frame.columns if c not in (*ids, *times))
    changed = changed.with_columns((time(t) + on).dt.strftime(FORM).alias(t) for t in times)
    keep = np.ones(frame.height, dtype=bool)
    keep[rows[RNG.random(len(rows)) < 0.2]] = False
    return pl.concat([changed.filter(pl.Series(keep)), changed[rows[RNG.random(len(rows)) < 0.2]]])


def test_noise_after_the_question_moves_no_bit(
    tree: Path, tmp_path: Path, clean: tuple[Cohort, PatientDataset]
) -> None:
    cohort, data = clean
    moments = cohort.samples.select(pl.col("subject_id").cast(pl.String), moment="prediction_time")
    moments = moments.group_by("subject_id").agg(pl.col("moment").min())
    changed = {
        "icu/chartevents": noisy(table(tree, "chartevents"), moments, ("charttime", "storetime")),
        "icu/outputevents": noisy(table(tree, "outputevents"), moments, ("charttime", "storetime")),
    }
    stays = table(tree, "icustays")
    longer = pl.duration(hours=pl.Series(RNG.integers(0, 400, stays.height)))
    still = pl.col("stay_id").is_in(cohort.samples["stay_id"].cast(pl.String).implode())
    later = pl.when(still).then(time("outtime") + longer).otherwise(time("outtime"))
    changed["icu/icustays"] = stays.with_columns(outtime=later.dt.strftime(FORM))
    changed["hosp/admissions"] = other_ends(table(tree, "admissions"), cohort)
    metadata = raw(tree / CXR / "mimic-cxr-2.0.0-metadata.csv.gz")
    changed = {str(IV / key): frame for key, frame in changed.items()}
    changed[str(CXR / "mimic-cxr-2.0.0-metadata")] = films(metadata, moments)
    _, other = read(copy_with(tree, tmp_path / "copy", changed), tmp_path / "noisy")
    assert_same_inputs(data, other)
    assert (data.labels != other.labels).any(axis=0).all()


def other_ends(admissions: pl.DataFrame, cohort: Cohort) -> pl.DataFrame:
    """Of the admissions asked of, half of the dead live and half of the living die; all leave later."""
    ours = pl.col("hadm_id").is_in(cohort.samples["hadm_id"].cast(pl.String).implode())
    left = time("dischtime") + pl.when(ours).then(pl.duration(hours=60)).otherwise(pl.duration())
    turned = ours & pl.Series(RNG.random(admissions.height) < 0.5)
    dead = (pl.col("hospital_expire_flag") == "1") ^ turned
    return admissions.with_columns(dischtime=left.dt.strftime(FORM)).with_columns(
        hospital_expire_flag=dead.cast(pl.Int8).cast(pl.String),
        deathtime=pl.when(dead).then("dischtime"),
        discharge_location=pl.when(dead).then(pl.lit("DIED")).otherwise(pl.lit("HOME")),
    )


def films(metadata: pl.DataFrame, moments: pl.DataFrame) -> pl.DataFrame:
    """Films after the question get other views and days."""
    clock = pl.col("StudyTime").str.split(".").list.first().str.zfill(6)
    taken = (pl.col("StudyDate") + clock).str.to_datetime("%Y%m%d%H%M%S", time_unit="us")
    joined = metadata.join(moments, on="subject_id", how="left", maintain_order="left")
    after = joined.select((taken > pl.col("moment")).fill_null(False)).to_series()
    assert after.sum() > 3
    date = pl.when(after).then((pl.col("StudyDate").cast(pl.Int64) + 10_000).cast(pl.String)).otherwise("StudyDate")
    view = pl.when(after).then(pl.lit("AP")).otherwise("ViewPosition")
    return metadata.with_columns(StudyDate=date, ViewPosition=view)


def test_codes_of_the_index_stay_move_no_bit(tree: Path, tmp_path: Path, clean: tuple[Cohort, PatientDataset]) -> None:
    codes = table(tree, "diagnoses_icd")
    order = RNG.permutation(codes.height)
    shuffled = codes.with_columns(codes[name].gather(order) for name in ("icd_code", "icd_version"))
    name = str(IV / "hosp" / "diagnoses_icd")
    _, other = read(copy_with(tree, tmp_path / "copy", {name: shuffled}), tmp_path / "shuffled")
    assert_same_inputs(clean[1], other)
    # as a check on the check: what the events hold has no code of a bill
    meds = pl.read_parquet(sorted((tmp_path / "shuffled" / "meds" / "data").glob("*.parquet")))
    assert not meds["code"].str.contains("PHENOTYPE|DIAGNOSIS|DISCHARGE").any()
    assert meds["code"].str.contains("GCS").any()


def test_late_rows_are_there_to_be_left_out(clean: tuple[Cohort, PatientDataset]) -> None:
    """The test above would be empty if nothing were entered late, nor any rate or film known."""
    _, data = clean
    names = data.schema.modalities[0].feature_names
    content = data.values["ehr"]
    assert isinstance(content, Packed)
    seen = np.bincount(content.arrays()["feature"], minlength=len(names))
    for name in ("gcs_total", "urine_rate_6h", "urine_rate_24h", "weight", "sinus_rhythm", "ectopy_none"):
        assert seen[names.index(name)] > 20, name
    assert data.present[:, data.schema.modality_names.index("cxr")].sum() > 5
