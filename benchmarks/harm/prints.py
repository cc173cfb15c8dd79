"""What a store, a run or a study holds, as something to compare: to the bit, but for times and places."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

TIMES = ("seconds", "cpu_seconds", "peak_memory_mb", "latency_ms", "created", "seal", "store", "files", "versions")


def remains(folder: Path) -> list[str]:
    """What a kill left that nothing cleans up."""
    names = (".tmp-", ".lock", ".building", "work")
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith(names) and p.name != "workers")


def store_print(folder: Path) -> dict[str, Any]:
    """Content, what was dropped and what was told."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {k: manifest.get(k) for k in ("fingerprint", "warnings", "attrition", "schema_digest", "samples")}


def run_print(folder: Path) -> dict[str, Any]:
    """Predictions, model, rectifier, settings and every training record."""
    record = json.loads((folder / "run.json").read_text())
    history = json.loads((folder / "history.json").read_text())
    files = [*folder.glob("predictions/*.parquet"), *folder.glob("model/**/*"), folder / "rectifier.json"]
    hashes = {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.is_file() and p.name != "predictor.json" and not p.name.startswith("copy-")  # nobody reads a stranger
    }
    return {
        "record": {k: v for k, v in record.items() if k not in TIMES},
        "history": [{k: v for k, v in r.items() if k != "seconds"} for r in history],
        "files": dict(sorted(hashes.items())),
    }


def study_print(folder: Path) -> dict[str, Any]:
    """Every run of it."""
    return {p.parent.name: run_print(p.parent) for p in sorted(folder.glob("runs/*/run.json"))}


def tree_print(folder: Path) -> dict[str, Any]:
    """Every file of a folder, or the one file that it is."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in (sorted(folder.rglob("*")) if folder.is_dir() else [folder])
        if p.is_file()
    }


def cells(folder: Path) -> dict[str, int]:
    """Samples of a store, and observed values of each modality."""
    manifest = json.loads((folder / "manifest.json").read_text())
    data, found = folder / manifest["data"], {"samples": int(manifest["samples"])}
    for modality in manifest["schema"]["modalities"]:
        name = modality["name"]
        if modality["kind"] == "static":
            found[name] = int((~np.isnan(np.load(data / "values" / f"{name}.npy"))).sum())
        else:
            found[name] = len(np.load(data / "values" / name / "hours.npy"))
    return found
