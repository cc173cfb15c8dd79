"""MIMIC-IV-Note: discharge summaries and radiology reports. A note is an event whose text is the note."""

from __future__ import annotations

from typing import Final

import polars as pl

from mmnar.sources.events import TextRule
from mmnar.sources.mimic_iv.register import Register, as_events
from mmnar.sources.reading.cells import DAY_OR_TIME, TIME
from mmnar.sources.reading.later import later

REPORT_TURNAROUND: Final = pl.duration(days=1, time_unit="us")
"""From examination to report where ``storetime`` is null."""

_I, _S = pl.Int64(), pl.String()
COLUMNS: Final[dict[str, pl.DataType]] = {
    "subject_id": _I,
    "hadm_id": _I,
    "charttime": DAY_OR_TIME,
    "storetime": TIME,
    "text": _S,
}
RULES: Final = {
    "discharge": TextRule("discharge_summary", ("NOTE//DISCHARGE",)),
    "radiology": TextRule("radiology_report", ("NOTE//RADIOLOGY",)),
}


def note_events(register: Register, table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """One block of ``discharge`` or ``radiology`` → events.

    ``charttime`` of a discharge summary is the midnight that begins the day of discharge, some fifteen hours before
    the patient leaves; and some are stored before they are charted. So a summary is known from the latest of
    ``storetime`` (where there is one), ``charttime`` and the discharge itself.
    """
    ours = register.of_subjects(frame)
    written = ours.filter(pl.col("text").str.contains(r"\S").fill_null(False))
    register.ledger.drop(table, ours.height - written.height, "notes dropped: no text")
    if table == "radiology":
        written = register.stored(table, written, "charttime")
        stored = pl.coalesce(pl.col("storetime"), pl.col("charttime") + REPORT_TURNAROUND)
    else:
        left = register.admissions.select("subject_id", "hadm_id", "dischtime")
        written = written.join(left, on=["subject_id", "hadm_id"], how="left", maintain_order="left")
        stay_over = written.filter(pl.col("dischtime").is_not_null())
        register.ledger.drop(table, written.height - stay_over.height, "notes dropped: no discharge to belong to")
        written, stored = stay_over, later(pl.col("storetime"), pl.col("dischtime"))
    placed = register.place(table, written, pl.col("charttime"), stored)
    return as_events(placed, table, pl.lit(f"NOTE//{table.upper()}"), text=pl.col("text"))
