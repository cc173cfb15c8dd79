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
        root: A folder of raw records, or None.
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

    memory = _memory() / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, training runs on the CPU"
    return [
        f"ok    {os.cpu_count()} cores, {memory:.1f} GiB memory, {free:.1f} GiB free disk here",
        f"ok    GPU: {device}",
    ]


def _records(root: Path) -> tuple[list[str], bool]:
    from mmnar.sources.reading.recognise import recognise

    try:
        records = recognise(root)
    except MmnarError as error:
        return [f"FAIL  records: {error}"], False
    if records is None:
        return [f"FAIL  records: no tables of a known release in '{root}'"], False
    kind = records.kind
    known = len(kind.needed) + len(kind.wanted)
    found = f"{len(records.tables)} of {known} tables" if known else records.tables[0].name
    lines = [f"ok    {kind.title}: {found}"]
    lines += [f"      {t.name}: {_gib(t.size)} GiB, about {t.rows:,} rows" for t in records.tables if t.rows]
    lines += [f"note  table '{name}' is absent: its features are left out" for name in records.absent]
    free, memory = shutil.disk_usage(Path.cwd()).free, _memory()
    roomy, large = records.disk <= free, records.memory <= memory
    lines.append(f"{_verdict(roomy)}  disk: about {_gib(records.disk)} GiB needed, {_gib(free)} GiB free here")
    lines.append(f"{_verdict(large)}  memory: about {_gib(records.memory)} GiB needed, {_gib(memory)} GiB there")
    whole = True
    if kind.verb == "mimic-iv":
        version, whole = _mimic_iv(root)
        lines.append(version)
    if kind.verb:
        lines.append(f"      next: mmnar prepare {kind.verb} --root {root} --out STORE (see --help)")
    return lines, roomy and large and whole


def _mimic_iv(root: Path) -> tuple[str, bool]:
    from mmnar.sources.mimic_iv.people import read_small
    from mmnar.sources.mimic_iv.release import release_of
    from mmnar.sources.reading.raw import DataRoot

    try:
        small = read_small(DataRoot(root, ("hosp", "icu")))
        told = f"{small.patients.height:,} patients, {small.admissions.height:,} admissions"
        return f"ok    release {release_of(root, small)}: {told}, {small.icustays.height:,} unit stays", True
    except MmnarError as error:
        return f"FAIL  release: {error}", False


def _verdict(good: bool) -> str:
    return "ok  " if good else "FAIL"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f}"


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _store(path: Path) -> tuple[list[str], bool]:
    from mmnar.dataset.store import open_store

    try:
        data = open_store(path, verify=True)
    except MmnarError as error:
        return [f"FAIL  store: {error}"], False
    return [f"ok    store: {len(data)} samples, fingerprint {data.fingerprint}, every file's hash matches"], True
