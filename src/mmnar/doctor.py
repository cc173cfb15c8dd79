"""Check a machine and a data folder before hours are lost."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmnar.errors import MmnarError
from mmnar.shipped import CONSTRAINTS

if TYPE_CHECKING:
    from mmnar.sources.reading.recognise import Records

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
    tested = dict(line.split("==") for line in CONSTRAINTS.read_text("utf-8").split() if "==" in line)
    for name in PACKAGES:
        try:
            there = version(name)
            other = name in tested and there.partition("+")[0] != tested[name]
            lines.append(f"ok    {name} {there}" + (f" (tested with {tested[name]})" if other else ""))
        except PackageNotFoundError:
            lines.append(f"FAIL  {name} is not installed; run pip install {name}")
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
    from mmnar.sources.reading.recognise import DEPTH, releases

    try:
        found = releases(root)
    except MmnarError as error:
        return [f"FAIL  records: {error}"], False
    if not found:
        lines = [f"FAIL  records: no tables of a known release in '{root}' or {DEPTH} folders below it"]
        return lines + [f"note  {words}" for words in _hints(root)], False
    lines, healthy = [], True
    for records in found:
        more, good = _release(records)
        lines, healthy = lines + more, healthy and good
    return lines + _next(found), healthy


def _release(records: Records) -> tuple[list[str], bool]:
    """One release: what is there, what is not, and whether this machine is large enough for it."""
    kind = records.kind
    known = len(kind.needed) + len(kind.wanted)
    found = f"{len(records.tables)} of {known} tables" if known else records.tables[0].name
    lines = [f"ok    {kind.title}: {found} in {records.root}"]
    lines += [f"      {t.name}: {_gib(t.size)} GiB, about {t.rows:,} rows" for t in records.tables if t.rows]
    lines += [f"note  table '{name}' is absent: its features are left out" for name in records.absent]
    if kind.option != "--root":
        return lines, True
    whole = True
    if kind.verb == "mimic-iv":
        version, whole = _mimic_iv(records.root)
        lines.append(version)
    free, memory = shutil.disk_usage(Path.cwd()).free, _memory()
    roomy, large = records.disk <= free, records.memory <= memory
    lines.append(f"{_verdict(roomy)}  disk: about {_gib(records.disk)} GiB needed, {_gib(free)} GiB free here")
    lines.append(f"{_verdict(large)}  memory: about {_gib(records.memory)} GiB needed, {_gib(memory)} GiB there")
    return lines, roomy and large and whole


CAREBENCH: Final = ("chartevents", "outputevents", "diagnoses_icd")
"""Without which `prepare carebench` cannot do."""
MEDFUSE: Final = ("chartevents", "labevents")
"""Without which `prepare medfuse` cannot do."""


def _next(found: Sequence[Records]) -> list[str]:
    """The ``prepare`` line of each root, with the additions that lie nearest to it; additions without a root."""
    roots = [records for records in found if records.kind.option == "--root"]
    lines = []
    for number, records in enumerate(roots, 1):
        words = ["mmnar prepare", records.kind.verb, "--root", shlex.quote(str(records.root))]
        additions = [r for r in found if r.kind.verb == records.kind.verb and r.kind.option != "--root"]
        given = {r.kind.option for r in additions}
        for option in ("--notes", "--cxr", "--embeddings"):
            if option not in given or (option == "--embeddings" and "--cxr" not in given):
                continue
            nearest = max((r for r in additions if r.kind.option == option), key=lambda r: _nearness(r, records))
            words += [option, shlex.quote(str(nearest.root))]
        if records.kind.verb == "meds":
            labels = [path for path in (records.root / "labels", records.root.parent / "labels") if path.is_dir()]
            words += ["--labels", shlex.quote(str(labels[0])) if labels else "LABELS"]
        lines.append(f"next  {' '.join(words)} --out store{number if len(roots) > 1 else ''}")
        if records.kind.verb == "mimic-iv" and not {*CAREBENCH} & {*records.absent}:
            lines.append("note  `mmnar prepare carebench` asks 33 other questions of the same folders, at 48 h")
        if records.kind.verb == "mimic-iv" and not {*MEDFUSE} & {*records.absent}:
            lines.append("note  `mmnar prepare medfuse` asks in-hospital death at 48 h, or 25 phenotypes looking back")
    for records in found:
        if records.kind.option == "--root":
            continue
        if records.kind.verb not in {r.kind.verb for r in roots}:
            lines.append(
                f"note  {records.kind.title} goes with MIMIC-IV, as {records.kind.option}; it is not below '--root'"
            )
        elif records.kind.option == "--embeddings" and not any(r.kind.option == "--cxr" for r in found):
            lines.append("note  embeddings need MIMIC-CXR-JPG's table of metadata, for their times; it is not there")
    return lines


def _nearness(addition: Records, root: Records) -> tuple[int, list[tuple[int, str]]]:
    """How much of their path is common; of two as near the later version."""
    ours, theirs = addition.root.resolve().parts, root.root.resolve().parts
    common = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    return common, [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(addition.root))
    ]


def _hints(root: Path) -> list[str]:
    """What the folder may be in place of a release."""
    from mmnar.sources.reading.recognise import recognise

    hints = []
    if (root / "manifest.json").is_file():
        hints.append(f"it is a prepared store: mmnar doctor --store {shlex.quote(str(root))}")
    above = recognise(root.resolve().parent)
    if above is not None:
        hints.append(f"the folder above it is {above.kind.title}: mmnar doctor --root {shlex.quote(str(above.root))}")
    if any(path.name.lower().endswith((".zip", ".tar.gz", ".tgz")) for path in root.iterdir()):
        hints.append("there are archives in it: unpack them first")
    return [
        *hints,
        "known: MIMIC-IV (with hosp and icu), its notes, MIMIC-CXR-JPG and its released embeddings, eICU, "
        "PhysioNet 2012, MEDS; for tables of your own see `mmnar prepare table --help`",
    ]


def _mimic_iv(root: Path) -> tuple[str, bool]:
    from mmnar.privacy import counted
    from mmnar.sources.mimic_iv.people import read_small
    from mmnar.sources.mimic_iv.release import release_of
    from mmnar.sources.reading.raw import DataRoot

    try:
        small = read_small(DataRoot(root, ("hosp", "icu")))
        told = f"{counted(small.patients.height)} patients, {counted(small.admissions.height)} admissions"
        return f"ok    release {release_of(root, small)}: {told}, {counted(small.icustays.height)} unit stays", True
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
