"""Check a machine and a data folder before hours are lost."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmnar.errors import MmnarError

PACKAGES = ("mmnar", "torch", "lightning", "polars", "numpy", "scipy", "scikit-learn", "skops", "safetensors")


def examine(root: Path | None = None, store: Path | None = None) -> tuple[list[str], bool]:
    """Lines to print and whether everything needed is there.

    Args:
        root: A folder of raw eICU records, or None.
        store: A prepared store, or None.
    """
    lines, healthy = _packages()
    lines += _machine()
    for check, path in ((_records, root), (_store, store)):
        if path is not None:
            more, good = check(path)
            lines, healthy = lines + more, healthy and good
    return lines, healthy


def _packages() -> tuple[list[str], bool]:
    lines, healthy = [], True
    for name in PACKAGES:
        try:
            lines.append(f"ok    {name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"FAIL  {name} is not installed; run pip install mmnar")
            healthy = False
    return lines, healthy


def _machine() -> list[str]:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, training runs on the CPU"
    return [
        f"ok    {os.cpu_count()} cores, {memory:.1f} GiB memory, {free:.1f} GiB free disk here",
        f"ok    GPU: {device}",
    ]


def _records(root: Path) -> tuple[list[str], bool]:
    from mmnar.sources.eicu import read_eicu

    try:
        extract = read_eicu(root)
    except MmnarError as error:
        return [f"FAIL  records: {error}"], False
    lines = [
        f"ok    eICU records: release {extract.version}, {extract.stays.height} unit stays, "
        f"{len(extract.rules)} features"
    ]
    return lines + [f"note  {warning}" for warning in extract.warnings], True


def _store(path: Path) -> tuple[list[str], bool]:
    from mmnar.dataset.store import open_store

    try:
        data = open_store(path, verify=True)
    except MmnarError as error:
        return [f"FAIL  store: {error}"], False
    return [f"ok    store: {len(data)} samples, fingerprint {data.fingerprint}, every file's hash matches"], True
