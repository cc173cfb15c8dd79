"""A study's result as a file: read back, and slim enough to be committed."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from mmnar.errors import StoreError
from mmnar.evaluation.atlas import Atlas
from mmnar.files import read_json, write_text
from mmnar.study.result import FORMAT, STEPPED, StudyResult, Table

DIGITS: Final = 5
"""Significant digits of a slim result's numbers; no page shows more."""

_PLACES: Final = ("model.image.weights", "hide.law")
"""Settings that may name a file or folder."""

_FOLDERS: Final = re.compile(r"(?<![\w.:])/(?:[^\s/'\"]+/)+")
"""All of an absolute path but its last part."""


def load_result(path: Path) -> StudyResult:
    """A saved result.

    Raises:
        StoreError: Not a study's result.
    """
    if not path.is_file():
        raise StoreError(f"'{path}'", "the result of a study", "none", "run `mmnar study` first")
    record = read_json(path, f"'{path}'", "run `mmnar study` again")
    if not isinstance(record, dict) or record.pop("format", "") != FORMAT:
        raise StoreError(f"'{path}'", "the result of a study", "something else", "run `mmnar study` first")
    try:
        result: StudyResult = _as(StudyResult, record)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise StoreError(f"'{path}'", "the result of a study", "a damaged one", "run `mmnar study` again") from None
    return result


def slim(result: StudyResult) -> StudyResult:
    """What the page shows, and nothing else: no paths, no tracebacks, no unused digits.

    Of metrics those that the study names are kept, of comparisons those that are shown, of an atlas its patterns.
    """
    study = result.study
    data = [{**d, "store": Path(d["store"]).name} for d in study["data"]]
    reference = [of for of in study["reference"] if of["data"] in {d["reference"] for d in data}]
    plain = replace(
        result,
        study=without_places({**study, "data": data, "reference": reference}),
        chosen=tuple(without_places(of) for of in result.chosen),
        tables=tuple(_slim_table(table, [*study["metrics"], "auroc"]) for table in result.tables),
        failures=tuple((label, _FOLDERS.sub("", error), "") for label, error, _ in result.failures),
        notices=tuple(_FOLDERS.sub("", notice) for notice in result.notices),
    )
    short: StudyResult = _as(StudyResult, _rounded(asdict(plain)))
    return short


def without_places(said: Any) -> Any:
    """Settings as they are told to others: of a file of weights its name alone."""
    if isinstance(said, Mapping):
        return {key: _named(of) if key in _PLACES else without_places(of) for key, of in said.items()}
    return [without_places(of) for of in said] if isinstance(said, (list, tuple)) else said


def _named(places: Any) -> Any:
    return [_named(place) for place in places] if isinstance(places, (list, tuple)) else Path(str(places)).name


def save_slim(result: StudyResult, path: Path) -> None:
    """``slim`` in as few characters as it takes; ``load_result`` reads it."""
    write_text(path, json.dumps(_without_blanks(slim(result).to_dict()), separators=(",", ":"), ensure_ascii=False))


def _without_blanks(value: Any) -> Any:
    """Without the empty reasons of numbers that are given."""
    if isinstance(value, Mapping):
        return {key: _without_blanks(of) for key, of in value.items() if (key, of) != ("reason", "")}
    return [_without_blanks(of) for of in value] if isinstance(value, (list, tuple)) else value


def _slim_table(table: Table, metrics: list[str]) -> Table:
    tasks = {
        task: {
            row: replace(
                numbers,
                metrics={m: e for m, e in numbers.metrics.items() if m in metrics},
                spread={m: s for m, s in numbers.spread.items() if m in metrics},
            )
            for row, numbers in rows.items()
        }
        for task, rows in table.tasks.items()
    }
    return replace(
        table,
        tasks=tasks,
        comparisons=tuple(c for c in table.comparisons if c.metric == "auroc"),
        ladder=tuple(c for c in table.ladder if c.metric in STEPPED),
        bayes={task: {m: e for m, e in of.items() if m in metrics} for task, of in table.bayes.items()},
        atlas=None if table.atlas is None else _slim_atlas(table.atlas),
    )


def _slim_atlas(atlas: Atlas) -> Atlas:
    return replace(atlas, features=(), feature_groups=(), breakdowns=())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(of) for key, of in value.items()}
    return [_rounded(of) for of in value] if isinstance(value, (list, tuple)) else value


def _as(kind: Any, value: Any) -> Any:
    """Plain JSON as the type it was written from: dataclasses, tuples and mappings of them."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: _as(hints[name], of) for name, of in value.items()})  # type: ignore[operator]
    if origin in (Union, types.UnionType):
        return None if value is None else _as(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_as(of, part) for of, part in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: _as(arguments[1], part) for key, part in value.items()}
    return value
