"""What we write as MEDS: its schemas accept it, and meds-evaluation, in an environment of its own, agrees with us."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from meds import LabelSchema, SubjectSplitSchema

import mmnar.evaluation.export
from mmnar.cli.run import export
from mmnar.cohort.split import Split
from mmnar.dataset.store import open_store, write_store
from mmnar.errors import SchemaError, StoreError
from mmnar.evaluation.evaluate import evaluate
from mmnar.evaluation.export import write_predictions, write_splits
from mmnar.files import write_whole
from mmnar.predictions import load
from mmnar.workflow import Run, train_run
from tests.conftest import draw_predictions
from tests.populations import population

MODELS = ("pattern-only", "pattern-only+rectifier")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("export")
    write_store(folder / "store", population(600, subjects=300))
    return train_run(folder / "store", "pattern-only", folder / "run", ("fits=2",))


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "meds"
    export(run.folder, out=out)
    return out


def test_splits_are_meds(run: Run, exported: Path) -> None:
    table = pq.read_table(exported / "metadata" / "subject_splits.parquet")
    SubjectSplitSchema.validate(table)
    got = dict(zip(*table.to_pydict().values(), strict=True))
    data = open_store(run.folder.parent / "store")
    held_out = {subject for subject, split in got.items() if split == "held_out"}
    assert held_out == set(run.test.subject_id.tolist())
    for role, word in (("train", "train"), ("tune", "tuning")):
        fold = data.fold(Split(), role)  # type: ignore[call-overload]
        assert {subject for subject, split in got.items() if split == word} == set(fold.subject_id.tolist())
    assert set(got) == set(data.subject_id.tolist())


def test_a_split_by_an_attribute_can_be_exported(run: Run, tmp_path: Path) -> None:
    data = open_store(run.folder.parent / "store")
    values = np.where(data.subject_id % 3 == 0, "north", "south")
    data = replace(data, attributes={**data.attributes, "site": values})
    write_splits(data, Split(by="site", held_out=("north",)), tmp_path / "subject_splits.parquet")
    got = dict(pl.read_parquet(tmp_path / "subject_splits.parquet").iter_rows())
    held_out = {subject for subject, split in got.items() if split == "held_out"}
    assert held_out == set(data.subject_id[values == "north"].tolist())


def test_calibration_stays_calibration(run: Run, tmp_path: Path) -> None:
    data = open_store(run.folder.parent / "store")
    split = Split.by_subject(data, calibration=0.2)
    write_splits(data, split, tmp_path / "subject_splits.parquet")
    table = pl.read_parquet(tmp_path / "subject_splits.parquet")
    calibrating = set(data.fold(split, "calibration").subject_id.tolist())
    assert set(table.filter(split="calibration")["subject_id"]) == calibrating


def test_labels_are_meds(run: Run, exported: Path) -> None:
    data = open_store(run.folder.parent / "store")
    for k, task in enumerate(data.schema.task_names):
        table = pq.read_table(exported / "labels" / task)
        LabelSchema.validate(table)
        asked = data.label_mask[:, k]
        assert table["subject_id"].to_pylist() == data.subject_id[asked].tolist()
        assert table["prediction_time"].cast(pa.int64()).to_pylist() == data.prediction_time[asked].tolist()
        assert table["boolean_value"].to_pylist() == data.labels[asked, k].tolist()


def test_predictions_have_the_closed_schema_and_a_sibling_with_the_rest(run: Run, exported: Path) -> None:
    full = pl.read_parquet(exported / "predictions_full.parquet")
    assert run.rectified is not None
    for name, predictions in zip(MODELS, (run.test, run.rectified), strict=True):
        mine = full.filter(model=name)
        assert mine["role"].unique().to_list() == ["test"]
        assert mine["stay_id"].to_list() == predictions.stay_id.tolist()
        assert mine["prediction_time"].dt.timestamp("us").to_list() == predictions.prediction_time.tolist()
        assert mine["pattern"].to_list() == ["".join(map(str, row)) for row in predictions.present.astype(int)]
        for task in predictions.tasks:
            table = pq.read_table(exported / "predictions" / name / task / "predictions.parquet")
            LabelSchema.validate(table.select(["subject_id", "prediction_time", "boolean_value"]))
            assert table.schema.names[3:] == ["predicted_boolean_value", "predicted_boolean_probability"]
            assert table.schema.types[3:] == [pa.bool_(), pa.float32()]
            assert table["predicted_boolean_value"].null_count == len(table)
            proba, labels, asked = predictions.task(task)
            assert table["boolean_value"].to_pylist() == labels[asked].tolist()
            assert table["predicted_boolean_probability"].to_pylist() == proba[asked].astype(np.float32).tolist()
            p = mine[f"{task}.proba"].to_numpy()
            np.testing.assert_allclose(mine[f"{task}.logit"], np.log(p) - np.log1p(-p), rtol=1e-12)
            assert mine[f"{task}.label"].is_not_null().to_list() == asked.tolist()


def test_an_export_without_room_leaves_nothing_and_is_repeated(
    run: Run, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files fit."""
    for fits in range(4):
        written = 0

        def counted(target: Path, write: Any, fits: int = fits) -> None:
            nonlocal written
            written += 1
            if written > fits:
                raise OSError(errno.ENOSPC, "No space left on device")
            write_whole(target, write)

        with monkeypatch.context() as patch:
            patch.setattr(mmnar.evaluation.export, "write_whole", counted)
            with pytest.raises(StoreError, match="got No space left on device; free space"):
                export(run.folder, out=tmp_path / "out")
        assert not list(tmp_path.iterdir())
    export(run.folder, out=tmp_path / "out")
    assert {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*")} == {
        p.relative_to(exported) for p in exported.rglob("*")
    }


def test_nothing_is_overwritten_and_a_changed_store_is_refused(run: Run, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="one with files in it"):
        export(run.folder, out=exported)
    write_store(tmp_path / "other", population(100))
    with pytest.raises(StoreError, match="another fingerprint"):
        export(run.folder, out=tmp_path / "out", store=tmp_path / "other")
    assert not (tmp_path / "out").exists()


def test_a_task_whose_name_is_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="rename the task"):
        write_predictions(draw_predictions(tasks=("../death",)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def meds_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a meds-evaluation that was installed just now; nothing of ours is in its environment."""
    venv = tmp_path_factory.mktemp("meds-evaluation")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip"]
    command = [*pip, "install", "--quiet", "-c", str(REPOSITORY / "constraints.txt"), "meds-evaluation"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and subprocess.run([*pip, "index", "versions", "pip"], capture_output=True).returncode:
        pytest.skip("no package index can be reached")
    assert not done.returncode, done.stderr
    return venv / "bin" / "meds-evaluation-cli"


def _judged(command: Path, predictions: Path, out: Path) -> dict[str, Any]:
    subprocess.run([command, f"predictions_path={predictions}", f"output_file={out}"], check=True, cwd=out.parent)
    result: dict[str, Any] = json.loads(out.read_text())["samples_equally_weighted"]
    return result


@pytest.mark.slow
def test_meds_evaluation_agrees(meds_evaluation: Path, exported: Path, tmp_path: Path, run: Run) -> None:
    scored = [load(run.folder / "predictions" / f"{name}.parquet") for name in ("test", "rectified")]
    ours = evaluate(*scored, resamples=10)
    for name in MODELS:
        theirs = _judged(
            meds_evaluation, exported / "predictions" / name / "mortality" / "predictions.parquet", tmp_path / "r.json"
        )
        metrics = ours.tasks["mortality"][name].metrics
        for metric, word in (
            ("auroc", "roc_auc_score"),
            ("auprc", "average_precision_score"),
            ("brier", "brier_score"),
        ):
            assert metrics[metric].value == pytest.approx(theirs[word], abs=1e-6), (name, metric)
