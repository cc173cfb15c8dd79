"""MEDS 0.4 → events: any data set of the Medical Event Data Standard, whoever wrote it.

**Read.** ``ROOT/data/**/*.parquet`` with ``subject_id``, ``time``, ``code`` and, where there, ``numeric_value``,
``text_value``, ``available_time``, ``hadm_id``, ``stay_id``; ``ROOT/metadata/dataset.json`` for name and version. The
files are read twice, block by block: once to check them and to count, once to copy them into an event folder.

**Availability.** An event is an input from its ``available_time`` on. Where the column or a cell is missing, ``time``
takes its place and a warning says so: in many data sets a laboratory result bears the time of the draw, a diagnosis
that of the admission, and nothing in the file tells. A time that is earlier than the event's own is not believed.

**Static events** (no time) count as known from the beginning: they get the subject's earliest time.

**Added**: ``AGE_AT_PREDICTION`` at each prediction time, years since ``MEDS_BIRTH``; ``source``, the code's first part.

Source: Medical Event Data Standard, schema of the ``meds`` package, version 0.4.
"""

from mmnar.sources.meds.reader import meds_in_memory, read_meds

__all__ = ["meds_in_memory", "read_meds"]
