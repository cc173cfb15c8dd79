"""A simulated MIMIC-IV tree, raw → dataset with all four modalities, against what the simulation says it wrote."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mmnar.cli import app
from mmnar.cohort.build import build_cohort
from mmnar.cohort.mimic_iv import mimic_iv_criteria, mimic_iv_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import open_store
from mmnar.errors import SourceError
from mmnar.images.tfrecord import pack_embeddings
from mmnar.simulation.mimic_iv.release import CXR, EMBEDDINGS, IV, NOTES, TRUTH, write_mimic_iv
from mmnar.sources.mimic_iv import read_mimic_iv

TASKS = ("readmission", "icu_admission", "mortality")
MODALITIES = {
    "structured": "structured",
    "discharge_summary": "discharge_summary",
    "radiology_report": "radiology_report",
    "cxr": "chest_xray",
}
"""Our name → the simulation's."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "tree"
    write_mimic_iv(out, 150, seed=2)
    return out


def test_labels_and_modalities_are_those_of_the_simulation(tree: Path, tmp_path: Path) -> None:
    packed = pack_embeddings(tree / EMBEDDINGS, tmp_path / "embeddings")
    extract = read_mimic_iv(
        tree / IV, work=tmp_path / "work", notes=tree / NOTES.parent, cxr=tree / CXR, embeddings=packed
    )
    assert extract.version == "3.1 simulated"
    cohort = build_cohort(extract, mimic_iv_criteria(), mimic_iv_questions())
    data = dataset_of(extract, cohort)
    truth = pl.read_parquet(tree / TRUTH)
    present = {f"got:{name}": data.present[:, i] for i, name in enumerate(data.schema.modality_names)}
    assert set(data.schema.modality_names) == set(MODALITIES)
    both = cohort.samples.with_columns(**{k: pl.Series(v) for k, v in present.items()}).join(
        truth.rename({f"label:{t}": f"truth:{t}" for t in TASKS}), on=["subject_id", "hadm_id", "stay_id"]
    )
    assert both.height == cohort.samples.height
    assert both["subject_id"].n_unique() == 150
    for task in TASKS:
        asked = both.drop_nulls(f"label:{task}")
        assert asked[f"label:{task}"].to_list() == asked[f"truth:{task}"].to_list(), task
    at_discharge = both.drop_nulls("label:readmission")
    early = both.drop_nulls("label:mortality")
    for ours, theirs in MODALITIES.items():
        expected = at_discharge[f"present:{theirs}"]
        assert at_discharge[f"got:{ours}"].to_list() == expected.to_list(), ours
        # who has a summary has none yet at 48 h
        known = early[f"present:{theirs}"].to_list() if ours != "discharge_summary" else [False] * early.height
        assert early[f"got:{ours}"].to_list() == known, ours


def test_the_command_writes_a_store(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        *("prepare", "mimic-iv", "--root", str(tree / IV), "--notes", str(tree / NOTES.parent)),
        *("--cxr", str(tree / CXR), "--embeddings", str(tree / EMBEDDINGS), "--structured", "series"),
        *("--mortality-at", "24", "--limit", "120", "--notes-encoder", "hashing", "--out", str(tmp_path / "store")),
    ]
    app(words, result_action="return_value")
    data = open_store(tmp_path / "store")
    assert {m.name: m.kind for m in data.schema.modalities} == {
        "demographics": "static",
        "structured": "series",
        "discharge_summary": "hashed",
        "radiology_report": "hashed",
        "cxr": "embedding",
    }
    assert len(set(data.subject_id.tolist())) == 120
    assert data.manifest["source_version"] == "3.1 simulated"
    assert "MIMIC-IV 3.1" in capsys.readouterr().out


def test_embeddings_have_no_times_of_their_own(tree: Path, tmp_path: Path) -> None:
    packed = pack_embeddings(tree / EMBEDDINGS, tmp_path / "embeddings")
    with pytest.raises(SourceError, match="which has the times"):
        read_mimic_iv(tree / IV, work=tmp_path / "work", embeddings=packed)
