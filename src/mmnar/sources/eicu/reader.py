"""An eICU folder → one extract."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.errors import SourceError
from mmnar.sources.eicu.admission import add_outcomes, add_patient
from mmnar.sources.eicu.register import Register
from mmnar.sources.eicu.rules import feature_rules
from mmnar.sources.eicu.stays import ATTRIBUTES, PATIENT, unit_stays
from mmnar.sources.eicu.tables import KEYS, OPTIONAL, TABLES, TOGETHER
from mmnar.sources.events import EVENT_SCHEMA, Events, Extract
from mmnar.sources.reading.cells import ABSENT_TEXT
from mmnar.sources.reading.code_tables import digest
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.raw import DataRoot
from mmnar.sources.reading.shards import EventFolder, EventWriter

_FORM: Final = "3"
"""Changes when a change of code makes other events of the same rows: an unfinished folder of before is not resumed."""


def read_eicu(root: str | Path, *, work: Path | None = None, apache_prediction: bool = True) -> Extract:
    """Read eICU tables into one extract.

    Args:
        root: Folder with ``patient`` and any of the other tables, as released (``.csv``, ``.csv.gz``) or as parquet.
        work: Folder for what is built: ``meds`` (the event folder), ``dropped`` (counts); a killed build goes on where
            it was, in bounded memory. None = all events in memory.
        apache_prediction: Whether APACHE's own predictions (mortality, length of stay, ventilation days) are inputs.

    Returns:
        Events, stays and rules. An absent table takes its features with it and is named in ``warnings``.

    Raises:
        SourceError: ``patient`` is absent, or a table is damaged, renamed or not what its columns promise.
        StoreError: ``work`` cannot be written or holds events of other records.
    """
    ledger = Ledger(work / "dropped" if work else None)
    data = DataRoot(root, ledger=ledger, blanks=ABSENT_TEXT)
    patient = data.read("patient", PATIENT, key="patientunitstayid")
    if patient is None or patient.is_empty():
        raise SourceError("table 'patient'", "at least one unit stay", "none", "check the data root")
    notes: list[str] = []
    stays = unit_stays(patient, notes)
    register = Register(stays, ledger)
    tables = [table for table in TABLES if data.has(table)]
    for table in TABLES:
        if table not in tables:
            data.chunks(table, {}, required=False)  # for the warning
    # the only public release; the demo has the same layout
    version = "2.0" + (" simulated" if data.simulated else "")
    events = _in_memory(register, data, tables) if work is None else _on_disk(register, data, tables, work, version)
    read = ["patient", *tables]
    rules = feature_rules(set(read), apache_prediction)
    named = dict.fromkeys(rule.modality for rule in feature_rules({*TABLES, "patient"}, True))
    absent = [name for name in named if name not in {rule.modality for rule in rules}]
    notes.extend(f"modality '{name}' is absent: none of its tables is there" for name in absent)
    built = events.notes if isinstance(events, EventFolder) else ()
    return Extract(
        name="eicu",
        version=version,
        events=events,
        stays=stays.select(
            *("subject_id", "hadm_id", "stay_id", "intime", "outtime", *ATTRIBUTES),
            *("age", "unit_discharge_status", "transferred"),
        ),
        rules=rules,
        attributes=ATTRIBUTES,
        fingerprint=data.fingerprint(),
        warnings=(*data.warnings, *notes, *register.ledger.notes, *built),
        details={"apache_prediction": apache_prediction, "tables": read},
    )


def _in_memory(register: Register, data: DataRoot, tables: Sequence[str]) -> Events:
    frames = []
    for table in ("patient", *tables):
        events = pl.concat([pl.DataFrame(schema=EVENT_SCHEMA), *_table_events(register, data, table, "")])
        distinct = events.unique(maintain_order=True)
        register.ledger.drop(table, events.height - distinct.height, "events dropped: repeats of another")
        frames.append(distinct)
    return Events(pl.concat(frames))


def _on_disk(register: Register, data: DataRoot, tables: Sequence[str], work: Path, version: str) -> EventFolder:
    subjects = register.admitted["subject_id"].unique().sort()
    writer = EventWriter(work / "meds", subjects, "stay", raw_bytes=sum(data.size(table) for table in tables))
    for table in ("patient", *tables):
        parts = (_FORM, data.identity(table), data.identity("patient"), digest("eicu_drugs"))
        fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        register.ledger.recall(table, fingerprint)
        writer.table(table, fingerprint, _table_events(register, data, table, fingerprint))
    return writer.finish("eICU-CRD", version, {})


def _table_events(register: Register, data: DataRoot, table: str, fingerprint: str) -> Iterator[pl.DataFrame]:
    """Events of one table, block by block where its rows can be read apart."""
    if table == "patient":
        # its cells were counted when it was read
        add_patient(register)
        add_outcomes(register)
    else:
        register.ledger.begin(table)
        columns, add = TABLES[table]
        for block in _blocks(data, table, columns):
            add(register, table, block)
            frames = register.taken()
            register.ledger.made(table, sum(frame.height for frame in frames))
            yield from frames
    yield from register.taken()
    register.ledger.close(table, fingerprint)


def _blocks(data: DataRoot, table: str, columns: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """A table whole where its rows tell something only together, else block by block."""
    if table not in TOGETHER:
        return data.chunks(table, columns, optional=OPTIONAL)
    whole = data.read(table, columns, key=KEYS.get(table, ""))
    return iter(() if whole is None else (whole,))
