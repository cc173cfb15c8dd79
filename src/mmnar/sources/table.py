"""A table of one's own, one row a sample, with a spec that says what its columns mean → events.

**Time axis.** The question of a row is asked at its ``prediction_time``; where there is none, every row stands at
1 January 2000. A value is known from its ``known_at`` column on, else from the prediction time. A value known later
than the question is behind the door and so missing; a value whose ``known_at`` is not told is dropped. Both are
counted.

**Types.** A column whose cells are all numbers is a number. A column with few distinct words is a category. Dates,
identifiers, free words and columns that tell an outcome are refused. The spec may state a type; nothing is stored
before :meth:`TablePlan.text` could be read.

**Categories** of fewer than ten patients are pooled into ``other``; of a stated category with more than
``categories`` words the most frequent stay. Which words there are is counted over all rows, labels unseen.

Memory grows with rows times the columns the spec names, as text; events are made 5,000 rows at a time.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import polars as pl

from mmnar.errors import SourceError, nearest
from mmnar.privacy import SMALL_CELL, counted
from mmnar.sources.events import EVENT_SCHEMA, Events, Extract, FeatureRule
from mmnar.sources.raw import SUFFIXES, DataRoot
from mmnar.sources.table_spec import ColumnSpec, OutcomeSpec, TableSpec

_ROWS_PER_PART: Final = 5000
_NO_TIME: Final = datetime(2000, 1, 1)
_ISO: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_DATES: Final = (*_ISO, "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
_BINARY: Final = {"0": False, "1": True, "0.0": False, "1.0": True} | {
    **{"false": False, "true": True},
    **{"no": False, "yes": True},
}
_IDS: Final = ("subject_id", "hadm_id", "stay_id")


@dataclass(frozen=True)
class PlannedColumn:
    """What will become of an input column.

    Args:
        spec: What the user wrote.
        type: ``number`` or ``category``; ``empty``: left out, no row has a value.
        observed: Rows with a value that is known in time.
        categories: Of a category, ``other`` last.
        pooled: Rows whose word went into ``other``.
        late, undated: Rows whose value is known later than the question, or whose ``known_at`` is not told.
        problem: Why the column is refused; "" = it is not.
    """

    spec: ColumnSpec
    type: Literal["number", "category", "empty"]
    observed: int
    categories: tuple[str, ...] = ()
    pooled: int = 0
    late: int = 0
    undated: int = 0
    problem: str = ""


@dataclass(frozen=True)
class TablePlan:
    """A table read and understood; nothing is written yet.

    Args:
        spec: The spec.
        frame: One row a sample: ids, ``prediction_time``, ``value:<column>`` as text, ``at:<column>`` (known from),
            ``outcome:<task>`` (nullable bool), ``exclude:<i>`` (bool), attributes.
        columns: Inputs in spec order.
        unused: Columns of the file that the spec does not name.
        notes: Rows dropped, by reason.
        fingerprint: Of the files' content and the spec.
    """

    spec: TableSpec
    frame: pl.DataFrame
    columns: tuple[PlannedColumn, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    fingerprint: str

    def text(self) -> str:
        """The plan for people: every column with its type, then outcomes, what is dropped and what is not used."""
        rows = [("modality", "column", "type", "observed", "remark")]
        rows += [(c.spec.modality, c.spec.name, _shown_type(c), counted(c.observed), _remark(c)) for c in self.columns]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
            for row in rows
        ]
        people = self.frame["subject_id"].n_unique()
        lines += ["", f"{counted(self.frame.height)} rows of {counted(people)} patients"]
        for i, rule in enumerate(self.spec.exclude):
            lines.append(f"exclude '{rule.name}': {counted(int(self.frame[f'exclude:{i}'].sum()))} rows")
        kept = _included(self.frame)
        for outcome in self.spec.outcomes:
            answers = kept[f"outcome:{outcome.name}"]
            yes, no = int(answers.sum()), int((~answers).sum())
            lines.append(f"outcome '{outcome.name}': {counted(yes)} rows with it, {counted(no)} without")
        lines += [f"note: {note}" for note in self.notes]
        if self.unused:
            lines.append(f"not named in the spec, not used: {', '.join(self.unused)}")
        return "\n".join(lines)

    def extract(self) -> Extract:
        """Events, stays and rules.

        Raises:
            SourceError: A column is refused, or a modality has no column left.
        """
        refused = [f"'{c.spec.name}': {c.problem}" for c in self.columns if c.problem]
        if refused:
            raise SourceError(
                "input columns",
                "numbers or categories known at the prediction time",
                "; ".join(refused),
                "state type:, missing: or categories: in the spec, or move the column to ignore:",
            )
        used = tuple(c for c in self.columns if c.type != "empty")
        for modality in dict.fromkeys(c.spec.modality for c in self.columns):
            if not any(c.spec.modality == modality for c in used):
                raise SourceError(
                    f"modality '{modality}'",
                    "a column with a value",
                    "none",
                    "check missing:, or leave the modality out",
                )
        frame = self.frame
        return Extract(
            name=self.spec.name,
            version="table",
            events=TableEvents(frame, used, ()),
            stays=frame.select(
                *_IDS,
                *(pl.lit(None, pl.Datetime("us")).alias(name) for name in ("intime", "outtime")),
                "prediction_time",
                *(f"exclude:{i}" for i in range(len(self.spec.exclude))),
                *(name for name, _ in self.spec.attributes),
            ),
            rules=tuple(_rule(column) for column in used),
            attributes=tuple(name for name, _ in self.spec.attributes),
            fingerprint=self.fingerprint,
            max_missing=self.spec.max_missing,
            warnings=(*self.notes, *(f"column '{c.spec.name}': {_remark(c)}" for c in self.columns if _remark(c))),
            details={"spec": self.spec.digest, "files": list(self.spec.files), "not_used": list(self.unused)},
            outcomes=TableEvents(frame, (), tuple(o.name for o in self.spec.outcomes)),
        )


@dataclass(frozen=True)
class TableEvents:
    """Some columns and outcomes of a wide table, made events 5,000 samples at a time (``EventSource``)."""

    frame: pl.DataFrame
    columns: tuple[PlannedColumn, ...]
    outcomes: tuple[str, ...]

    def parts(self, samples: pl.DataFrame) -> Iterator[tuple[Events, pl.DataFrame]]:
        """Events with the samples they belong to."""
        for block in samples.iter_slices(_ROWS_PER_PART):
            rows = self.frame.join(block.select("stay_id").unique(), on="stay_id", how="semi")
            parts = [_column_events(rows, column) for column in self.columns]
            parts += [_outcome_events(rows, outcome) for outcome in self.outcomes]
            yield Events(pl.concat(parts)), block


def plan_table(spec: TableSpec, root: str | Path) -> TablePlan:
    """Read the columns a spec names, infer their types and count what cannot be used.

    Args:
        spec: What the columns mean.
        root: Folder its files are relative to. Never written to.

    Raises:
        SourceError: A file is absent or damaged, a column is unknown or there twice, an outcome is not binary, a sample
            identifier is repeated, or nothing is left.
    """
    raw, unused, fingerprint = _read(spec, Path(root))
    notes: list[str] = []
    frame = _identified(spec, raw, notes)
    frame = _timed(spec, frame, notes)
    if frame.is_empty():
        raise SourceError("table", "at least one row with a patient and a time", "none", "check subject and times")
    stored = frame.select(
        *_IDS,
        "prediction_time",
        *(pl.col(_raw(c.name)).alias(f"value:{c.name}") for c in spec.columns),
        *(_known_from(spec, frame, c, notes) for c in spec.columns),
        *(_answers(outcome, frame[_raw(outcome.column)]) for outcome in spec.outcomes),
        *(
            _excluded(rule.values, frame[_raw(rule.column)]).alias(f"exclude:{i}")
            for i, rule in enumerate(spec.exclude)
        ),
        *(pl.col(_raw(column)).alias(name) for name, column in spec.attributes),
    )
    kept = _included(stored)
    if kept.is_empty():
        raise SourceError("table", "a row that no exclude rule takes", "none", "check the exclude rules")
    planned = []
    for column in spec.columns:
        own = _own_markers(column)
        stored = stored.with_columns(own)
        planned.append(_plan(spec, kept.with_columns(own), column))
    return TablePlan(spec, stored.sort("subject_id", "stay_id"), tuple(planned), unused, tuple(notes), fingerprint)


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(spec: TableSpec, root: Path) -> tuple[pl.DataFrame, tuple[str, ...], str]:
    """The named columns as text, the names of the others, and a fingerprint."""
    wanted = spec.mentioned()
    frames, prints = [], [spec.digest]
    unused: tuple[str, ...] = ()
    for name in spec.files:
        path = root / name
        header = _header(path)
        unknown = [f"'{c}' ({key}; {nearest(c, header)})" for c, key in wanted.items() if c not in header]
        if unknown:
            raise SourceError(
                f"'{path.name}'", "every column of the spec", f"no {', '.join(unknown)}", "correct the spec"
            )
        data = DataRoot(path.parent)
        # the folder's reader knows columns by their lower-case names
        columns: dict[str, pl.DataType] = {c.strip().lower(): pl.String() for c in wanted}
        frame = data.read(_stem(path), columns)
        assert frame is not None  # a required table is there or an error
        frames.append(frame.rename({c.strip().lower(): _raw(c) for c in wanted}))
        prints.append(data.fingerprint())
        unused = tuple(c for c in header if c not in wanted)
    frame = pl.concat(frames)
    missing = pl.all().is_in(list(spec.missing))
    frame = frame.with_columns(pl.when(~missing).then(pl.all()))
    return frame, unused, hashlib.sha256("\n".join(prints).encode()).hexdigest()


def _raw(column: str) -> str:
    # a user's column may be called stay_id or prediction_time as well
    return f"raw:{column}"


def _stem(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    raise SourceError(f"file '{path.name}'", " or ".join(SUFFIXES), "another kind", "convert it")


def _header(path: Path) -> list[str]:
    """Column names of a file, each once whatever its letter case."""
    stem = _stem(path).lower()
    if not path.is_file():
        raise SourceError(f"file '{path}'", "a file", "none", "check --root and files: in the spec")
    twins = [f for f in path.parent.iterdir() if f.name.lower() in {stem + suffix for suffix in SUFFIXES}]
    if len(twins) > 1:
        raise SourceError(f"file '{path.name}'", "one file of that stem", f"{len(twins)}", "move the others away")
    try:
        if path.name.lower().endswith(".parquet"):
            names = list(pl.read_parquet_schema(path))
        else:
            opener = gzip.open if path.name.lower().endswith(".gz") else open
            with opener(path, "rt", encoding="utf-8-sig", newline="") as handle:
                names = next(csv.reader(handle), [])
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"file '{path.name}'", "a header that can be read", type(error).__name__, "copy or convert it again"
        ) from None
    if not names:
        raise SourceError(f"file '{path.name}'", "a header", "an empty file", "copy it again")
    plain = [name.strip().lower() for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1})
    if twice:
        raise SourceError(f"file '{path.name}'", "each column name once", f"{twice} several times", "rename them")
    return names


def _identified(spec: TableSpec, raw: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with a patient, and the three identifiers."""
    kept = raw.filter(pl.col(_raw(spec.subject)).is_not_null())
    if kept.height < raw.height:
        notes.append(f"{counted(raw.height - kept.height)} rows dropped: no '{spec.subject}'")
    if spec.sample:
        cells = kept[_raw(spec.sample)]
        repeated = len(cells) - cells.n_unique()
        if repeated or cells.null_count():
            raise SourceError(
                f"column '{spec.sample}' (sample)",
                "each identifier once, none missing",
                f"{counted(repeated)} repeated, {counted(cells.null_count())} missing",
                "remove the duplicate rows, or leave sample: out",
            )
        stay = _identifiers(cells)
    else:
        stay = pl.Series(range(kept.height), dtype=pl.Int64)
    return kept.with_columns(
        _identifiers(kept[_raw(spec.subject)]).alias("subject_id"), stay.alias("hadm_id"), stay.alias("stay_id")
    )


def _identifiers(cells: pl.Series) -> pl.Series:
    """Whole numbers as they are; words by the first 53 bits of a hash, the same in every run."""
    numbers = cells.cast(pl.Int64, strict=False)
    if not numbers.null_count():
        return numbers
    words = cells.unique().to_list()
    ids = {w: int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest()) >> 11 for w in words}
    if len(set(ids.values())) < len(ids):
        raise SourceError(
            f"column '{cells.name.removeprefix('raw:')}'",
            "a distinct hash each",
            "a collision",
            "number the identifiers",
        )
    return cells.replace_strict(ids, return_dtype=pl.Int64)


def _time(cells: pl.Series, form: str) -> pl.Series:
    """datetime[us]; null where a cell is not of the form."""
    forms = (form,) if form else _ISO
    return pl.select(
        pl.coalesce(pl.lit(cells).str.to_datetime(f, strict=False, time_unit="us") for f in forms)
    ).to_series()


def _timed(spec: TableSpec, frame: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with a prediction time."""
    if not spec.prediction_time:
        notes.append("no prediction_time in the spec: every value is taken as known when the question is asked")
        return frame.with_columns(prediction_time=pl.lit(_NO_TIME).cast(pl.Datetime("us")))
    cells = frame[_raw(spec.prediction_time)]
    times = _time(cells, spec.time_format)
    kept = frame.with_columns(times.alias("prediction_time")).drop_nulls("prediction_time")
    absent = cells.null_count()
    for count, reason in ((absent, "is missing"), (frame.height - kept.height - absent, "is no time that can be read")):
        if count:
            notes.append(f"{counted(count)} rows dropped: '{spec.prediction_time}' {reason}")
    return kept


def _known_from(spec: TableSpec, frame: pl.DataFrame, column: ColumnSpec, notes: list[str]) -> pl.Series | pl.Expr:
    """When the column's value was known; null = not told."""
    if not column.known_at:
        return pl.col("prediction_time").alias(f"at:{column.name}")
    cells = frame[_raw(column.known_at)]
    times = _time(cells, spec.time_format)
    note = f"column '{column.known_at}': {counted(times.null_count() - cells.null_count())} cells are no time"
    if times.null_count() > cells.null_count() and note not in notes:
        notes.append(note)
    return times.alias(f"at:{column.name}")


def _answers(outcome: OutcomeSpec, cells: pl.Series) -> pl.Series:
    """Nullable bool; null = not known."""
    known = cells.len() - cells.null_count()
    if outcome.positive:
        answers = cells.is_in(list(outcome.positive))
        if not answers.any():
            raise SourceError(
                f"outcome '{outcome.name}'",
                f"cells of '{outcome.column}' that are one of {list(outcome.positive)}",
                f"none of {counted(known)}",
                "correct positive: in the spec",
            )
    else:
        answers = cells.str.to_lowercase().replace_strict(_BINARY, default=None, return_dtype=pl.Boolean)
        other = answers.null_count() - cells.null_count()
        if other:
            raise SourceError(
                f"outcome '{outcome.name}'",
                f"0/1, true/false or yes/no in '{outcome.column}', or positive: in the spec",
                f"{counted(other)} of {counted(known)} cells of another form",
                "write which cells count as the event, e.g. positive: ['<30']",
            )
    return answers.alias(f"outcome:{outcome.name}")


def _excluded(values: tuple[str, ...], cells: pl.Series) -> pl.Series:
    return cells.is_in(list(values)).fill_null(False)


def _included(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that no exclude rule takes."""
    rules = [name for name in frame.columns if name.startswith("exclude:")]
    return frame.filter(~pl.any_horizontal(rules)) if rules else frame


# --- types ------------------------------------------------------------------------------------------------------------


def _own_markers(column: ColumnSpec) -> pl.Expr:
    """The column without the cells that mean "not measured" in it alone."""
    value = pl.col(f"value:{column.name}")
    return pl.when(~value.is_in(list(column.missing))).then(value).alias(f"value:{column.name}")


def _plan(spec: TableSpec, frame: pl.DataFrame, column: ColumnSpec) -> PlannedColumn:
    """Decide over the rows that are in."""
    given = frame.filter(pl.col(f"value:{column.name}").is_not_null())
    at = pl.col(f"at:{column.name}")
    usable = given.filter(at <= pl.col("prediction_time"))
    undated = given[f"at:{column.name}"].null_count()
    late = given.height - undated - usable.height
    cells = usable[f"value:{column.name}"]
    plan = PlannedColumn(column, "empty", usable.height, late=late, undated=undated)
    if cells.is_empty():
        return plan
    numbers = cells.cast(pl.Float64, strict=False)
    words = int((~numbers.is_finite()).fill_null(True).sum())
    distinct = cells.n_unique()
    told = _tells(usable, column, spec, distinct)
    if told:
        return replace(plan, problem=f"its value tells the outcome '{told}'")
    if column.type == "number" or (column.type is None and not words):
        return replace(plan, type="number", problem=_number_problem(column, numbers, words, distinct))
    if column.type is None and _are_dates(cells):
        return replace(plan, type="category", problem="dates are no input")
    if column.type is None and distinct > spec.categories - 1:
        fact = (
            f"{distinct} distinct words; more than {spec.categories - 1} need type: category to keep the most frequent"
        )
        return replace(plan, type="category", problem=fact)
    categories = _categories(usable, column, spec.categories)
    pooled = int((~cells.is_in(list(categories))).sum())
    return replace(plan, type="category", categories=(*categories, "other"), pooled=pooled)


def _number_problem(column: ColumnSpec, numbers: pl.Series, words: int, distinct: int) -> str:
    if words:
        return f"{counted(words)} of {counted(len(numbers))} cells are no finite number"
    whole = bool((numbers == numbers.floor()).all())
    if column.type is None and whole and distinct == len(numbers) and distinct >= 100:
        return "whole numbers, every one different: an identifier? state type: number if not"
    return ""


def _are_dates(cells: pl.Series) -> bool:
    """Whether nine cells in ten can be read as dates."""
    parsed = (len(cells) - cells.str.to_datetime(form, strict=False).null_count() for form in _DATES)
    return max(parsed) >= 0.9 * len(cells)


def _tells(frame: pl.DataFrame, column: ColumnSpec, spec: TableSpec, distinct: int) -> str:
    """The outcome that the column's values decide without exception: a copy of it, or what it was made of."""
    for outcome in spec.outcomes:
        answer = pl.col(f"outcome:{outcome.name}")
        known = frame.filter(answer.is_not_null())
        by_value = known.group_by(f"value:{column.name}").agg(low=answer.min(), high=answer.max())
        both = known[f"outcome:{outcome.name}"].n_unique() == 2
        pure = bool((by_value["low"] == by_value["high"]).all())
        # many distinct values decide any outcome by chance
        if both and pure and (by_value.height == 2 or known.height >= SMALL_CELL * distinct):
            return outcome.name
    return ""


def _categories(frame: pl.DataFrame, column: ColumnSpec, most: int) -> tuple[str, ...]:
    """Words of at least ten patients, the most frequent ``most - 1`` of them, in alphabetical order."""
    cell = f"value:{column.name}"
    people = frame.group_by(cell).agg(people=pl.col("subject_id").n_unique())
    large = people.filter((pl.col("people") >= SMALL_CELL) & (pl.col(cell) != "other"))
    return tuple(sorted(large.sort(["people", cell], descending=[True, False])[cell].head(most - 1).to_list()))


def _shown_type(column: PlannedColumn) -> str:
    if column.problem:
        return "REFUSED"
    shown = f"{len(column.categories)} categories" if column.type == "category" else column.type
    return shown if column.spec.type is None else f"{shown} (stated)"


def _remark(column: PlannedColumn) -> str:
    facts = [
        column.problem,
        "no value in any row: left out" if column.type == "empty" else "",
        f"{counted(column.pooled)} rows pooled into 'other'" if column.pooled else "",
        f"{counted(column.late)} values known only after the question: missing" if column.late else "",
        f"{counted(column.undated)} values dropped: when they were known is not told" if column.undated else "",
    ]
    return "; ".join(fact for fact in facts if fact)


# --- events -----------------------------------------------------------------------------------------------------------


def _code(column: ColumnSpec) -> str:
    # the modality last: a column's name may end in the asterisk that would make a code a prefix
    return f"{column.name}//{column.modality}"


def outcome_code(task: str) -> str:
    """Code of a task's outcome event; its number is 1 or 0."""
    return f"OUTCOME//{task}"


def _rule(column: PlannedColumn) -> FeatureRule:
    return FeatureRule(
        column.spec.modality,
        column.spec.name,
        (_code(column.spec),),
        "last",
        column.categories,
        column.spec.unit,
        column.spec.low,
        column.spec.high,
    )


def _column_events(rows: pl.DataFrame, column: PlannedColumn) -> pl.DataFrame:
    value, at = pl.col(f"value:{column.spec.name}"), pl.col(f"at:{column.spec.name}")
    number = column.type == "number"
    return (
        rows.filter(value.is_not_null() & at.is_not_null())
        .select(
            *_IDS,
            time=at,
            available_time=at,
            code=pl.lit(_code(column.spec)),
            numeric_value=value.cast(pl.Float32) if number else pl.lit(None, pl.Float32),
            text_value=pl.lit(None, pl.String) if number else value,
            source=pl.lit("table"),
        )
        .select(*EVENT_SCHEMA)
    )


def _outcome_events(rows: pl.DataFrame, task: str) -> pl.DataFrame:
    """One minute after the question: whatever its true time, it is no input."""
    answer = pl.col(f"outcome:{task}")
    at = pl.col("prediction_time") + pl.duration(minutes=1, time_unit="us")
    return (
        rows.filter(answer.is_not_null())
        .select(
            *_IDS,
            time=at,
            available_time=at,
            code=pl.lit(outcome_code(task)),
            numeric_value=answer.cast(pl.Float32),
            text_value=pl.lit(None, pl.String),
            source=pl.lit("outcomes"),
        )
        .select(*EVENT_SCHEMA)
    )
