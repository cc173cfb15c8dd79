"""Parquet files of others: what Polars reads is what we read; of a damaged file not a word but our own."""

from __future__ import annotations

import errno
import random
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnar import parquet
from mmnar.errors import SourceError
from mmnar.sources.meds.labels import read_labels

PEOPLE = range(200)


def _labels(path: Path, compression: str) -> bytes:
    asked = pl.Series([datetime(2150, 3, 1)] * len(PEOPLE)).cast(pl.Datetime("us"))
    died = [i % 3 == 0 for i in PEOPLE]
    frame = pl.DataFrame({"subject_id": list(PEOPLE), "prediction_time": asked, "boolean_value": died})
    frame.write_parquet(path, compression=compression)  # type: ignore[arg-type]
    return path.read_bytes()


@pytest.mark.parametrize("compression", ["uncompressed", "zstd"])
def test_damage_is_one_refusal_and_nothing_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], compression: str
) -> None:
    path = tmp_path / "death.parquet"
    whole = _labels(path, compression)
    rng = random.Random(0)
    refused: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            read_labels(tmp_path)
        except SourceError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert not [line for line in refused if "\n" in line]
    assert capfd.readouterr() == ("", "")


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None, "ü"],
            "kind": pl.Series(["x", "y", None], dtype=pl.Categorical),
            "exact": pl.Series([Decimal("1.50"), None, Decimal("-2.25")], dtype=pl.Decimal(10, 2)),
            "at": pl.Series([datetime(2150, 1, 2, 3), None, datetime(2151, 1, 1)], dtype=pl.Datetime("ms", "UTC")),
            "day": [date(2150, 1, 1), None, date(2150, 1, 2)],
            "small": pl.Series([1, None, 3], dtype=pl.Int8),
            "yes": [True, None, False],
            "nothing": pl.Series([None, None, None], dtype=pl.Null),
        }
    )
    path = tmp_path / "a.parquet"
    frame.write_parquet(path)
    assert parquet.read(path).equals(frame)
    assert parquet.schema_of(path) == dict(frame.schema)
    assert parquet.rows_of(path) == 3
    # in the order asked for
    assert parquet.read(path, ["yes", "text"]).equals(frame.select("yes", "text"))
    assert pl.concat(parquet.blocks(path, rows=2)).equals(frame)
    assert [block.height for block in parquet.blocks(path, rows=2)] == [2, 1]


def test_a_file_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame(schema={"x": pl.Int64, "y": pl.String})
    frame.write_parquet(path)
    assert parquet.read(path).equals(frame)
    assert parquet.read(path, ["y"]).equals(frame.select("y"))


def test_a_lazy_table_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"x": list(range(100)), "y": [f"w{i % 7}" for i in range(100)], "z": [0.5] * 100})
    frame.write_parquet(path)
    lazy = parquet.scan(path, ["y", "x"])
    assert lazy.collect().equals(frame.select("y", "x"))
    assert lazy.filter(pl.col("x") > 90).select("y").collect().equals(frame.filter(pl.col("x") > 90).select("y"))
    assert lazy.head(5).collect().equals(frame.select("y", "x").head(5))
    counts = lazy.group_by("y").len().sort("y").collect()
    assert counts.equals(frame.group_by("y").len().sort("y"))


def test_names_and_text_that_are_not_utf_8_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.parquet"
    bad = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"secret": bad}), path)
    with pytest.raises(parquet.UnreadableError) as caught:
        parquet.read(path)
    assert str(caught.value) == "ArrowInvalid"
    pq.write_table(pa.table({"column": ["a"]}), path)
    path.write_bytes(path.read_bytes().replace(b"column", b"colu\xff\xff"))
    with pytest.raises(parquet.UnreadableError):
        parquet.schema_of(path)
    # what a writer noted of the table is its own matter
    noted = pa.table({"column": ["a"]}).replace_schema_metadata({b"\xff": b"\xff"})
    pq.write_table(noted, path)
    assert parquet.read(path)["column"].to_list() == ["a"]
    assert capfd.readouterr() == ("", "")


def _kinds() -> dict[str, tuple[pa.Array, pl.DataType, object]]:
    """What writers other than Polars leave → type and first value that are read."""
    two = pa.decimal256(50, 2)
    return {
        "wide": (pa.array([Decimal("1.50")], two), pl.Decimal(38, 2), Decimal("1.50")),
        "wider": (pa.array([Decimal("1" * 60)], pa.decimal256(70, 0)), pl.Object(), None),
        "inside": (pa.array([[Decimal("1.50")]], pa.list_(two)), pl.Object(), None),
        "words": (pa.array(["a"]).dictionary_encode(), pl.Categorical(), "a"),
        "numbers": (pa.array([7]).dictionary_encode(), pl.Int64(), 7),
        "times": (pa.array([datetime(2150, 1, 1)]).dictionary_encode(), pl.Datetime("us"), datetime(2150, 1, 1)),
        "wide numbers": (pa.array([Decimal("1.50")], two).dictionary_encode(), pl.Decimal(38, 2), Decimal("1.50")),
        "half": (pa.array([1.5], pa.float32()).cast(pa.float16()), pl.Float16(), 1.5),
        "map": (
            pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            pl.List(pl.Struct({"key": pl.String, "value": pl.Int64})),
            [{"key": "a", "value": 1}],
        ),
    }


@pytest.mark.parametrize("kind", list(_kinds()))
def test_types_of_other_writers(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    column, dtype, value = _kinds()[kind]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": column, "y": [1]}), path)
    read = parquet.read(path)
    assert read["x"].dtype == dtype
    assert read["x"].to_list() == [value]
    # of a column that is not asked for nothing is looked at
    assert parquet.read(path, ["y"])["y"].to_list() == [1]
    assert list(parquet.schema_of(path)) == ["x", "y"]
    assert capfd.readouterr() == ("", "")


def test_an_absent_file_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(parquet.UnreadableError, match=r"^FileNotFoundError$"):
        parquet.read(tmp_path / "10000032.parquet")


def test_a_full_disk_is_said_to_be_full() -> None:
    """Polars' own writer calls it content that cannot be read."""
    with pytest.raises(OSError) as caught:
        parquet.save(pl.DataFrame({"risk": [0.5]}), Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    frame = pl.DataFrame({"name": ["a", None], "risk": [0.5, 0.25]})
    parquet.save(frame, tmp_path / "a.parquet", {"mmnar": "note"})
    assert pl.read_parquet(tmp_path / "a.parquet").equals(frame)
    assert parquet.metadata_of(tmp_path / "a.parquet")["mmnar"] == "note"
