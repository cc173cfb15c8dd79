"""The body of a request as plain values, of the form it should have. Refusals never show what it holds."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from mmnar.errors import SourceError
from mmnar.workflow.doors import Records

_LONGEST: Final = 100
"""Characters of a name that are compared with known ones."""


@dataclass(frozen=True)
class Patient:
    """One of those asked about.

    Args:
        who: Subject, and what tells this question from others about the same subject, as text of the request.
        shown: Both as the answer shows them.
        key: Of the row among the risks.
        refused: Why there is no risk; "" = there is one.
        told: What else the answer says.
    """

    who: tuple[str, str]
    shown: dict[str, Any]
    key: tuple[Any, ...]
    refused: str = ""
    told: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Question:
    """What a request asks.

    Args:
        patients: In the order of the request.
        key: Columns of ``Patient.key`` among the risks.
        records: Of those who are not refused; None = all are.
    """

    patients: tuple[Patient, ...]
    key: tuple[str, ...]
    records: Records | None


def read_body(body: bytes) -> dict[str, Any]:
    """
    Raises:
        SourceError: Not one JSON object of plain numbers and UTF-8 text, with each key once.
    """
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_each_once)
        if b"\\u" in body:
            json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        refuse("body", "one JSON object in UTF-8, of plain numbers, each key once", "something else")
    return found


def check_keys(body: Mapping[str, Any], needed: Sequence[str], allowed: Sequence[str] = ()) -> None:
    """
    Raises:
        SourceError: A key is missing, or one is not known.
    """
    if not {*needed} <= {*body} <= {*needed, *allowed}:
        may = f", and perhaps {', '.join(allowed)}" if allowed else ""
        refuse("body", f"the keys {', '.join(needed)}{may}", "others")


def objects(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """
    Raises:
        SourceError: Not a list of objects, one or more.
    """
    found = body[name]
    if not isinstance(found, list) or not found or not all(isinstance(row, dict) and row for row in found):
        refuse(name, "a list of objects, one or more, none empty", "something else")
    return found


def check_units(body: Mapping[str, Any], stated: Mapping[str, str]) -> None:
    """Compare ``units`` of the body, where there, with those of the run.

    Args:
        stated: Column or code → its unit, of those whose unit the run knows.

    Raises:
        SourceError: A unit differs, or the run does not know one.
    """
    units = body.get("units", {})
    if not isinstance(units, dict) or not all(isinstance(unit, str) for unit in units.values()):
        refuse("units", "an object of name: unit", "something else")
    for name, unit in units.items():
        if name not in stated:
            refuse("units", "names whose unit the run states", "another", hint(name, stated))
        if unit != stated[name]:
            refuse(f"unit of '{name}'", f"that of the run, {stated[name]}", "another", "convert the values")


def hint(name: str, known: Collection[str]) -> str:
    """The known name that is nearest to a given one, which is not shown.

    >>> hint("lactat", ["lactate", "crp"])
    "did you mean 'lactate'?"
    """
    close = difflib.get_close_matches(name[:_LONGEST], sorted(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "correct the request"


def refuse(subject: str, expected: str, got: str, remedy: str = "correct the request") -> NoReturn:
    """
    Raises:
        SourceError: Always.
    """
    raise SourceError(subject, expected, got, remedy)


def _no_number(_: str) -> NoReturn:
    raise ValueError


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found
