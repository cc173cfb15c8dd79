"""The large tables, block by block: rows of items we know, of subjects with a unit stay → events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from mmnar.sources.mimic_iv import concepts as codes
from mmnar.sources.mimic_iv.concepts import Concept
from mmnar.sources.mimic_iv.register import Register, as_events
from mmnar.sources.reading.cells import TIME
from mmnar.sources.reading.units import spelled

LAB_TURNAROUND: Final = pl.duration(hours=1, time_unit="us")
"""From specimen to result where ``storetime`` is null."""

_I, _F, _S = pl.Int64(), pl.Float64(), pl.String()
_IDS: Final[dict[str, pl.DataType]] = {"subject_id": _I, "hadm_id": _I}
_ICU: Final[dict[str, pl.DataType]] = _IDS | {"stay_id": _I, "itemid": _I, "storetime": TIME}

Turn = Callable[[Register, str, pl.DataFrame, tuple[Concept, ...]], pl.DataFrame]
"""One block of a raw table → events."""


@dataclass(frozen=True)
class Streamed:
    """A large table.

    Args:
        columns: What is read of it.
        code_tables: What its items mean.
        prefix: Of its event codes, where the code table is shared.
        turn: How a block becomes events.
        optional: Columns that a table may lack.
    """

    columns: Mapping[str, pl.DataType]
    code_tables: str
    turn: Turn
    prefix: str = ""
    optional: tuple[str, ...] = ()

    def wanted(self, known: tuple[Concept, ...]) -> pl.Expr | None:
        """Rows worth looking at, told by their item; None where a table has no items."""
        items = sorted({item for concept in known for item in concept.items})
        return pl.col("itemid").is_in(items) if "itemid" in self.columns else None

    @property
    def concepts(self) -> tuple[Concept, ...]:
        return codes.concepts(self.code_tables, self.prefix)


_CENSORED: Final = "results are comparisons (< or >): measured, kept without a number"


def _measured(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    """Of rows of known items (``Streamed.wanted``) those with a number in a known unit: + ``code``, ``number`` in the
    concept's unit. A comparison (``compared``) was measured, but what it found is not told: it has no number."""
    ways = codes.conversions(known)
    rows = register.of_subjects(frame)
    rows = rows.with_columns(way=_ways(ways, rows["itemid"], rows["unit"]))
    told = rows["number"].is_not_null()
    compared = rows["compared"] & ~told if "compared" in rows.columns else pl.repeat(False, rows.height, eager=True)
    register.ledger.drop(table, int(compared.sum()), _CENSORED)
    checks = {
        "rows dropped: no number": told | compared,
        "rows dropped: in a unit not known for the item": rows["way"].is_not_null(),
    }
    kept = register.ledger.sift(table, rows, checks)
    converted = kept.hstack(ways.drop("itemid", "unit_found")[kept["way"]])
    number = pl.col("number") * pl.col("factor") + pl.col("offset")
    is_fraction = pl.col("fraction") & (number <= 1) & (number > 0)
    return converted.with_columns(number=pl.when(is_fraction).then(number * 100).otherwise(number))


def _ways(ways: pl.DataFrame, item: pl.Series, unit: pl.Series) -> pl.Series:
    """Row number in ``conversions`` for each item and its unit as it is written; null where there is none."""
    found = {pair: row for row, pair in enumerate(ways.select("itemid", "unit_found").iter_rows())}
    items = ways["itemid"].unique().sort().to_numpy()
    # few spellings for very many rows: each is looked up once
    unit = unit.fill_null("")
    written = unit.unique()
    spellings = [spelled(u) for u in written]
    table = np.full((len(items) + 1, len(spellings) + 1), -1)
    table[:-1, :-1] = [[found.get((i, u), -1) for u in spellings] for i in items]
    # a list as long as the largest item finds items faster than a search; its end stands for all that are not known
    place = np.full(items.max() + 2, len(items))
    place[items] = np.arange(len(items))
    of_item = place[np.clip(item.to_numpy(), -1, items.max() + 1)]
    row = pl.Series(table[of_item, unit.cast(pl.Enum(written)).to_physical().to_numpy()], dtype=pl.Int64)
    return row.set(row < 0, None)


def _lab(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    # "<0.01": the number is empty there
    frame = frame.with_columns(compared=pl.col("value").str.contains(r"^\s*[<>≤≥⩽⩾]").fill_null(False))
    rows = _measured(register, table, frame.rename({"valuenum": "number", "valueuom": "unit"}), known)
    rows = register.stored(table, rows, "charttime")
    stored = pl.coalesce(pl.col("storetime"), pl.col("charttime") + LAB_TURNAROUND)
    placed = register.place(table, rows, pl.col("charttime"), stored)
    return as_events(placed, table, pl.col("code"), pl.col("number"))


def _chart(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    rows = _measured(register, table, frame.rename({"valuenum": "number", "valueuom": "unit"}), known)
    rows = register.stored(table, rows, "charttime")
    placed = register.place(table, rows, pl.col("charttime"), pl.col("storetime"))
    return as_events(placed, table, pl.col("code"), pl.col("number"))


def _chart_in_words(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    """Charted items some of whose values are words; a word that the code table does not have is counted."""
    words = codes.told_in_words(known)
    texts = pl.col("itemid").is_in(words["itemid"].unique().implode())
    rows = register.of_subjects(frame.filter(texts)).with_columns(word=codes.in_words("value"))
    key = ["itemid", "word"]
    told = register.stored(table, rows.join(words, on=key, how="inner", maintain_order="left"), "charttime")
    placed = register.place(table, told, pl.col("charttime"), pl.col("storetime"))
    others = rows.join(words, on=key, how="anti", maintain_order="left")
    worded = others["itemid"].is_in([item for c in known if c.worded for item in c.items])
    blank = others["word"].is_null() | (others["word"] == "")
    register.ledger.drop(table, int((worded & blank).sum()), "rows dropped: no words")
    register.ledger.drop(table, int((worded & ~blank).sum()), "rows dropped: words not known for the item")
    numbers = pl.concat([frame.filter(~texts), others.filter(~worded).select(frame.columns)])
    return pl.concat(
        [as_events(placed, table, pl.col("code"), pl.col("number")), _chart(register, table, numbers, known)]
    )


def _output_by_item(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    """Outputs of which two of one amount in one minute stay two, where they are of two items."""
    rows = _measured(register, table, frame.rename({"value": "number", "valueuom": "unit"}), known)
    rows = register.stored(table, rows, "charttime")
    placed = register.place(table, rows, pl.col("charttime"), pl.col("storetime"))
    return as_events(placed, table, pl.col("code"), pl.col("number"), text=pl.col("itemid"))


def _output(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    rows = _measured(register, table, frame.rename({"value": "number", "valueuom": "unit"}), known)
    rows = register.stored(table, rows, "charttime")
    placed = register.place(table, rows, pl.col("charttime"), pl.col("storetime"))
    return as_events(placed, table, pl.col("code"), pl.col("number"))


def _begun(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    """Infusions and procedures: that one began. The row is written, or rewritten, when it ends."""
    rows = register.of_subjects(frame.join(codes.coded(known), on="itemid", how="inner"))
    rows = register.stored(table, rows, "starttime")
    placed = register.place(table, rows, pl.col("starttime"), pl.coalesce(pl.col("storetime"), pl.col("endtime")))
    # two infusions of one class begun in one minute stay two
    return as_events(placed, table, pl.col("code"), pl.lit(1.0), text=pl.col("itemid"))


def _prescribed(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    rows = register.of_subjects(frame.rename({"drug": "name", "starttime": "at"}))
    return _of_classes(register, table, rows.with_columns(stored=pl.lit(None, pl.Datetime("us"))), known)


def _given(register: Register, table: str, frame: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    event = pl.col("event_txt").str.to_lowercase()
    given = event.str.contains("administered|started") & ~event.str.contains(r"\bnot\b")
    rows = register.stored(table, register.of_subjects(frame.filter(given)), "charttime")
    rows = rows.rename({"medication": "name", "charttime": "at"})
    return _of_classes(register, table, rows.rename({"storetime": "stored"}), known)


def _of_classes(register: Register, table: str, rows: pl.DataFrame, known: tuple[Concept, ...]) -> pl.DataFrame:
    """One event per row and class of drugs it belongs to."""
    classes = tuple(c for c in known if c.names)
    name = pl.col("name").str.to_lowercase()
    rows = rows.filter(name.str.contains("|".join(c.names for c in classes)))
    placed = register.place(table, rows, pl.col("at"), pl.col("stored"))
    return pl.concat(
        as_events(placed.filter(name.str.contains(c.names)), table, pl.lit(c.code), pl.lit(1.0), text=name)
        for c in classes
    )


STREAMED: Final[Mapping[str, Streamed]] = {
    "chartevents": Streamed(_ICU | {"charttime": TIME, "valuenum": _F, "valueuom": _S}, "chart", _chart),
    "labevents": Streamed(
        _IDS | {"itemid": _I, "charttime": TIME, "storetime": TIME, "value": _S, "valuenum": _F, "valueuom": _S},
        "labs",
        _lab,
        optional=("value",),
    ),
    "outputevents": Streamed(_ICU | {"charttime": TIME, "value": _F, "valueuom": _S}, "outputs", _output),
    "inputevents": Streamed(_ICU | {"starttime": TIME, "endtime": TIME}, "inputs", _begun, "INPUT//"),
    "procedureevents": Streamed(_ICU | {"starttime": TIME, "endtime": TIME}, "procedures", _begun),
    "prescriptions": Streamed(_IDS | {"starttime": TIME, "drug": _S}, "inputs", _prescribed, "DRUG//"),
    "emar": Streamed(
        _IDS | {"charttime": TIME, "storetime": TIME, "medication": _S, "event_txt": _S}, "inputs", _given, "EMAR//"
    ),
}

CAREBENCH: Final[Mapping[str, Streamed]] = {
    "chartevents": Streamed(
        _ICU | {"charttime": TIME, "value": _S, "valuenum": _F, "valueuom": _S},
        "carebench_chart",
        _chart_in_words,
        optional=("value",),
    ),
    "outputevents": Streamed(
        _ICU | {"charttime": TIME, "value": _F, "valueuom": _S}, "carebench_outputs", _output_by_item
    ),
}
"""What the features of CareBench are made of."""

MEDFUSE: Final[Mapping[str, Streamed]] = {
    "chartevents": replace(CAREBENCH["chartevents"], code_tables="medfuse_chart"),
    "labevents": replace(STREAMED["labevents"], code_tables="medfuse_labs"),
}
"""What the variables of MedFuse are made of."""


def read_concepts(table: str) -> tuple[Concept, ...]:
    """The concepts that a table can tell of: of orders only classes with names, of charted items only those."""
    named = table in ("prescriptions", "emar")
    return tuple(c for c in STREAMED[table].concepts if (c.names if named else c.items))
