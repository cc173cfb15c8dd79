"""MIMIC-IV as people bring it: a simulated tree, damaged in one place, against the tree as it was."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import build_cohort
from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.errors import SourceError
from mmnar.simulation.mimic_iv.release import IV, NOTES, write_mimic_iv
from mmnar.sources.mimic_iv import read_mimic_iv

Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "tree"
    write_mimic_iv(out, 60, seed=4)
    return out


@pytest.fixture(scope="module")
def clean(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> PatientDataset:
    return prepared(tree, tmp_path_factory.mktemp("clean"))[0]


def prepared(tree: Path, work: Path) -> tuple[PatientDataset, tuple[str, ...]]:
    extract = read_mimic_iv(tree / IV, work=work / "work", notes=tree / NOTES.parent)
    return dataset_of(extract, build_cohort(extract, mimic_iv_criteria(), mimic_iv_questions())), extract.warnings


def changed(tree: Path, copy: Path, tables: dict[str, Change]) -> Path:
    """A copy of the tree in which some tables, cells as text, are others."""
    shutil.copytree(tree, copy, copy_function=os.link)
    for name, change in tables.items():
        path = table_of(copy, name)
        frame = change(pl.read_csv(path, infer_schema=False))
        path.unlink()
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    return copy


def table_of(tree: Path, name: str) -> Path:
    (path,) = tree.rglob(f"{name}.csv.gz")
    return path


def same_inputs(one: PatientDataset, other: PatientDataset) -> None:
    assert one.schema.modality_names == other.schema.modality_names
    for name in ("subject_id", "stay_id", "prediction_time", "present"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    ours, theirs = (data.values["structured"] for data in (one, other))
    assert isinstance(ours, np.ndarray)
    assert isinstance(theirs, np.ndarray)
    np.testing.assert_array_equal(ours, theirs)


def suffixed(suffix: str, *columns: str) -> Change:
    return lambda frame: frame.with_columns(pl.col(columns) + suffix)


@pytest.mark.parametrize("suffix", [" UTC", "Z", ".000000 UTC", "+00:00"])
def test_times_with_a_zone_are_the_clock_times(tree: Path, clean: PatientDataset, tmp_path: Path, suffix: str) -> None:
    zoned = {
        "labevents": suffixed(suffix, "charttime", "storetime"),
        "discharge": suffixed(suffix, "charttime", "storetime"),
        "admissions": suffixed(suffix, "admittime", "dischtime"),
    }
    data, warnings = prepared(changed(tree, tmp_path / "tree", zoned), tmp_path)
    same_inputs(data, clean)
    np.testing.assert_array_equal(data.labels[data.label_mask], clean.labels[clean.label_mask])
    for table, column in (("labevents", "charttime"), ("discharge", "storetime"), ("admissions", "dischtime")):
        (told,) = (w for w in warnings if f"'{table}'" in w and f"'{column}'" in w)
        assert told.endswith("name a zone: it is left out, the clock time kept")


@pytest.mark.parametrize(
    ("table", "column"),
    [("labevents", "charttime"), ("admissions", "admittime"), ("icustays", "intime"), ("discharge", "charttime")],
)
def test_a_column_of_unreadable_times_is_refused_by_name(tree: Path, tmp_path: Path, table: str, column: str) -> None:
    """A spreadsheet that kept minutes and seconds alone, as in the demo's procedureevents."""
    copy = changed(tree, tmp_path / "tree", {table: lambda frame: frame.with_columns(pl.lit("12:34.5").alias(column))})
    with pytest.raises(
        SourceError, match=f"table '{table}', column '{column}': expected .*2180-07-23 12:36:00"
    ) as told:
        prepared(copy, tmp_path)
    assert "12:34.5" not in str(told.value)


def test_a_date_of_death_before_admission_decides_about_no_input(
    tree: Path, clean: PatientDataset, tmp_path: Path
) -> None:
    dead_before = {"patients": lambda frame: frame.with_columns(dod=pl.lit("2101-01-24"))}
    data, warnings = prepared(changed(tree, tmp_path / "tree", dead_before), tmp_path)
    same_inputs(data, clean)
    np.testing.assert_array_equal(data.labels[data.label_mask], clean.labels[clean.label_mask])
    died = pl.read_csv(table_of(tree, "admissions"), infer_schema=False).filter(hospital_expire_flag="1")
    living = 60 - died["subject_id"].n_unique()
    assert (
        f"table 'patients': {living} deaths before an admission or a discharge of the living patient: taken as unknown"
        in warnings
    )


@pytest.mark.parametrize("column", ["hospital_expire_flag", "deathtime", "discharge_location"])
def test_signs_of_death_that_disagree_are_no_label(
    tree: Path, clean: PatientDataset, tmp_path: Path, column: str
) -> None:
    """In every third admission one of the three says the opposite."""
    dies, third = pl.col("hospital_expire_flag") == "1", pl.int_range(pl.len()) % 3 == 0
    opposite = {
        "hospital_expire_flag": pl.when(dies).then(pl.lit("0")).otherwise(pl.lit("1")),
        "deathtime": pl.when(~dies).then("dischtime"),
        "discharge_location": pl.when(dies).then(pl.lit("HOME")).otherwise(pl.lit("DIED")),
    }[column]
    copy = changed(
        tree,
        tmp_path / "tree",
        {"admissions": lambda f: f.with_columns(pl.when(third).then(opposite).otherwise(column).alias(column))},
    )
    data, warnings = prepared(copy, tmp_path)
    admissions = pl.read_csv(table_of(tree, "admissions"), infer_schema=False)
    odd = admissions.filter(third)["hadm_id"].cast(pl.Int64)
    mortality = clean.schema.task_names.index("mortality")
    keys, known = (list(zip(d.hadm_id, d.prediction_time, strict=True)) for d in (clean, data))
    asked = [key for key, mask in zip(keys, clean.label_mask[:, mortality], strict=True) if mask]
    labelled = dict(zip(known, data.label_mask[:, mortality].tolist(), strict=True))
    assert [labelled[key] for key in asked] == [int(key[0]) not in set(odd) for key in asked]
    told = f"table 'admissions': {len(odd)} admissions whose flag, time and place of discharge disagree"
    assert any(w.startswith(told) for w in warnings)


def test_where_every_death_is_contradicted_the_refusal_says_so(tree: Path, tmp_path: Path) -> None:
    denied = changed(
        tree, tmp_path / "tree", {"admissions": lambda a: a.with_columns(hospital_expire_flag=pl.lit("0"))}
    )
    with pytest.raises(SourceError, match=r"samples of one class \(table 'admissions': .* disagree on whether"):
        prepared(denied, tmp_path)


def test_times_in_an_impossible_order_are_unknown_and_counted(tree: Path, tmp_path: Path) -> None:
    before = (pl.col("admittime").str.to_datetime() - pl.duration(hours=3)).dt.strftime("%Y-%m-%d %H:%M:%S")
    odd = pl.int_range(pl.len()) % 5 == 0
    copy = changed(
        tree,
        tmp_path / "tree",
        {
            "admissions": lambda f: f.with_columns(dischtime=pl.when(odd).then(before).otherwise("dischtime")),
            "icustays": lambda f: f.with_columns(
                outtime=pl.when(odd).then(pl.lit("2100-01-01 00:00:00")).otherwise("outtime")
            ),
            "patients": lambda f: f.with_columns(anchor_age=pl.when(odd).then(pl.lit("-4")).otherwise("anchor_age")),
        },
    )
    extract = read_mimic_iv(copy / IV, work=tmp_path / "work")
    for table, words in (
        ("admissions", "discharges before the admission"),
        ("icustays", "ends of unit stays before their begin"),
        ("patients", "ages below 0 or above 120"),
    ):
        n = -(-pl.read_csv(table_of(tree, table), infer_schema=False).height // 5)
        assert f"table '{table}': {n} {words}: taken as unknown" in extract.warnings
    assert extract.stays["age"].null_count() > 5
    assert (extract.stays["age"].drop_nulls() > 0).all()


def test_a_half_unpacked_table_beside_the_packed_one_is_refused(tree: Path, tmp_path: Path) -> None:
    copy = changed(tree, tmp_path / "tree", {})
    packed = table_of(copy, "labevents")
    half = gzip.decompress(packed.read_bytes())[:5000].rpartition(b"\n")[0] + b"\n"
    packed.with_suffix("").write_bytes(half)
    with pytest.raises(SourceError, match=r"got hosp.labevents\.csv and hosp.labevents\.csv\.gz"):
        prepared(copy, tmp_path)


def test_a_degree_sign_in_latin_1_is_named(tree: Path, tmp_path: Path) -> None:
    copy = changed(tree, tmp_path / "tree", {})
    path = table_of(copy, "chartevents")
    text = gzip.decompress(path.read_bytes()).decode().replace("bpm", "°F")
    path.unlink()
    path.write_bytes(gzip.compress(text.encode("latin-1")))
    with pytest.raises(SourceError, match=r"table 'chartevents' .*Latin-1 .*iconv"):
        prepared(copy, tmp_path)
