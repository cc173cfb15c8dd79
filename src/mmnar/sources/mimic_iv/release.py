"""Which release a folder holds, told by its rows; two releases in one folder are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mmnar.errors import SourceError
from mmnar.privacy import counted_of
from mmnar.sources.mimic_iv.people import SmallTables

_COUNTS: Final[dict[tuple[int, int], tuple[str, ...]]] = {
    (315460, 454324): ("2.0",),
    (299777, 431088): ("2.1",),
    (299712, 431231): ("2.2",),
    (364627, 546028): ("3.1", "3.0"),
    (100, 275): ("2.2 demo",),
}
"""Patients, admissions → releases, newest first. 3.1 mended other tables than these."""
_STAYS: Final[dict[int, tuple[str, ...]]] = {
    76943: ("2.0",),
    73141: ("2.1",),
    73181: ("2.2",),
    94458: ("3.1", "3.0"),
    140: ("2.2 demo",),
}
"""Unit stays → releases."""
_LATEST_GROUP: Final = "2020 - 2022"
"""Years of care that release 3.0 brought."""
_STRANGERS: Final = 0.05
"""Share of unit stays without their admission from which on the two modules are taken to be of different releases;
releases differ in more than a tenth of their stays."""
_NAME: Final = re.compile(r"^(?:mimic[a-z-]*?[-_]?(demo[-_])?)?v?([1-9]\.\d)$", re.IGNORECASE)


def release_of(root: Path, small: SmallTables) -> str:
    """The release, e.g. ``"2.2"``, ``"3.1"``, ``"2.2 demo"``; ``"2.x"`` or ``"3.x"`` of a part that does not say.

    Rows decide: the number of patients and admissions of a whole release, else the years of care. What the folder or
    its CHANGELOG says decides between releases of equal rows, and of parts.

    Raises:
        SourceError: ``hosp`` and ``icu`` are of different releases, or the folder's name is that of another.
    """
    _check_joins(small)
    named = {module: _named(root / module) for module in ("hosp", "icu")}
    if named["hosp"] and named["icu"] and named["hosp"] != named["icu"]:
        raise _mixed(f"hosp of {named['hosp']} and icu of {named['icu']} by their folders")
    by_rows = _COUNTS.get((small.patients.height, small.admissions.height), ())
    by_stays = _STAYS.get(small.icustays.height, ())
    if by_rows and by_stays and not set(by_rows) & set(by_stays):
        raise _mixed(f"as many patients and admissions as {by_rows[0]}, as many unit stays as {by_stays[0]}")
    name = named["hosp"] or named["icu"]
    if by_rows:
        return name if name in by_rows else by_rows[0]
    newest = (small.patients["anchor_year_group"] == _LATEST_GROUP).any()
    if name.startswith("2.") and newest:
        raise _mixed(f"a folder named {name} with patients of {_LATEST_GROUP}, who came with 3.0")
    return name or ("3.x" if newest else "2.x")


def _check_joins(small: SmallTables) -> None:
    keys = ["subject_id", "hadm_id"]
    strangers = small.icustays.join(small.admissions, on=keys, how="anti").height
    if strangers > max(1, _STRANGERS * small.icustays.height):
        raise _mixed(f"{counted_of(strangers, small.icustays.height)} unit stays whose admission is not in hosp")


def _named(folder: Path) -> str:
    """The release that a folder's path or CHANGELOG names; "" where neither does."""
    path = folder.resolve()
    for log in sorted(path.parent.glob("CHANGELOG*")):
        told = re.findall(r"\bv?([1-9]\.\d)\b", log.read_text(encoding="utf-8", errors="replace"))
        if told:
            return str(max(told))
    for part in reversed(path.parts[:-1]):
        found = _NAME.match(part)
        if found:
            return found[2] + (" demo" if found[1] else "")
    return ""


def _mixed(fact: str) -> SourceError:
    return SourceError("MIMIC-IV root", "hosp and icu of one release", fact, "take both folders from one release")
