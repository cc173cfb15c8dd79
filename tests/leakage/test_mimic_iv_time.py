"""MIMIC-IV, notes and X-rays: what became known after the question, replaced by noise, moves no bit of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import Question, build_cohort
from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
from mmnar.dataset.content import Packed
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.images.tfrecord import pack_embeddings
from mmnar.simulation.mimic_iv.release import CXR, EMBEDDINGS, IV, NOTES, write_mimic_iv
from mmnar.sources.mimic_iv import read_mimic_iv

FORM = "%Y-%m-%d %H:%M:%S"


def _time(column: str) -> pl.Expr:
    text = pl.col(column)
    day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    return pl.coalesce(text.str.to_datetime(FORM, strict=False, time_unit="us"), day)


def _later(first: pl.Expr, *others: pl.Expr) -> pl.Expr:
    return pl.max_horizontal(first, *others)


HOUR, DAY = pl.duration(hours=1), pl.duration(days=1)
CHARTED = _later(_time("charttime"), _time("storetime"))
BEGUN = _later(_time("starttime"), pl.coalesce(_time("storetime"), _time("endtime")))

KNOWN: dict[str, tuple[pl.Expr, tuple[str, ...]]] = {
    "hosp/labevents": (
        _later(_time("charttime"), pl.coalesce(_time("storetime"), _time("charttime") + HOUR)),
        ("charttime", "storetime"),
    ),
    "hosp/prescriptions": (_time("starttime"), ("starttime", "stoptime")),
    "hosp/diagnoses_icd": (pl.col("left") + DAY, ()),
    "hosp/omr": (_time("chartdate") + DAY, ("chartdate",)),
    "icu/chartevents": (CHARTED, ("charttime", "storetime")),
    "icu/outputevents": (CHARTED, ("charttime", "storetime")),
    "icu/inputevents": (BEGUN, ("starttime", "endtime", "storetime")),
    "icu/procedureevents": (BEGUN, ("starttime", "endtime", "storetime")),
    "discharge": (_later(CHARTED, pl.col("left")), ("charttime", "storetime")),
    "radiology": (
        _later(_time("charttime"), pl.coalesce(_time("storetime"), _time("charttime") + DAY)),
        ("charttime", "storetime"),
    ),
}
"""Table → when a row is known, and the columns that are moved on. Written down here a second time on purpose."""

IDS = ("subject_id", "hadm_id", "stay_id", "note_id")


class _Noise:
    """Replaces what is later than each subject's moment."""

    def __init__(self, moments: pl.DataFrame, left: pl.DataFrame) -> None:
        self._moments = moments.select(pl.col("subject_id").cast(pl.String), "moment")
        self._left = left
        self._rng = np.random.default_rng(0)

    def future(self, frame: pl.DataFrame, known: pl.Expr) -> np.ndarray:
        joined = frame.join(self._moments, on="subject_id", how="left", maintain_order="left")
        if "hadm_id" in frame.columns:
            joined = joined.join(self._left, on="hadm_id", how="left", maintain_order="left")
        return np.flatnonzero(joined.select((known > pl.col("moment")).fill_null(False)).to_series().to_numpy())

    def exchanged(self, frame: pl.DataFrame, rows: np.ndarray, columns: list[str]) -> pl.DataFrame:
        donors = np.arange(frame.height)
        donors[rows] = self._rng.integers(0, frame.height, len(rows))
        return frame.with_columns(frame[column].gather(donors) for column in columns)

    def moved(self, frame: pl.DataFrame, rows: np.ndarray, times: tuple[str, ...]) -> pl.DataFrame:
        minutes = np.zeros(frame.height, dtype=np.int64)
        minutes[rows] = self._rng.integers(0, 3000, len(rows))
        on = pl.duration(minutes=pl.Series(minutes))
        return frame.with_columns((_time(t) + on).dt.strftime(FORM).alias(t) for t in times)

    def table(self, frame: pl.DataFrame, known: pl.Expr, times: tuple[str, ...]) -> pl.DataFrame:
        """Contents exchanged, times moved on, one in ten removed, one in ten doubled, a hundred made up."""
        made_up = self.made_up(frame, times)
        rows = self.future(frame, known)
        assert len(rows) + made_up.height > 10
        noisy = self.exchanged(frame, rows, [c for c in frame.columns if c not in (*IDS, *times)])
        noisy = self.moved(noisy, rows, times)
        fate = self._rng.random(len(rows))
        keep = np.ones(frame.height, dtype=bool)
        keep[rows[fate < 0.1]] = False
        return pl.concat([noisy.filter(pl.Series(keep)), noisy[rows[fate > 0.9]], made_up])

    def made_up(self, frame: pl.DataFrame, times: tuple[str, ...]) -> pl.DataFrame:
        """Rows of now, a day or so after the question."""
        asked = frame.join(self._moments, on="subject_id", how="inner", maintain_order="left")
        known = asked[self._rng.integers(0, asked.height, 100 if times else 0)]
        minutes = pl.duration(minutes=pl.Series(self._rng.integers(1, 3000, known.height)))
        at = (pl.col("moment") + minutes).dt.strftime(FORM)
        return known.with_columns(at.alias(t) for t in times).select(frame.columns)

    def admissions(self, frame: pl.DataFrame, open_stay: bool) -> pl.DataFrame:
        """Later admissions become others, later; of an admission that is not over, its end is another."""
        rows = self.future(frame, _time("admittime"))
        words = ["admission_type", "admission_location", "insurance", "language", "marital_status", "race"]
        noisy = self.exchanged(frame, rows, words)
        noisy = self.moved(noisy, rows, ("admittime", "dischtime", "edregtime", "edouttime"))
        # the living go elsewhere
        living = np.flatnonzero((frame["discharge_location"] != "DIED").fill_null(False).to_numpy())
        noisy = noisy.with_columns(discharge_location=pl.Series(self._places(noisy, living)))
        if not open_stay:
            return noisy
        rows = self.future(frame, _time("dischtime"))
        noisy = self.moved(noisy, rows, ("dischtime",))
        flips = np.zeros(frame.height, dtype=bool)
        flips[rows] = self._rng.random(len(rows)) < 0.5
        died = pl.col("hospital_expire_flag") == "1"
        dies = pl.when(pl.Series(flips)).then(~died).otherwise(died)
        return noisy.with_columns(
            hospital_expire_flag=dies.cast(pl.Int8).cast(pl.String),
            deathtime=pl.when(dies).then(pl.coalesce("deathtime", "dischtime")),
            discharge_location=pl.when(dies)
            .then(pl.lit("DIED"))
            .otherwise(pl.col("discharge_location").replace("DIED", "HOME")),
        )

    def _places(self, frame: pl.DataFrame, living: np.ndarray) -> np.ndarray:
        places = frame["discharge_location"].to_numpy().copy()
        places[living] = self._rng.permutation(places[living])
        return places

    def icustays(self, frame: pl.DataFrame) -> pl.DataFrame:
        noisy = self.exchanged(frame, np.arange(frame.height), ["last_careunit", "los"])
        rows = self.future(frame, _time("intime"))
        return self.moved(self.exchanged(noisy, rows, ["first_careunit"]), rows, ("intime", "outtime"))

    def patients(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Death at any later day, or none."""
        days = pl.duration(days=pl.Series(self._rng.integers(1, 400, frame.height)))
        known = frame.join(self._moments, on="subject_id", how="left", maintain_order="left")
        dies = pl.Series(self._rng.random(frame.height) < 0.5)
        dod = pl.when(dies).then((pl.col("moment") + days).dt.strftime("%Y-%m-%d"))
        return known.with_columns(dod=dod).select(frame.columns)

    def xrays(self, frame: pl.DataFrame) -> pl.DataFrame:
        taken = (pl.col("StudyDate") + pl.col("StudyTime").str.split(".").list.first().str.zfill(6)).str.to_datetime(
            "%Y%m%d%H%M%S", time_unit="us"
        )
        rows = self.future(frame, taken)
        assert len(rows) > 3
        date = frame["StudyDate"].cast(pl.Int64).to_numpy().copy()
        date[rows] += 10_000  # a year
        noisy = self.exchanged(frame, rows, ["ViewPosition", "StudyTime"])
        return noisy.with_columns(StudyDate=pl.Series(date).cast(pl.String))


def _raw(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def _noisy(tree: Path, copy: Path, moments: pl.DataFrame, open_stay: bool) -> Path:
    admissions = _raw(tree / IV / "hosp" / "admissions.csv.gz")
    noise = _Noise(moments, admissions.select("hadm_id", left=_time("dischtime")))
    whole: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "hosp/admissions": lambda frame: noise.admissions(frame, open_stay),
        "hosp/patients": noise.patients,
        "icu/icustays": noise.icustays,
    }
    for name in (*KNOWN, *whole):
        folder = IV if "/" in name else NOTES
        frame = _raw(tree / folder / f"{name}.csv.gz")
        noisy = whole[name](frame) if name in whole else noise.table(frame, *KNOWN[name])
        target = copy / folder / f"{name}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        noisy.write_csv(target)
    (copy / CXR).mkdir(parents=True)
    name = "mimic-cxr-2.0.0-metadata.csv"
    noise.xrays(_raw(tree / CXR / f"{name}.gz")).write_csv(copy / CXR / name)
    (copy / EMBEDDINGS).symlink_to(tree / EMBEDDINGS)
    return copy


def _dataset(tree: Path, work: Path, question: Question, structured: str) -> PatientDataset:
    extract = read_mimic_iv(
        tree / IV,
        work=work,
        notes=tree / NOTES.parent,
        cxr=tree / CXR,
        embeddings=pack_embeddings(tree / EMBEDDINGS, work / "embeddings"),
        structured=structured,  # type: ignore[arg-type]
    )
    return dataset_of(extract, build_cohort(extract, mimic_iv_criteria(), (question,)))


def _assert_same_inputs(first: PatientDataset, second: PatientDataset) -> None:
    assert first.schema == second.schema
    for name in ("subject_id", "hadm_id", "stay_id", "prediction_time", "present"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    for modality, content in first.values.items():
        other = second.values[modality]
        if isinstance(content, Packed):
            assert isinstance(other, Packed)
            theirs = other.arrays()
            for name, array in content.arrays().items():
                assert array.tobytes() == theirs[name].tobytes(), f"{modality}.{name}"
            continue
        names = first.schema.modalities[first.schema.modality_names.index(modality)].feature_names
        moved = (np.asarray(content).view(np.uint32) != np.asarray(other).view(np.uint32)).any(axis=0)
        assert not moved.any(), f"{modality}: {[n for n, m in zip(names, moved, strict=True) if m]}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "tree"
    write_mimic_iv(out, 150, seed=5)
    return out


@pytest.mark.parametrize(
    ("task", "structured"), [("mortality", "aggregates"), ("readmission", "aggregates"), ("mortality", "series")]
)
def test_the_future_moves_no_bit(tree: Path, tmp_path: Path, task: str, structured: str) -> None:
    question = next(q for q in mimic_iv_questions() if q.task.name == task)
    clean = _dataset(tree, tmp_path / "clean", question, structured)
    asked = clean.prediction_time.astype("datetime64[us]")
    moments = pl.DataFrame({"subject_id": clean.subject_id, "moment": asked})
    noisy = _noisy(tree, tmp_path / "copy", moments, open_stay=task == "mortality")
    _assert_same_inputs(clean, _dataset(noisy, tmp_path / "noisy", question, structured))
    if task == "mortality":
        flipped = _dataset(noisy, tmp_path / "noisy", question, structured).labels
        assert (flipped != clean.labels).mean() > 0.2
