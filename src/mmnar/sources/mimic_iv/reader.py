"""MIMIC-IV folders → one extract."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import polars as pl

from mmnar.errors import SourceError
from mmnar.sources.events import Extract, ImageRule, Rule
from mmnar.sources.mimic_iv import concepts as codes
from mmnar.sources.mimic_iv import history, notes, people, xray
from mmnar.sources.mimic_iv.concepts import Concept
from mmnar.sources.mimic_iv.cxr import bedside_events
from mmnar.sources.mimic_iv.register import Register
from mmnar.sources.mimic_iv.release import release_of
from mmnar.sources.mimic_iv.tables import STREAMED, Streamed, read_concepts
from mmnar.sources.mimic_iv.xray import Embeddings
from mmnar.sources.reading.cells import ABSENT_TEXT
from mmnar.sources.reading.code_tables import digest
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.raw import DataRoot
from mmnar.sources.reading.shards import EventWriter

Structured = Literal["aggregates", "series"]

_FORM: Final = "3"
"""Changes when a change of code makes other events of the same rows: an unfinished folder of before is not resumed."""


def read_mimic_iv(
    root: str | Path,
    *,
    work: Path,
    notes: Path | None = None,
    cxr: Path | None = None,
    embeddings: Embeddings | None = None,
    image_side: int = 224,
    structured: Structured = "aggregates",
) -> Extract:
    """Read MIMIC-IV tables into one extract of scope "subject".

    Args:
        root: Folder with ``hosp`` and ``icu``, as released (``.csv``, ``.csv.gz``) or as parquet. Never written to.
        work: Folder for what is built: ``meds`` (the event folder), ``dropped`` (counts). A killed build goes on where
            it was.
        notes: Folder of MIMIC-IV-Note 2.2 (with ``note/`` or that folder itself): two modalities of text.
        cxr: Folder of MIMIC-CXR-JPG: a modality ``cxr`` of images.
        embeddings: Released embeddings of those images, packed: the modality ``cxr`` holds vectors instead; the
            folder ``cxr`` says which image was taken when.
        image_side: Pixels of the square that an image is stored as.
        structured: ``"aggregates"``: one static modality ``structured``; ``"series"``: a modality ``structured`` of
            series at their own times and a static one, ``demographics``.

    Returns:
        Events, stays and rules. An absent table takes its features with it and is named in ``warnings``.

    Raises:
        SourceError: ``patients``, ``admissions`` or ``icustays`` is absent; a table is damaged or lacks a column;
            ``hosp`` and ``icu`` are of different releases; embeddings are given without the images' times.
    """
    data, version, build = opened(Path(root), work, structured)
    register, stays = build.register, build.stays
    build.small(data)
    for table in STREAMED:
        build.streamed(data, table)
    roots = [data]
    if notes is not None:
        roots.append(build.notes(notes))
    if cxr is not None:
        roots.append(build.xrays(cxr, embeddings, image_side))
    elif embeddings is not None:
        raise SourceError("embeddings of X-rays", "the folder of MIMIC-CXR-JPG, which has the times", "none", "give it")
    events = build.writer.finish("MIMIC-IV", version, build.descriptions)
    return Extract(
        name="mimic-iv",
        version=version,
        events=events,
        stays=stays.select(_STAY_COLUMNS),
        rules=tuple(build.rules),
        attributes=people.ATTRIBUTES,
        fingerprint=hashed(*(r.fingerprint() for r in roots), embeddings.fingerprint if embeddings else ""),
        warnings=(*(w for r in roots for w in r.warnings), *register.ledger.notes, *events.notes, *build.dropped),
        details={"structured": structured, "tables": build.read},
    )


def opened(root: Path, work: Path, structured: Structured) -> tuple[DataRoot, str, Build]:
    """The release's tables, which release it is, and a build with its small tables read.

    Args:
        work: Folder for what is built.

    Raises:
        SourceError: See ``read_mimic_iv``.
    """
    ledger = Ledger(work / "dropped")
    data = _tables(root, ledger)
    small = people.read_small(data)
    version = release_of(root, small) + (" simulated" if data.simulated else "")
    register, stays = people.admit(small, ledger)
    if stays.is_empty():
        raise SourceError("table 'icustays'", "a unit stay of a known admission", "none", "check the data root")
    writer = EventWriter(work / "meds", stays["subject_id"].unique().sort(), "subject")
    return data, version, Build(register, stays, writer, structured, data.fingerprint())


def _tables(root: Path, ledger: Ledger) -> DataRoot:
    absent = [module for module in ("hosp", "icu") if not (root / module).is_dir()]
    if absent:
        raise SourceError(
            f"MIMIC-IV root '{root}'",
            "the folders 'hosp' and 'icu'",
            f"no {' and no '.join(absent)}",
            "give the folder that holds both; `mmnar doctor --root` finds it",
        )
    return DataRoot(root, ("hosp", "icu"), ledger, ABSENT_TEXT)


_STAY_COLUMNS: Final = (
    *("subject_id", "hadm_id", "stay_id", "intime", "outtime", "since", *people.ATTRIBUTES),
    *("age", "admittime", "dischtime", "deathtime", "died", "icu_admission", "icu_stay"),
)


@dataclass
class Build:
    """What has been read so far: events in the writer, rules and descriptions in the order of the tables.

    ``joined_with``: fingerprint of the small tables that the rows of the large ones are joined with.
    """

    register: Register
    stays: pl.DataFrame
    writer: EventWriter
    structured: Structured
    joined_with: str
    rules: list[Rule] = field(default_factory=list)
    descriptions: dict[str, str] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    @property
    def _static(self) -> str:
        """The modality of features that have no time of their own."""
        return codes.STRUCTURED if self.structured == "aggregates" else "demographics"

    def small(self, data: DataRoot) -> None:
        """What the small tables tell: admissions, outcomes, history."""
        events = [people.admission_events(self.register, self.stays), people.outcome_events(self.register, self.stays)]
        self.rules += people.admission_rules(self._static)
        self.descriptions |= people.DESCRIPTIONS
        self.read += ["patients", "admissions", "icustays"]
        diagnoses = data.read("diagnoses_icd", history.DIAGNOSES, required=False)
        if diagnoses is not None:
            events.append(history.diagnosis_events(self.register, diagnoses))
            self.register.ledger.made("diagnoses_icd", events[-1].height)
            self.rules += history.diagnosis_rules(self._static)
            self.descriptions |= history.diagnosis_descriptions()
            self.read.append("diagnoses_icd")
        omr = data.read("omr", history.OMR, required=False)
        if omr is not None:
            events.append(history.omr_events(self.register, omr))
            self.register.ledger.made("omr", events[-1].height)
            self.rules += history.omr_rules(self._static)
            self.descriptions |= history.OMR_DESCRIPTIONS
            self.read.append("omr")
        self.writer.table(
            "small", hashed(_FORM, data.fingerprint(), digest("mimic_iv_icd", "mimic_iv_icd9_zeros")), events
        )

    def streamed(self, data: DataRoot, table: str) -> None:
        """One large table of ``STREAMED``, if it is there."""
        if not data.has(table):
            # for the warning
            data.chunks(table, {}, required=False)
            return
        known = read_concepts(table)
        self.stream(data, table, STREAMED[table], known)
        aggregates = self.structured == "aggregates"
        self.rules += codes.aggregate_rules(known, table) if aggregates else codes.series_rules(known)

    def stream(self, data: DataRoot, table: str, spec: Streamed, known: tuple[Concept, ...]) -> None:
        """Events of a large table, unless an earlier run has them.

        Raises:
            SourceError: It is absent or damaged.
        """
        if not data.has(table):
            data.chunks(table, {})
        fingerprint = hashed(_FORM, data.identity(table), digest(f"mimic_iv_{spec.code_tables}"), self.joined_with)

        def frames() -> Iterator[pl.DataFrame]:
            self.register.ledger.begin(table)
            for frame in data.chunks(table, spec.columns, where=spec.wanted(known), optional=spec.optional):
                events = spec.turn(self.register, table, frame, known)
                self.register.ledger.made(table, events.height)
                yield events
            self.register.ledger.close(table, fingerprint)

        self.register.ledger.recall(table, fingerprint)
        self.writer.table(table, fingerprint, frames())
        self.descriptions |= {concept.code: concept.description for concept in known}
        self.read.append(table)

    def notes(self, root: Path) -> DataRoot:
        """Discharge summaries and radiology reports."""
        data = DataRoot(root, ("note", ""), self.register.ledger, ABSENT_TEXT)
        if not any(data.has(table) for table in notes.RULES):
            raise SourceError(
                f"notes root '{root}'", "a table 'discharge' or 'radiology'", "neither", "check the folder of the notes"
            )
        for table, rule in notes.RULES.items():
            if not data.has(table):
                continue
            fingerprint = hashed(_FORM, data.identity(table), self.joined_with)
            self.register.ledger.recall(table, fingerprint)
            self.writer.table(table, fingerprint, self._note_frames(data, table, fingerprint))
            self.rules.append(rule)
            self.descriptions |= dict.fromkeys(rule.codes, f"Text of table '{table}'")
            self.read.append(table)
        return data

    def xrays(self, root: Path, embeddings: Embeddings | None, side: int) -> DataRoot:
        """Images or their embeddings."""
        data = DataRoot(root, ledger=self.register.ledger)
        events, dropped = xray.xray_events(self.register, data, embeddings)
        also = embeddings.fingerprint if embeddings else ""
        self.films(data, events, dropped, xray.xray_rule(root, embeddings, side), also)
        return data

    def bedside(self, data: DataRoot, root: Path, side: int) -> pl.DataFrame:
        """AP films of the patients, every one of them, as events; none where there are none.

        Args:
            data: Where the metadata of MIMIC-CXR-JPG is read.
            root: Folder of the files.
            side: Pixels of the stored square.
        """
        events, dropped = bedside_events(data, self.register.lives["subject_id"])
        events = self.register.place(xray.TABLE, events, pl.col("time"), pl.col("available_time"))
        rule = ImageRule(xray.MODALITY, (xray.AP,), root, side)
        self.films(data, events, dropped, rule, "every AP film")
        return events

    def films(self, data: DataRoot, events: pl.DataFrame, dropped: tuple[str, ...], rule: Rule, also: str = "") -> None:
        """Events of X-rays, and the rule that reads them.

        Args:
            data: Where the events come from.
            dropped: What was left out, with counts.
            also: What else they are made of.
        """
        made_from = hashed(_FORM, data.fingerprint(), also, self.joined_with)
        self.writer.table(xray.TABLE, made_from, [events])
        self.rules.append(rule)
        self.descriptions |= xray.DESCRIPTIONS
        self.dropped += dropped
        self.read.append(xray.TABLE)

    def _note_frames(self, data: DataRoot, table: str, fingerprint: str) -> Iterator[pl.DataFrame]:
        self.register.ledger.begin(table)
        for frame in data.chunks(table, notes.COLUMNS):
            events = notes.note_events(self.register, table, frame)
            self.register.ledger.made(table, events.height)
            yield events
        self.register.ledger.close(table, fingerprint)


def hashed(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
