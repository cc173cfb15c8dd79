"""A table read and understood, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import SMALL_CELL, counted
from mmnar.sources.events import Extract
from mmnar.sources.table.columns import PlannedColumn, plan_column, remark, shown_type
from mmnar.sources.table.doubts import doubts
from mmnar.sources.table.events import TableEvents, feature_rule
from mmnar.sources.table.reading import RawTable, raw_name, read_columns
from mmnar.sources.table.rows import IDS, WRITTEN, answered, excluded, identified, included, timed
from mmnar.sources.table.spec import TableSpec
from mmnar.sources.table.words import one_spelling


@dataclass(frozen=True)
class TablePlan:
    """A table read and understood; nothing is written yet.

    Args:
        spec: The spec.
        frame: One row a sample: ids, ``prediction_time``, ``value:<column>`` (Float64 or text), ``at:<column>`` (known
            from), ``outcome:<task>`` (nullable bool), ``exclude:<i>`` (bool), attributes.
        columns: Inputs in spec order.
        unused: Columns of the file that the spec does not name.
        absent: Word for "not known" → column → cells that held it.
        notes: Rows dropped, by reason; what is in doubt.
        fingerprint: Of the files' content and the spec.
    """

    spec: TableSpec
    frame: pl.DataFrame
    columns: tuple[PlannedColumn, ...]
    unused: tuple[str, ...]
    absent: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    fingerprint: str

    def text(self) -> str:
        """The plan for people: every column with its type, then outcomes, what is dropped and what is not used."""
        rows = [("modality", "column", "type", "observed", "remark")]
        total = included(self.frame).height
        rows += [
            (c.spec.modality, c.spec.name, shown_type(c), _observed(c.observed, total), remark(c)) for c in self.columns
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
            for row in rows
        ]
        people = self.frame["subject_id"].n_unique()
        lines += ["", f"{counted(self.frame.height)} rows of {counted(people)} patients"]
        for i, rule in enumerate(self.spec.exclude):
            lines.append(f"exclude '{rule.name}': {counted(int(self.frame[f'exclude:{i}'].sum()))} rows")
        kept = included(self.frame)
        for outcome in self.spec.outcomes:
            answers = kept[f"outcome:{outcome.name}"]
            yes, no = int(answers.sum()), int((~answers).sum())
            lines.append(f"outcome '{outcome.name}': {counted(yes)} rows with it, {counted(no)} without")
        for word, cells in self.absent.items():
            shown = ", ".join(f"{column} {counted(n)}" for column, n in cells.items())
            lines.append(f"taken as not measured: '{word}' ({shown})")
        lines += [f"note: {note}" for note in self.notes]
        if self.unused:
            lines.append(f"not named in the spec, not used: {', '.join(self.unused)}")
        return "\n".join(lines)

    def kept(self) -> tuple[PlannedColumn, ...]:
        """The columns that become features. One without a value in any row is left out, unless its modality would have
        no column then: a modality that nobody has is absent for everybody, and still a modality."""
        used = {c.spec.modality for c in self.columns if c.type != "empty"}
        return tuple(c for c in self.columns if c.type != "empty" or c.spec.modality not in used)

    def resolved(self) -> TableSpec:
        """The spec with every type and word stated: what it would be of other rows, it is of these."""
        columns = [
            replace(c.spec, type="category" if c.categories else "number", categories=c.categories) for c in self.kept()
        ]
        return replace(self.spec, columns=tuple(columns), files=tuple(Path(name).name for name in self.spec.files))

    def extract(self) -> Extract:
        """Events, stays and rules.

        Raises:
            SourceError: A column is refused.
        """
        refused = [f"'{c.spec.name}': {c.problem}" for c in self.columns if c.problem]
        if refused:
            raise SourceError(
                "input columns",
                "numbers or categories known at the prediction time",
                "; ".join(refused),
                "write numbers plainly, or say in the spec what comparisons mean (censored:), which words mean not "
                "measured (missing:), or type: category; or move the column to ignore:",
            )
        used = tuple(c for c in self.columns if c.type != "empty")
        frame = self.frame
        return Extract(
            name=self.spec.name,
            version="table",
            events=TableEvents(frame, used, ()),
            stays=frame.select(
                *IDS,
                pl.col(f"^{WRITTEN}.*$"),
                *(pl.lit(None, pl.Datetime("us")).alias(name) for name in ("intime", "outtime")),
                "prediction_time",
                *(f"exclude:{i}" for i in range(len(self.spec.exclude))),
                *(name for name, _ in self.spec.attributes),
            ),
            rules=tuple(feature_rule(column) for column in self.kept()),
            attributes=tuple(name for name, _ in self.spec.attributes),
            fingerprint=self.fingerprint,
            max_missing=self.spec.max_missing,
            warnings=(*self.notes, *(f"column '{c.spec.name}': {remark(c)}" for c in self.columns if remark(c))),
            details={"spec": self.spec.digest, "files": list(self.spec.files), "not_used": list(self.unused)},
            outcomes=TableEvents(frame, (), tuple(o.name for o in self.spec.outcomes)),
            rows="rows",
        )


def _observed(n: int, rows: int) -> str:
    """How many rows have a value, unless the number would tell that fewer than ten lack it."""
    return "nearly all" if 0 < rows - n < SMALL_CELL <= n else counted(n)


def plan_table(spec: TableSpec, root: str | Path) -> TablePlan:
    """Read the columns a spec names, infer their types and count what cannot be used.

    Args:
        spec: What the columns mean.
        root: Folder its files are relative to. Never written to.

    Raises:
        SourceError: A file is absent or damaged, a column is unknown or there twice, an outcome is not binary, a sample
            identifier is repeated, or nothing is left.
    """
    return plan_rows(spec, read_columns(spec, Path(root)))


def plan_rows(spec: TableSpec, raw: RawTable) -> TablePlan:
    """``plan_table`` of columns that are read already.

    Raises:
        SourceError: See ``plan_table``.
    """
    notes: list[str] = []
    frame = identified(spec, raw.frame, notes)
    frame = timed(spec, frame, notes)
    if frame.is_empty():
        raise SourceError("table", "at least one row with a patient and a time", "none", "check subject and times")
    identifiers = {"subject": spec.subject} | ({"sample": spec.sample} if spec.sample else {})
    stored = frame.select(
        *IDS,
        *(pl.col(raw_name(column)).alias(WRITTEN + name) for name, column in identifiers.items()),
        "prediction_time",
        *(pl.col(raw_name(c.name)).alias(f"value:{c.name}") for c in spec.columns),
        *(f"at:{c.name}" for c in spec.columns),
        *(answered(outcome, frame[raw_name(outcome.column)]) for outcome in spec.outcomes),
        *(
            excluded(rule.values, frame[raw_name(rule.column)]).alias(f"exclude:{i}")
            for i, rule in enumerate(spec.exclude)
        ),
        *(_attribute(name, frame[raw_name(column)], notes) for name, column in spec.attributes),
    )
    kept = included(stored)
    if kept.is_empty():
        raise SourceError("table", "a row that no exclude rule takes", "none", "check the exclude rules")
    notes += doubts(spec, frame, kept)
    is_in = stored["stay_id"].is_in(kept["stay_id"].implode())
    planned = []
    for column in spec.columns:
        values, plan = plan_column(spec, stored, is_in, column)
        stored = stored.with_columns(values.alias(f"value:{column.name}"))
        planned.append(plan)
    return TablePlan(
        spec,
        stored.sort("subject_id", "stay_id"),
        tuple(planned),
        raw.unused,
        raw.absent,
        tuple(notes),
        raw.fingerprint,
    )


def _attribute(name: str, cells: pl.Series, notes: list[str]) -> pl.Series:
    words, respelled = one_spelling(cells)
    if respelled:
        notes.append(f"attribute '{name}': {counted(respelled)} words in other letter case or blanks: taken as one")
    if words.null_count() == len(words):
        notes.append(f"attribute '{name}': no value in any row")
    return words.alias(name)
