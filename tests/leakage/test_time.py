"""What became known after the prediction time, replaced by noise, moves no bit of the inputs: on the open demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import build_cohort
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.sources.eicu import read_eicu
from tests.records import open_data

DAY = 24 * 60
KNOWN = {
    "diagnosis": ("diagnosisoffset",),
    "admissiondx": ("admitdxenteredoffset",),
    "pasthistory": ("pasthistoryenteredoffset",),
    "medication": ("drugorderoffset",),
    "infusiondrug": ("infusionoffset",),
    "treatment": ("treatmentoffset",),
    "vitalaperiodic": ("observationoffset",),
    "respiratorycharting": ("respchartoffset", "respchartentryoffset"),
    "respiratorycare": ("respcarestatusoffset",),
    "intakeoutput": ("intakeoutputoffset", "intakeoutputentryoffset"),
}
"""Table → offsets; a row is known from the latest of them. Written down here a second time on purpose."""

HINDSIGHT = {
    "patient": ("dischargeweight", "unitdischargelocation", "hospitaldischargelocation"),
    "diagnosis": ("activeupondischarge", "diagnosispriority"),
    "treatment": ("activeupondischarge",),
    "medication": ("drugordercancelled", "drugstopoffset"),
    "respiratorycare": ("ventendoffset",),
    "apachepredvar": ("diedinhospital", "dischargelocation", "var03hspxlos"),
    "apachepatientresult": (
        *("actualicumortality", "actualiculos", "actualhospitalmortality", "actualhospitallos"),
        *("unabridgedunitlos", "unabridgedhosplos", "actualventdays", "unabridgedactualventdays"),
    ),
}
"""Columns that hold, in rows known earlier, what was known only later."""


def _raw(root: Path, table: str) -> pl.DataFrame:
    return pl.read_csv(root / f"{table}.csv.gz", infer_schema=False)


def _shuffled(frame: pl.DataFrame, columns: list[str], rows: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """``frame`` with ``columns`` of ``rows`` overwritten by cells of random other rows."""
    donors = np.arange(frame.height)
    donors[rows] = rng.integers(0, frame.height, len(rows))
    return frame.with_columns(frame[column].gather(donors) for column in columns)


def _noisy_future(frame: pl.DataFrame, offsets: tuple[str, ...], rng: np.random.Generator) -> pl.DataFrame:
    """Rows known after 24 h: contents exchanged, offsets moved on, one in ten removed, one in ten doubled."""
    minutes = frame.select(pl.col(offsets).cast(pl.Int64))
    future = np.flatnonzero((minutes.max_horizontal() > DAY).fill_null(False).to_numpy())
    free = [c for c in frame.columns if c != "patientunitstayid" and c not in offsets]
    noisy = _shuffled(frame, free, future, rng)
    later = np.zeros(frame.height, dtype=np.int64)
    later[future] = rng.integers(0, 2000, len(future))
    noisy = noisy.with_columns((pl.col(c).cast(pl.Int64) + pl.Series(later)).cast(pl.String) for c in offsets)
    fate = rng.random(len(future))
    keep = np.ones(frame.height, dtype=bool)
    keep[future[fate < 0.1]] = False
    return pl.concat([noisy.filter(pl.Series(keep)), noisy[future[fate > 0.9]]])


def _noisy_copy(root: Path, copy: Path) -> Path:
    copy.mkdir()
    rng = np.random.default_rng(0)
    for file in sorted(root.glob("*.csv.gz")):
        table = file.name.removesuffix(".csv.gz")
        if table not in KNOWN and table not in HINDSIGHT:
            (copy / file.name).symlink_to(file)
            continue
        frame = _raw(root, table)
        everywhere = np.arange(frame.height)
        frame = _shuffled(frame, list(HINDSIGHT.get(table, ())), everywhere, rng)
        if table in KNOWN:
            frame = _noisy_future(frame, KNOWN[table], rng)
        frame.write_csv(copy / f"{table}.csv")
    return copy


def _mortality(root: Path) -> PatientDataset:
    extract = read_eicu(root)
    return dataset_of(extract, build_cohort(extract, eicu_criteria(), eicu_questions()[:1]))


@pytest.fixture(scope="module")
def clean() -> PatientDataset:
    return _mortality(open_data("eicu-demo-2.0"))


def _assert_same_inputs(first: PatientDataset, second: PatientDataset) -> None:
    assert first.schema == second.schema
    for name in ("subject_id", "hadm_id", "stay_id", "prediction_time", "present"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    for modality, values in first.values.items():
        names = first.schema.modalities[first.schema.modality_names.index(modality)].feature_names
        moved = (values.view(np.uint32) != second.values[modality].view(np.uint32)).any(axis=0)
        assert not moved.any(), f"{modality}: {[n for n, m in zip(names, moved, strict=True) if m]}"
    for name, attribute in first.attributes.items():
        assert attribute.tolist() == second.attributes[name].tolist(), name


@pytest.mark.slow
def test_the_future_moves_no_bit(clean: PatientDataset, tmp_path: Path) -> None:
    root = open_data("eicu-demo-2.0")
    noisy = _mortality(_noisy_copy(root, tmp_path / "noisy"))
    _assert_same_inputs(clean, noisy)
    assert clean.labels.tobytes() == noisy.labels.tobytes()
    assert clean.label_mask.tobytes() == noisy.label_mask.tobytes()


@pytest.mark.slow
def test_the_outcome_moves_only_its_label(clean: PatientDataset, tmp_path: Path) -> None:
    root = open_data("eicu-demo-2.0")
    for file in root.glob("*.csv.gz"):
        if file.name != "patient.csv.gz":
            (tmp_path / file.name).symlink_to(file)
    other = {"Alive": "Expired", "Expired": "Alive"}
    changed = pl.col("unitdischargestatus") != "Expired"
    status = pl.col("hospitaldischargestatus")
    _raw(root, "patient").with_columns(pl.when(changed).then(status.replace(other)).otherwise(status)).write_csv(
        tmp_path / "patient.csv"
    )
    flipped = _mortality(tmp_path)
    _assert_same_inputs(clean, flipped)
    assert (clean.labels != flipped.labels).mean() > 0.5
