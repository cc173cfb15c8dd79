"""A frame in memory goes through the door of a file: the same data set, the same refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import mmnar
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, SourceError
from mmnar.sources.table.spec import parse_spec
from mmnar.workflow import doors
from mmnar.workflow.doors import write_records
from tests.sources.test_table import _rows, _spec, _write

PAGE = Path(__file__).parents[1] / "docs" / "own-tables.md"


def typed() -> pl.DataFrame:
    """Numbers, times and nulls where the file has text."""
    text = pl.DataFrame([{k: str(v) for k, v in row.items()} for row in _rows()], infer_schema_length=None)
    return text.with_columns(
        pl.col("visit").cast(pl.Int64),
        pl.col("asked").str.to_datetime(),
        pl.col("crp").cast(pl.Float64, strict=False),
        pl.col("k").cast(pl.Int32),
        pl.col("gender").cast(pl.Categorical),
    )


FRAMES: dict[str, Any] = {
    "text": lambda: typed().cast(pl.String),
    "typed": typed,
    "lazy": lambda: typed().lazy(),
    "pandas": lambda: pd.DataFrame(typed().to_dict(as_series=False)).set_index(pd.Index(range(40, 0, -1))),
}


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> PatientDataset:
    """The store of the file."""
    at = tmp_path_factory.mktemp("frames")
    records, _ = doors.table(parse_spec(_spec()), _write(at))
    write_records(records, at / "store")
    return open_store(at / "store")


@pytest.mark.parametrize("kind", FRAMES)
def test_the_data_set_is_the_files_to_the_bit(kind: str, filed: PatientDataset, tmp_path: Path) -> None:
    data = mmnar.from_frame(FRAMES[kind](), _spec(), tmp_path / "store")
    assert data.fingerprint == filed.fingerprint  # of the schema and every array
    assert data.id_space == filed.id_space
    for key in ("attrition", "schema", "source", "samples"):
        assert data.manifest[key] == filed.manifest[key], key
    specs = [{**of.manifest["recipe"]["options"]["spec"], "digest": ""} for of in (data, filed)]
    assert specs[0] == specs[1]
    # a frame that is typed already has no words for what is absent
    said = [w for w in filed.manifest["warnings"] if "not measured" not in w]
    assert [w for w in data.manifest["warnings"] if "not measured" not in w] == said
    again = open_store(tmp_path / "store")
    assert np.array_equal(again.values["blood"], data.values["blood"], equal_nan=True)


def test_in_memory_no_file_is_left(filed: PatientDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    data = mmnar.from_frame(typed(), _spec(files=None))
    assert not list(tmp_path.iterdir())
    assert data.fingerprint == filed.fingerprint
    for name in ("labels", "label_mask", "present", "subject_id", "stay_id", "prediction_time"):
        assert np.array_equal(getattr(data, name), getattr(filed, name))
        assert not isinstance(getattr(data, name), np.memmap)
    assert all(np.array_equal(data.values[m], filed.values[m], equal_nan=True) for m in ("basics", "blood"))
    assert np.array_equal(data.attributes["sex"], filed.attributes["sex"])
    mapped = [of for of in (*data.values.values(), *data.attributes.values()) if isinstance(of, np.memmap)]
    assert not mapped


def test_another_cell_is_another_data_set(filed: PatientDataset) -> None:
    row = pl.int_range(pl.len()) == 10
    other = typed().with_columns(pl.when(row).then(99.0).otherwise(pl.col("crp")).alias("crp"))
    data = mmnar.from_frame(other, _spec())
    assert data.fingerprint != filed.fingerprint
    assert data.manifest["source_fingerprint"] != mmnar.from_frame(typed(), _spec()).manifest["source_fingerprint"]


def mixed() -> pd.DataFrame:
    return pd.DataFrame(typed().to_dict(as_series=False)).assign(crp=[b"Smith", 1.5] * 20)


@pytest.mark.parametrize(
    ("frame", "spec", "kind", "said"),
    [
        (typed, {"subject": "person"}, SourceError, "no 'person' \\(subject; "),
        (lambda: typed().rename({"left": "Crp"}), {}, SourceError, "the frame: expected each column name once"),
        (lambda: typed().with_columns(crp=pl.lit([1.0])), {}, SourceError, "column 'crp': expected text.*nested"),
        (lambda: typed().to_dicts(), {}, SourceError, "frame of polars or pandas, got list"),
        (lambda: pd.Series([1]), {}, SourceError, "frame of polars or pandas, got Series"),
        (mixed, {}, SourceError, "columns of one kind each"),
        (typed, {"modality": {}}, ConfigError, "did you mean 'modalities'"),
    ],
)
def test_what_is_no_such_frame_is_refused(frame: Any, spec: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as refused:
        mmnar.from_frame(frame(), _spec(**spec))
    assert "Smith" not in str(refused.value)


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory, in_scikit_learn = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    rng = np.random.default_rng(0)
    numbers = {name: rng.normal(size=60) for name in ("pulse", "spo2", "crp", "lactate")}
    status = ["dead" if x else "alive" for x in rng.random(60) < 0.4]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"frame": pd.DataFrame({"patient": range(60), "status": status, **numbers})}
    exec(in_memory, found)
    assert len(found["data"]) == 60
    exec(in_scikit_learn, found)
    assert set(found["search"].best_params_) == {"model"}
    run = mmnar.train_run(Path("store"), "logistic-pattern", Path("run"), ("fits=2", "rectifier.rule=none"))
    assert run.test.tasks == ("death",)
