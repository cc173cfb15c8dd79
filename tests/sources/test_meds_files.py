"""MEDS folders and label files as people have them: empty and hidden shards, other types, other data sets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnar.cohort.meds import labelled_cohort
from mmnar.dataset.prepare import dataset_of
from mmnar.errors import SourceError
from mmnar.evaluation.audit.meds import audit_meds
from mmnar.sources.meds import read_meds
from mmnar.sources.meds.labels import Labels, read_labels
from tests.sources.test_meds import LABELS, at, table, write_labels_of, write_meds

HUGE = 2**63 + 10000032


def _tree(root: Path) -> Path:
    """A data set with its labels where an audit looks for them."""
    write_meds(root, table())
    write_labels_of(root / "labels", LABELS)
    return root


def _read(root: Path, work: Path) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Events and warnings."""
    extract = read_meds(root, work=work, labels=read_labels(root / "labels"))
    events = pl.concat(part.frame for part, _ in extract.events.parts(extract.stays))
    return events.sort("subject_id", "time", "code", "numeric_value"), extract.warnings


def _untyped(folder: Path, name: str, rows: int = 0) -> None:
    columns = ("subject_id", "time", "code", "prediction_time", "boolean_value")
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({c: pa.array([None] * rows, pa.null()) for c in columns}), folder / name)


def _no_rows(root: Path) -> None:
    for folder in (root / "data" / "tuning", root / "labels" / "death"):
        _untyped(folder, "9.parquet")


def _no_content(root: Path) -> None:
    for folder in (root / "data" / "tuning", root / "labels" / "death"):
        _untyped(folder, "9.parquet", rows=3)


def _no_columns(root: Path) -> None:
    pq.write_table(pa.table({}), root / "data" / "9.parquet")
    pq.write_table(pa.table({}), root / "labels" / "death" / "9.parquet")


def _typed_without_rows(root: Path) -> None:
    pl.DataFrame(schema={"subject_id": pl.String, "x": pl.Binary}).write_parquet(root / "data" / "9.parquet")
    pl.DataFrame(schema={"subject_id": pl.String}).write_parquet(root / "labels" / "death" / "9.parquet")


def _hidden(root: Path) -> None:
    for folder in (root / "data" / "train", root / "labels" / "death", root / "labels"):
        (folder / "._0.parquet").write_bytes(b"\x00\x05\x16\x07")
        (folder / ".DS_Store").write_bytes(b"Bud1")
        for inner in (".ipynb_checkpoints", "__MACOSX"):
            (folder / inner).mkdir()
            shutil.copy(root / "data" / "train" / "0.parquet", folder / inner / "0-checkpoint.parquet")
    for name in ("_SUCCESS", "0.parquet.crc", "README.md"):
        (root / "data" / "train" / name).write_text("x")


def _upper_case(root: Path) -> None:
    (root / "data" / "train" / "0.parquet").rename(root / "data" / "train" / "0.PARQUET")
    (root / "labels" / "death" / "0.parquet").rename(root / "labels" / "death" / "0.Parquet")


def _other_types(root: Path) -> None:
    """Dictionary codes, decimals, long strings, nanoseconds, narrow integers."""
    path = root / "data" / "train" / "0.parquet"
    frame = pl.read_parquet(path)
    numbers = [None if v is None else Decimal(str(v)) for v in frame["numeric_value"]]
    columns: dict[str, pa.Array] = {
        "subject_id": pa.array(frame["subject_id"].to_list(), pa.uint64()),
        "time": pa.array(frame["time"].to_list(), pa.timestamp("ns")),
        "code": pa.array(frame["code"].to_list(), pa.large_string()).dictionary_encode(),
        "numeric_value": pa.array(numbers, pa.decimal128(12, 3)),
        "text_value": pa.array(frame["text_value"].to_list(), pa.large_string()),
        "available_time": pa.array(frame["available_time"].to_list(), pa.timestamp("ms")),
    }
    pq.write_table(pa.table(columns), path)
    path = root / "labels" / "death" / "0.parquet"
    pl.read_parquet(path).with_columns(pl.col("subject_id").cast(pl.UInt64)).write_parquet(path)


@pytest.mark.parametrize(
    "change", [_no_rows, _no_content, _no_columns, _typed_without_rows, _hidden, _upper_case, _other_types]
)
def test_a_data_set_is_read_as_people_have_it(tmp_path: Path, change: Callable[[Path], None]) -> None:
    clean = _tree(tmp_path / "clean")
    root = _tree(tmp_path / "changed")
    change(root)
    events, warnings = _read(clean, tmp_path / "a")
    again, now = _read(root, tmp_path / "b")
    assert again.equals(events)
    assert [w for w in now if "labels of task" not in w] == list(warnings)
    found, before = audit_meds(root), audit_meds(clean)
    assert [(f.check, f.words) for f in found.findings] == [(f.check, f.words) for f in before.findings]


def _ids(root: Path, where: str, ids: list[Any], dtype: Any) -> None:
    path = root / where
    rows = pl.read_parquet(path)
    new = [ids[i % len(ids)] for i in range(rows.height)]
    rows.with_columns(subject_id=pl.Series(new, dtype=dtype)).write_parquet(path)


@pytest.mark.parametrize("where", ["data/train/1.parquet", "labels/death/0.parquet"])
@pytest.mark.parametrize(
    ("ids", "dtype"),
    [
        ([HUGE], pl.UInt64),
        ([10000032.5], pl.Float64),
        ([float("inf")], pl.Float64),
        ([20000032.0], pl.Float32),
        (["P10000032"], pl.String),
        (["10000032", "010000032"], pl.String),
    ],
)
def test_identifiers_of_another_kind_are_refused_and_never_shown(
    tmp_path: Path, where: str, ids: list[Any], dtype: Any
) -> None:
    root = _tree(tmp_path / "meds")
    _ids(root, where, ids, dtype)
    with pytest.raises(SourceError, match="column 'subject_id'") as caught:
        _read(root, tmp_path / "work")
    chained = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any(digits in str(error) for error in chained for digits in ("0000032", str(HUGE)))
    if dtype != pl.UInt64:
        with pytest.raises(SourceError, match="column 'subject_id'"):
            audit_meds(root)


@pytest.mark.parametrize("where", ["data", "labels", "both"])
@pytest.mark.parametrize("form", [pl.String, pl.Float64, pl.Categorical])
def test_identifiers_as_text_or_whole_floats_are_read(tmp_path: Path, where: str, form: Any) -> None:
    clean, root = _tree(tmp_path / "clean"), _tree(tmp_path / "changed")
    for path in [p for p in root.rglob("*.parquet") if where == "both" or p.is_relative_to(root / where)]:
        ids = pl.read_parquet(path)["subject_id"].cast(pl.String if form == pl.Categorical else form).cast(form)
        pl.read_parquet(path).with_columns(ids).write_parquet(path)
    (events, told), (again, now) = _read(clean, tmp_path / "a"), _read(root, tmp_path / "b")
    assert again.equals(events)
    assert now == told


def _clocks(path: Path, change: Callable[[pl.Expr], pl.Expr]) -> None:
    frame = pl.read_parquet(path)
    times = [c for c in ("time", "available_time", "prediction_time") if c in frame.columns]
    frame.with_columns(change(pl.col(c)) for c in times).write_parquet(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.dt.replace_time_zone("UTC"),
        # the same instants on another wall
        lambda t: t.dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York"),
        lambda t: t.dt.to_string("%Y-%m-%d %H:%M:%S"),
        lambda t: t.dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"),
        lambda t: (t + pl.duration(hours=2)).dt.to_string("%Y-%m-%d %H:%M:%S+02:00"),
    ],
)
def test_times_with_a_zone_or_as_text_are_read(tmp_path: Path, change: Callable[[pl.Expr], pl.Expr]) -> None:
    clean, root = _tree(tmp_path / "clean"), _tree(tmp_path / "changed")
    for path in root.rglob("*.parquet"):
        _clocks(path, change)
    (events, told), (again, now) = _read(clean, tmp_path / "a"), _read(root, tmp_path / "b")
    assert again.equals(events)
    assert now == told


@pytest.mark.parametrize("where", ["data/train/1.parquet", "labels/death/0.parquet"])
def test_times_on_two_clocks_are_refused(tmp_path: Path, where: str) -> None:
    root = _tree(tmp_path / "meds")
    _clocks(root / where, lambda t: t.dt.replace_time_zone("UTC"))
    with pytest.raises(SourceError, match="expected all with a zone, or none"):
        _read(root, tmp_path / "work")


def test_a_column_of_text_on_two_clocks_is_refused(tmp_path: Path) -> None:
    root = _tree(tmp_path / "meds")
    for path in root.rglob("*.parquet"):
        _clocks(path, lambda t: t.dt.to_string("%Y-%m-%d %H:%M:%S"))
    late = pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(pl.lit("Z")).otherwise(pl.lit(""))
    path = root / "data" / "train" / "0.parquet"
    pl.read_parquet(path).with_columns(time=pl.col("time") + late).write_parquet(path)
    with pytest.raises(SourceError, match="with a zone"):
        _read(root, tmp_path / "work")


def test_the_command_shows_no_identifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmnar.cli.prepare import meds

    root = _tree(tmp_path / "meds")
    _ids(root, "labels/death/0.parquet", [HUGE], pl.UInt64)
    with pytest.raises(SourceError) as caught:
        meds(root=root, labels=root / "labels", out=tmp_path / "store")
    assert str(HUGE) not in "".join([str(caught.value), *capsys.readouterr()])


# --- labels ----------------------------------------------------------------------------------------------------------


def _labels(root: Path, answers: pl.Series) -> Labels:
    (root / "death").mkdir(parents=True)
    n = len(answers)
    columns = {"subject_id": range(n), "prediction_time": [at(1)] * n, "boolean_value": answers}
    pl.DataFrame(columns).write_parquet(root / "death" / "0.parquet")
    return read_labels(root)


def test_answers_as_numbers(tmp_path: Path) -> None:
    expected = [(0, True), (1, False), (3, True)]
    for i, series in enumerate(
        (
            pl.Series([1.0, 0.0, None, 2.0]),
            pl.Series([1.0, 0.0, float("nan"), 1.0]),
            pl.Series([1, 0, None, 1], dtype=pl.Int8),
            pl.Series([True, False, None, True]),
        )
    ):
        labels = _labels(tmp_path / str(i), series)
        assert labels.frame.select("subject_id", "boolean_value").rows() == expected
        assert labels.warnings == (
            "labels of task 'death': fewer than 10 rows dropped: without a subject, a time or a label",
        )


@pytest.mark.parametrize("answers", [[1.0, 0.3], [1, -1], [1.0, float("inf")], ["yes", "no"]])
def test_answers_that_are_none_are_refused(tmp_path: Path, answers: list[Any]) -> None:
    with pytest.raises(SourceError, match="column 'boolean_value'") as caught:
        _labels(tmp_path, pl.Series(answers))
    assert not any(cell in str(caught.value) for cell in ("0.3", "-1", "'yes'"))


def test_questions_about_nobody_and_before_anything_are_told(tmp_path: Path) -> None:
    root = write_meds(tmp_path / "meds", table())
    rows = [*LABELS, (98, at(13), False), (2, at(3), True), (2, at(13), False)]
    labels = read_labels(write_labels_of(tmp_path / "tasks", rows))
    extract = read_meds(root, work=tmp_path / "work", labels=labels)
    told = "\n".join(extract.warnings)
    assert "fewer than 10 subjects asked about are not in the data set: left out" in told
    assert "fewer than 10 prediction times lie before the subject's first event: nothing is known of them" in told
    assert "fewer than 10 rows dropped: repeats of another" in told
    data = dataset_of(extract, labelled_cohort(extract, labels))
    asked = dict(
        zip(zip(data.subject_id.tolist(), data.prediction_time.tolist(), strict=True), data.present, strict=True)
    )
    blank = [pattern for (subject, time), pattern in asked.items() if subject == 2 and time < at(9).timestamp() * 1e6]
    assert len(blank) == 1
    assert not blank[0].any()


def test_a_time_beyond_all_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "death").mkdir()
    times = pa.array([10**14] * 2, pa.timestamp("s"))
    columns = {"subject_id": pa.array([1, 2]), "prediction_time": times, "boolean_value": pa.array([True, False])}
    pq.write_table(pa.table(columns), tmp_path / "death" / "0.parquet")
    with pytest.raises(SourceError, match="column 'prediction_time': expected times that can be counted"):
        read_labels(tmp_path)


def test_the_labels_of_another_data_set_are_refused(tmp_path: Path) -> None:
    root = write_meds(tmp_path / "meds", table())
    labels = read_labels(write_labels_of(tmp_path / "tasks", [(10000032, at(13), True), (10000033, at(13), False)]))
    with pytest.raises(SourceError, match="give its own labels") as caught:
        read_meds(root, work=tmp_path / "work", labels=labels)
    assert "10000032" not in str(caught.value)


def test_a_task_of_empty_files_only_is_refused(tmp_path: Path) -> None:
    _untyped(tmp_path, "death.parquet")
    with pytest.raises(SourceError, match="at least one label, got none"):
        read_labels(tmp_path)


def test_an_audit_names_a_damaged_or_foreign_file_in_one_line(tmp_path: Path) -> None:
    root = _tree(tmp_path / "meds")
    (root / "metadata").mkdir()
    pl.DataFrame({"subject": [10000032]}).write_parquet(root / "metadata" / "subject_splits.parquet")
    with pytest.raises(SourceError, match="subject_splits"):
        audit_meds(root)
    (root / "metadata" / "subject_splits.parquet").unlink()
    (root / "data" / "train" / "1.parquet").write_bytes(b"PAR1 10000032 PAR1")
    with pytest.raises(SourceError, match="readable parquet files") as caught:
        audit_meds(root)
    assert "10000032" not in str(caught.value)
