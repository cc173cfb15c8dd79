"""MIMIC-IV folders → the extract of CareBench (Yin et al. 2026): 27 features as series, AP films, 25 phenotypes.

No other input is read: what CareBench calls EHR is these features alone.
Labels lie apart from the events (``Extract.outcomes``): no billing code is ever among what an input can be made of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from mmnar.sources.events import Deriving, Events, Extract, SeriesRule
from mmnar.sources.mimic_iv import derived, history, people, phenotypes
from mmnar.sources.mimic_iv.concepts import Concept
from mmnar.sources.mimic_iv.reader import Build, hashed, opened
from mmnar.sources.mimic_iv.register import as_events
from mmnar.sources.mimic_iv.tables import CAREBENCH
from mmnar.sources.reading.cells import ABSENT_TEXT
from mmnar.sources.reading.code_tables import digest
from mmnar.sources.reading.raw import DataRoot

EHR: Final = "ehr"
ATTRIBUTES: Final = ("race", "sex", "age_group", "insurance", "language")
BEFORE_UNIT: Final = pl.duration(hours=24, time_unit="us")
"""How far before the unit stay a film, or a charted value, counts as this stay's."""
ASKED_AFTER: Final = pl.duration(hours=48, time_unit="us")
"""From admission to the unit to the questions."""

_I: Final = pl.Int64()
_COMPUTED: Final = {
    derived.COMA: ("points", 3, 15, "Glasgow coma scale: total (15 while intubated)"),
    derived.OUTPUT: ("mL", 0, 5000, "Urine of one time, less irrigant"),
} | {
    code: row
    for hours in derived.WINDOWS
    for code, row in (
        (derived.rate(hours), ("mL/kg/h", 0, 50, f"Urine per kg and hour of the last {hours} hours (KDIGO)")),
        (derived.observed(hours), ("h", 0, 500, f"Hours over which the urine of the last {hours} hours was collected")),
    )
}
"""Code → unit, plausible range, words."""

FEATURES: Final = {
    "gcs_eye": derived.EYE,
    "gcs_verbal": derived.VERBAL,
    "gcs_motor": derived.MOTOR,
    "gcs_total": derived.COMA,
    "ectopy_none": "RHYTHM//ECTOPY_NONE",
    "ectopy_pvc": "RHYTHM//ECTOPY_PVC",
    "atrial_fibrillation": "RHYTHM//ATRIAL_FIBRILLATION",
    "sinus_rhythm": "RHYTHM//SINUS",
    "sinus_tachycardia": "RHYTHM//SINUS_TACHYCARDIA",
    "urine_output": derived.OUTPUT,
    "urine_rate_6h": derived.rate(6),
    "urine_rate_12h": derived.rate(12),
    "urine_rate_24h": derived.rate(24),
    "urine_hours_6h": derived.observed(6),
    "urine_hours_12h": derived.observed(12),
    "urine_hours_24h": derived.observed(24),
    "o2_flow": "RESP//O2_FLOW",
    "fio2": "RESP//FIO2",
    "heart_rate": "VITAL//HEART_RATE",
    "respiratory_rate": "VITAL//RESPIRATORY_RATE",
    "systolic_bp": "VITAL//SYSTOLIC_BP",
    "diastolic_bp": "VITAL//DIASTOLIC_BP",
    "mean_bp": "VITAL//MEAN_BP",
    "spo2": "VITAL//SPO2",
    "temperature": "VITAL//TEMPERATURE",
    "glucose": "VITAL//GLUCOSE",
    "weight": derived.WEIGHT,
}
"""The 27 features of the paper's table 4, in its order → codes. Of the unit ``presence`` every value is 1."""


def read_carebench(
    root: str | Path,
    *,
    work: Path,
    notes: Path | None = None,
    cxr: Path | None = None,
    side: int = 224,
    answered: bool = True,
    codes: phenotypes.Codes | None = None,
) -> Extract:
    """Read MIMIC-IV tables into the extract of CareBench.

    Args:
        root, work: As in ``read_mimic_iv``.
        notes: Folder of MIMIC-IV-Note: who has a discharge summary. The notes themselves are not read.
        cxr: Folder of MIMIC-CXR-JPG: a modality ``cxr`` of AP films.
        side: Pixels of the stored square.
        answered: Whether billing codes must be there.
        codes: Of the phenotypes, by another list than this package's.

    Returns:
        ``stays`` has, beside what ``people.admit`` gives, ``coded`` and ``noted`` (whether the admission has a billing
        code, and a discharge summary; null = the table was not given) and ``film``: the path of the latest AP film from
        24 h before to 48 h after admission to the unit (null = none).

    Raises:
        SourceError: As ``read_mimic_iv``; or one of ``chartevents``, ``outputevents``, ``diagnoses_icd`` (unless it is
            asked without answers) and, with ``notes``, ``discharge`` is absent.
    """
    data, version, build = opened(Path(root), work, "series")
    for table, spec in CAREBENCH.items():
        build.stream(data, table, spec, spec.concepts)
    build.rules += feature_rules()
    stays, outcomes = _answers(build, data, phenotypes.phenotypes(codes), required=answered)
    roots = [data]
    stays = stays.with_columns(noted=pl.lit(None, pl.Boolean), film=pl.lit(None, pl.String))
    if notes is not None:
        written = DataRoot(notes, ("note", ""), build.register.ledger, ABSENT_TEXT)
        stays = stays.with_columns(noted=pl.col("hadm_id").is_in(_with_summary(written).implode()))
        roots.append(written)
    if cxr is not None:
        films = DataRoot(cxr, ledger=build.register.ledger)
        stays = stays.with_columns(film=_latest(stays, build.bedside(films, cxr, side)))
        roots.append(films)
    listed = digest("phenotypes") if codes is None else json.dumps(codes)
    build.descriptions |= {code: words for code, (*_, words) in _COMPUTED.items()}
    events = build.writer.finish("MIMIC-IV", version, build.descriptions)
    ledger = build.register.ledger
    return Extract(
        name="carebench",
        version=version,
        events=Deriving(events, derived.derived),
        stays=stays.with_columns(since=pl.col("intime") - BEFORE_UNIT),
        rules=tuple(build.rules),
        attributes=ATTRIBUTES,
        fingerprint=hashed(*(r.fingerprint() for r in roots), listed),
        warnings=(*(w for r in roots for w in r.warnings), *ledger.notes, *events.notes, *build.dropped),
        details={"tables": build.read},
        outcomes=Events(outcomes, scope="subject"),
    )


def feature_rules() -> list[SeriesRule]:
    """One series per feature, in the order of ``FEATURES``."""
    charted = {concept.code: concept for spec in CAREBENCH.values() for concept in spec.concepts}
    return [SeriesRule(EHR, feature, (code,), *_within(charted, code)) for feature, code in FEATURES.items()]


def _within(charted: dict[str, Concept], code: str) -> tuple[str, float | None, float | None]:
    """Unit and plausible range."""
    if code in _COMPUTED:
        unit, low, high, _ = _COMPUTED[code]
        return unit, low, high
    return charted[code].unit, charted[code].low, charted[code].high


def _answers(
    build: Build, data: DataRoot, groups: Sequence[phenotypes.Phenotype], required: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The stays with ``coded``, and what answers the questions."""
    register, stays = build.register, build.stays
    diagnoses = data.read(phenotypes.TABLE, history.DIAGNOSES, required=required)
    over = people.over(register, stays)
    ended = over.with_columns(available_time=pl.col("time"))
    left = stays.drop_nulls("outtime").with_columns(time=pl.col("outtime"), available_time=pl.col("outtime"))
    events = [
        as_events(ended, "admissions", people.discharged_as()),
        as_events(left, "icustays", pl.lit("ICU_DISCHARGE")),
    ]
    if diagnoses is None:
        return stays.with_columns(coded=pl.lit(None, pl.Boolean)), pl.concat(events)
    codes = phenotypes.billed(register, diagnoses)
    build.read.append(phenotypes.TABLE)
    events.append(phenotypes.phenotype_events(codes, over, groups))
    return stays.with_columns(coded=pl.col("hadm_id").is_in(codes["hadm_id"].implode())), pl.concat(events)


def _with_summary(notes: DataRoot) -> pl.Series:
    """Admissions with a discharge summary."""
    frames = [frame["hadm_id"].drop_nulls().unique() for frame in notes.chunks("discharge", {"hadm_id": _I})]
    return pl.concat(frames).unique()


def _latest(stays: pl.DataFrame, films: pl.DataFrame) -> pl.Series:
    """Per stay the film its sample would be given."""
    begun = stays.select("subject_id", "stay_id", "intime")
    time, intime = pl.col("time"), pl.col("intime")
    found = (
        films.select("subject_id", "time", "text_value")
        .join(begun, on="subject_id")
        .filter(time.is_between(intime - BEFORE_UNIT, intime + ASKED_AFTER))
        .sort("time", "text_value")
        .group_by("stay_id", maintain_order=True)
        .agg(pl.col("text_value").last())
    )
    return begun.join(found, on="stay_id", how="left", maintain_order="left")["text_value"]
