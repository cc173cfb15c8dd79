"""From raw tables to a store: what it holds, and what a kill or a full disk leaves behind."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import build_cohort
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.dataset.prepare import prepare
from mmnar.dataset.store import open_store
from mmnar.errors import SourceError, StoreError
from mmnar.sources.eicu import read_eicu
from mmnar.sources.events import Extract, FeatureRule
from tests.records import tiny_tables, write_tables


def _extract(folder: Path) -> Extract:
    return read_eicu(write_tables(folder / "raw", tiny_tables()))


def _prepare(extract: Extract, out: Path) -> Path:
    return prepare(extract, eicu_criteria(), eicu_questions(), out)


def test_a_store_in_which_nobody_has_anything_is_not_written(tmp_path: Path) -> None:
    extract = _extract(tmp_path)
    rules = [rule for rule in extract.rules if isinstance(rule, FeatureRule)]
    silent = [replace(rule, codes=("NO SUCH CODE",), zero_if_recorded="", history=False) for rule in rules]
    out = tmp_path / "store"
    with pytest.raises(SourceError, match="nobody with any"):
        _prepare(replace(extract, rules=tuple(silent)), out)
    assert not (out / "manifest.json").exists()
    kept = extract.rules[0]
    some = tuple(r if r.modality == kept.modality else s for r, s in zip(rules, silent, strict=True))
    warnings = open_store(_prepare(replace(extract, rules=some), out)).manifest["warnings"]
    others = {rule.modality for rule in extract.rules} - {kept.modality}
    assert {f"modality '{name}': nobody has it" for name in others} <= set(warnings)


def test_store_and_manifest(tmp_path: Path) -> None:
    extract = _extract(tmp_path)
    data = open_store(_prepare(extract, tmp_path / "store"), verify=True)
    cohort = build_cohort(extract, eicu_criteria(), eicu_questions())
    assert data.stay_id.tolist() == cohort.samples["stay_id"].to_list()
    assert data.prediction_time.tolist() == cohort.samples["prediction_time"].dt.timestamp("us").to_list()
    for k, task in enumerate(data.schema.task_names):
        labels = cohort.samples[f"label:{task}"]
        assert data.label_mask[:, k].tolist() == labels.is_not_null().to_list()
        assert data.labels[:, k].tolist() == labels.fill_null(False).to_list()
    manifest = data.manifest
    assert (manifest["source"], manifest["source_version"]) == ("eicu", "2.0")
    assert manifest["source_fingerprint"] == extract.fingerprint
    assert manifest["attrition"]["cohort"][0] == {
        "rule": "all unit stays",
        "kept": 11,
        "subjects": 9,
        "hindsight": False,
    }
    assert set(extract.warnings) <= set(manifest["warnings"])
    # stay 4's sodium of 999, stay by stay and moment by moment
    assert "feature 'laboratory.sodium_mean': fewer than 10 implausible values dropped" in manifest["warnings"]
    assert manifest["options"]["apache_prediction"] is True
    assert manifest["created"].endswith("+00:00")
    assert data.attributes["site"].tolist() == ["7"] * len(data)


def test_same_records_same_fingerprint(tmp_path: Path) -> None:
    first = open_store(_prepare(_extract(tmp_path / "a"), tmp_path / "s1"))
    second = open_store(_prepare(_extract(tmp_path / "b"), tmp_path / "s2"))
    assert first.fingerprint == second.fingerprint


def test_truth_is_joined_by_stay(tmp_path: Path) -> None:
    extract = _extract(tmp_path)
    stays = list(range(11, 0, -1))
    truth = pl.DataFrame(
        {"stay_id": stays, "readmission": [s / 100 for s in stays], "mortality": [s / 10 for s in stays]}
    )
    data = open_store(_prepare(replace(extract, truth=truth), tmp_path / "store"))
    assert data.bayes is not None
    np.testing.assert_allclose(data.bayes, np.stack([data.stay_id / 10, data.stay_id / 100], axis=1))
    with pytest.raises(SourceError, match="truth"):
        _prepare(replace(extract, truth=truth.head(3)), tmp_path / "other")


KILLED = """
import sys
from mmnar.cohort.eicu import eicu_criteria, eicu_questions
from mmnar.dataset.prepare import prepare
from mmnar.sources.eicu import read_eicu
extracts = [read_eicu(sys.argv[1], apache_prediction=p) for p in (True, False)]
print("ready", flush=True)
while True:
    for extract in extracts:
        prepare(extract, eicu_criteria(), eicu_questions(), sys.argv[2])
"""


def test_kill_leaves_a_whole_store(tmp_path: Path) -> None:
    extract = _extract(tmp_path)
    out = _prepare(extract, tmp_path / "store")
    whole = {open_store(out).fingerprint}
    other = read_eicu(tmp_path / "raw", apache_prediction=False)
    whole.add(open_store(_prepare(other, tmp_path / "other")).fingerprint)
    chance = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "raw"), str(out)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert open_store(out, verify=True).fingerprint in whole
    # and the next run tidies up after the killed one
    _prepare(extract, out)
    left = sorted(path.name.partition("-")[0] for path in out.iterdir())
    assert left == ["data", "manifest.json", "subjects.key"]


def test_a_half_removed_old_store_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    """Killed while it removed data A after B: a later A must not point at what is left of the old A."""
    extract = _extract(tmp_path)
    out = _prepare(extract, tmp_path / "store")
    stale = out / str(open_store(out).manifest["data"])
    _prepare(read_eicu(tmp_path / "raw", apache_prediction=False), out)
    assert not stale.exists()
    stale.mkdir()
    (stale / "labels.npy").write_bytes(b"half")
    assert len(open_store(_prepare(extract, out), verify=True))


def test_full_disk_keeps_the_old_store(tmp_path: Path) -> None:
    extract = _extract(tmp_path)
    out = _prepare(extract, tmp_path / "store")
    before = open_store(out).fingerprint
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))
    try:
        with pytest.raises(StoreError, match="the store that was there is unchanged"):
            _prepare(read_eicu(tmp_path / "raw", apache_prediction=False), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert open_store(out, verify=True).fingerprint == before
    left = sorted(path.name.partition("-")[0] for path in out.iterdir())
    assert left == ["data", "manifest.json", "subjects.key"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_full_tmpfs(tmp_path: Path) -> None:
    extract = _extract(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mount is not permitted here")
    try:
        with pytest.raises(StoreError, match="room and permission to write"):
            _prepare(extract, disk / "store")
        with pytest.raises(StoreError, match="prepare"):
            open_store(disk / "store")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
