"""What a table's columns mean, written in YAML by the person who knows: parsed strictly, nothing guessed.

Every key is checked; an unknown one is refused with the nearest name. See ``docs/own-tables.md``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from mmnar.errors import ConfigError
from mmnar.schema import Panel, check_panels, panels_from
from mmnar.sources.reading.absent import ABSENT, absent_key
from mmnar.sources.table.keys import Keys, StrictLoader, named, word, words
from mmnar.sources.table.numbers import CENSORED, Censored

ColumnType = Literal["number", "category"]

_TAKEN: Final = {"subject_id", "hadm_id", "stay_id", "prediction_time", "intime", "outtime", "since", "sample", "task"}


@dataclass(frozen=True)
class ColumnSpec:
    """One input column.

    Args:
        name: Its header.
        modality: The modality it belongs to.
        type: None = inferred.
        known_at: Column with the time its value was known; "" = at the prediction time.
        missing: Further words that mean "not measured" in this column.
        measured: Words that mean it in other columns and are a value in this one.
        censored: What ``<x`` and ``>x`` mean: the bound, half of it (``<`` alone), or not measured; None = refused.
        unit: Of a number.
        low, high: Plausible range of a number; a value outside is dropped and counted.
        categories: Of a category whose words are stated: any other word is ``other``, which stands last.
    """

    name: str
    modality: str
    type: ColumnType | None = None
    known_at: str = ""
    missing: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    censored: Censored | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutcomeSpec:
    """A task.

    Args:
        name: Of the task.
        column: Where its answer stands.
        positive: Cells that count as the event; empty where the column is 0/1, true/false or yes/no.
        asked_at, outcome: In words, for the report.
    """

    name: str
    column: str
    positive: tuple[str, ...]
    asked_at: str
    outcome: str


@dataclass(frozen=True)
class ExcludeSpec:
    """Rows whose cell in ``column`` is one of ``values`` are left out; ``hindsight``: known only later."""

    name: str
    column: str
    values: tuple[str, ...]
    hindsight: bool = False


@dataclass(frozen=True)
class TableSpec:
    """A whole spec.

    Args:
        name: Of the source; also where its subject identifiers are valid.
        files: Files with the same columns, read one after the other; relative to the data root.
        subject: Column of the patient; rows of one patient never part in a split.
        sample: Column that identifies a row; "" = none.
        prediction_time: Column of the moment the question is asked; "" = none.
        time_format: Of time columns; "" = the usual forms (``times.read_times``).
        missing: Words that mean "not known" in any column; letter case does not matter, a blank cell always does.
        categories: Most categories of a column, ``other`` included.
        max_missing: A modality is absent where more than this share of its columns is missing.
        columns: Inputs in order; modalities in order of first mention.
        outcomes, exclude: Tasks and left-out rows.
        attributes: Subgroup name → column.
        panels: Outcomes that are read together.
        ignore: Columns left out on purpose.
    """

    name: str
    files: tuple[str, ...]
    subject: str
    columns: tuple[ColumnSpec, ...]
    outcomes: tuple[OutcomeSpec, ...]
    sample: str = ""
    prediction_time: str = ""
    time_format: str = ""
    missing: tuple[str, ...] = ABSENT
    categories: int = 30
    max_missing: float = 0.8
    exclude: tuple[ExcludeSpec, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()
    digest: str = ""
    panels: tuple[Panel, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TableSpec:
        """The inverse of ``to_dict``."""
        own = dict(raw)
        own["columns"] = tuple(ColumnSpec(**_tuples(column)) for column in raw["columns"])
        own["outcomes"] = tuple(OutcomeSpec(**_tuples(outcome)) for outcome in raw["outcomes"])
        own["exclude"] = tuple(ExcludeSpec(**_tuples(rule)) for rule in raw["exclude"])
        own["attributes"] = tuple((name, column) for name, column in raw["attributes"])
        own["panels"] = panels_from(raw.get("panels", ()))
        return cls(**_tuples(own))

    def absent_in(self, column: str) -> tuple[str, ...]:
        """Words that mean "not known" in a column."""
        own = [c for c in self.columns if c.name == column]
        measured = {absent_key(word) for c in own for word in c.measured}
        listed = tuple(word for word in self.missing if absent_key(word) not in measured)
        return (*listed, *(word for c in own for word in c.missing))

    def mentioned(self) -> dict[str, str]:
        """Column → the key that names it, for every column the spec names."""
        found: dict[str, str] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.column, f"outcomes.{outcome.name}")
        for name, key in (
            (self.subject, "subject"),
            (self.sample, "sample"),
            (self.prediction_time, "prediction_time"),
            *((c.name, f"modalities.{c.modality}") for c in self.columns),
            *((c.known_at, f"modalities.{c.modality}.known_at") for c in self.columns),
            *((e.column, "exclude") for e in self.exclude),
            *((column, f"attributes.{name}") for name, column in self.attributes),
            *((name, "ignore") for name in self.ignore),
        ):
            if name:
                found.setdefault(name, key)
        return found


def load_spec(path: str | Path) -> TableSpec:
    """Read a spec.

    Raises:
        ConfigError: No such file, no YAML, an unknown or missing key, a value of the wrong form, a column twice, or an
            identifier, time or outcome among the inputs.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"spec '{path}'", "a readable YAML file", type(error).__name__, "check the path") from None
    try:
        raw = yaml.load(text, Loader=StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"spec '{path.name}'", "YAML", f"{problem}{where}", "correct it") from None
    return parse_spec(raw, hashlib.sha256(text.encode()).hexdigest())


def parse_spec(raw: Any, digest: str = "") -> TableSpec:
    """A spec from what YAML holds; see :func:`load_spec`."""
    top = Keys(raw, "spec")
    censored = _censored(top)
    columns = tuple(
        column
        for modality, body in top.mapping("modalities").items()
        for column in _modality(named(modality, "modalities"), body, censored)
    )
    spec = TableSpec(
        name=named(top.word("name"), "name"),
        files=top.words("files"),
        subject=_header(top, "subject"),
        columns=columns,
        outcomes=tuple(_outcome(named(name, "outcomes"), body) for name, body in top.mapping("outcomes").items()),
        sample=top.word("sample", "").strip(),
        prediction_time=top.word("prediction_time", "").strip(),
        time_format=top.word("time_format", ""),
        missing=top.words("missing", ABSENT),
        categories=int(top.number("categories", 30, low=2)),
        max_missing=top.number("max_missing", 0.8, low=0, high=1),
        exclude=tuple(_exclude(body, f"exclude[{i}]") for i, body in enumerate(top.listed("exclude"))),
        attributes=_attributes(top),
        ignore=top.words("ignore", ()),
        digest=digest,
        panels=tuple(_panel(named(name, "panels"), body) for name, body in top.mapping("panels", {}).items()),
    )
    top.finish()
    _check(spec)
    return spec


def _tuples(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}


def _censored(keys: Keys, default: Censored | None = None) -> Censored | None:
    said: Any = keys.word("censored", default or "")
    if said and said not in CENSORED:
        raise ConfigError("'censored'", " | ".join(CENSORED), repr(said), "use one of these")
    return said or None


def _modality(name: str, body: Any, censored: Censored | None) -> tuple[ColumnSpec, ...]:
    where = f"modalities.{name}"
    if isinstance(body, list):
        body = {"columns": body}
    keys = Keys(body, where)
    known_at = keys.word("known_at", "")
    censored = _censored(keys, censored)
    listed = keys.listed("columns")
    keys.finish()
    if not listed:
        raise ConfigError(where, "at least one column", "none", "name its columns or leave the modality out")
    return tuple(_column(name, item, known_at, censored) for item in listed)


def _column(modality: str, item: Any, known_at: str, censored: Censored | None) -> ColumnSpec:
    keys = Keys({"column": item} if not isinstance(item, dict) else item, f"modalities.{modality}")
    name = _header(keys, "column")
    kind = keys.word("type", "")
    if kind and kind not in get_args(ColumnType):
        raise ConfigError(f"type of column '{name}'", " | ".join(get_args(ColumnType)), repr(kind), "use one of these")
    categories = _categories(name, keys.words("categories", ()), kind)
    stated: Any = "category" if categories else kind or None
    spec = ColumnSpec(
        name,
        modality,
        stated,
        keys.word("known_at", known_at),
        keys.words("missing", ()),
        keys.words("measured", ()),
        _censored(keys, censored),
        keys.word("unit", ""),
        keys.optional_number("low"),
        keys.optional_number("high"),
        categories,
    )
    keys.finish()
    return spec


def _categories(name: str, stated: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Stated words in their order, ``other`` last.

    Raises:
        ConfigError: Of a number, or a word twice.
    """
    if not stated:
        return ()
    words = tuple(word for word in stated if word != "other")
    if kind == "number" or len(set(words)) < len(words):
        fact = "those of a number" if kind == "number" else "a word twice"
        raise ConfigError(f"categories of column '{name}'", "different words", fact, "correct the spec")
    return (*words, "other")


def _outcome(name: str, body: Any) -> OutcomeSpec:
    keys = Keys({"column": body} if not isinstance(body, dict) else body, f"outcomes.{name}")
    column = _header(keys, "column")
    spec = OutcomeSpec(
        name,
        column,
        keys.words("positive", ()),
        keys.word("asked_at", "prediction time"),
        keys.word("outcome", name),
    )
    keys.finish()
    return spec


def _panel(name: str, body: Any) -> Panel:
    """``panels.NAME``: a list of outcomes, or ``outcomes`` and ``exclusive``."""
    keys = Keys({"outcomes": body} if not isinstance(body, dict) else body, f"panels.{name}")
    panel = Panel(name, keys.words("outcomes"), keys.flag("exclusive"))
    keys.finish()
    return panel


def _exclude(body: Any, where: str) -> ExcludeSpec:
    keys = Keys(body, where)
    spec = ExcludeSpec(keys.word("name"), _header(keys, "column"), keys.words("values"), keys.flag("hindsight"))
    keys.finish()
    return spec


def _header(keys: Keys, key: str) -> str:
    """Name of a column; one without a name, such as a pandas index, cannot be told from none."""
    name = keys.word(key)
    if not name.strip():
        raise ConfigError(
            f"'{key}'", "the name of a column", "an empty name", "give the column a header (pandas: index_label=)"
        )
    return name.strip()


def _attributes(top: Keys) -> tuple[tuple[str, str], ...]:
    raw = top.take("attributes", [])
    pairs = raw.items() if isinstance(raw, dict) else ((name, name) for name in words(raw, "attributes"))
    return tuple((named(name, "attributes"), word(column, "attributes")) for name, column in pairs)


def _check(spec: TableSpec) -> None:
    names = [column.name for column in spec.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError("modalities", "each column once", f"{twice} several times", "keep one mention of each")
    if not spec.columns or not spec.outcomes:
        raise ConfigError("spec", "at least one modality and one outcome", "none", "name its columns")
    reserved = {spec.subject: "subject", spec.sample: "sample", spec.prediction_time: "prediction_time"}
    reserved |= {o.column: f"outcomes.{o.name}" for o in spec.outcomes}
    reserved |= {c.known_at: "known_at" for c in spec.columns}
    for column in spec.columns:
        if column.name in reserved:
            raise ConfigError(
                f"modalities.{column.modality}",
                "columns that are neither identifier, time nor outcome",
                f"'{column.name}', which is {reserved[column.name]}",
                "take it out of the modality",
            )
    check_panels(spec.panels, [o.name for o in spec.outcomes])
    _check_words(spec)
    taken = sorted({name for name, _ in spec.attributes} & _TAKEN)
    if taken:
        raise ConfigError("attributes", "names that the package does not use itself", f"{taken}", "write name: column")
    if any(c.known_at for c in spec.columns) and not spec.prediction_time:
        raise ConfigError("known_at", "a prediction_time to compare with", "none", "name its column")


def _check_words(spec: TableSpec) -> None:
    """A word that means "not known" is no answer and no reason at the same time."""
    asked = [(f"outcomes.{o.name}.positive", o.column, o.positive) for o in spec.outcomes]
    asked += [(f"exclude '{e.name}'", e.column, e.values) for e in spec.exclude]
    for where, column, said in asked:
        absent = {absent_key(word) for word in (*spec.absent_in(column), "")}
        both = [word for word in said if absent_key(word) in absent]
        if both:
            raise ConfigError(
                where,
                'words that do not mean "not known"',
                ", ".join(map(repr, both)),
                "write missing: with the words that mean it in this table",
            )
