"""MIMIC-IV folders → the extract of MedFuse (Hayat et al. 2022): the 17 variables of Harutyunyan et al. 2019 as series,
AP films of the unit stay, and what answers the question.

No other input is read. Labels lie apart from the events (``Extract.outcomes``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import polars as pl

from mmnar.sources.events import Deriving, Events, Extract, SeriesRule
from mmnar.sources.mimic_iv import history, people, phenotypes
from mmnar.sources.mimic_iv.levels import LEVELS, level_code, levels
from mmnar.sources.mimic_iv.reader import Build, hashed, opened
from mmnar.sources.mimic_iv.register import as_events
from mmnar.sources.mimic_iv.tables import MEDFUSE
from mmnar.sources.reading.ages import decades
from mmnar.sources.reading.code_tables import digest
from mmnar.sources.reading.raw import DataRoot

Asked = Literal["mortality", "phenotypes"]
EHR: Final = "ehr"
ATTRIBUTES: Final = ("race", "sex", "age_group", "insurance", "language")
ASKED_AFTER: Final = pl.duration(hours=48, time_unit="us")
"""From admission to the unit to the question of mortality."""
_BILLED_AFTER: Final = pl.duration(minutes=1, time_unit="us")
"""Codes are billed when an admission is over: after leaving the unit, also where that was the end of it."""

NUMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "diastolic_bp": ("VITAL//DIASTOLIC_BP",),
    "fio2": ("RESP//FIO2",),
    "glucose": ("VITAL//GLUCOSE", "LAB//GLUCOSE"),
    "heart_rate": ("VITAL//HEART_RATE",),
    "height": ("VITAL//HEIGHT",),
    "mean_bp": ("VITAL//MEAN_BP",),
    "spo2": ("VITAL//SPO2",),
    "respiratory_rate": ("VITAL//RESPIRATORY_RATE",),
    "systolic_bp": ("VITAL//SYSTOLIC_BP",),
    "temperature": ("VITAL//TEMPERATURE",),
    "weight": ("VITAL//WEIGHT",),
    "ph": ("VITAL//PH", "LAB//PH"),
}
"""The 12 variables that are numbers → their codes. The five that are scores are ``levels.LEVELS``."""


def read_medfuse(
    root: str | Path,
    *,
    work: Path,
    asked: Asked = "mortality",
    cxr: Path | None = None,
    side: int = 224,
    answered: bool = True,
    codes: phenotypes.Codes | None = None,
) -> Extract:
    """Read MIMIC-IV tables into the extract of MedFuse.

    Args:
        root, work: As in ``read_mimic_iv``.
        asked: Which of the two questions.
        cxr: Folder of MIMIC-CXR-JPG: a modality ``cxr`` of AP films.
        side: Pixels of the stored square.
        answered: Whether billing codes must be there, where phenotypes are asked.
        codes: Of the phenotypes, by another list than this package's.

    Returns:
        ``stays`` has, beside what ``people.admit`` gives, ``transferred`` (whether the stay changed units), ``alone``
        (whether it is its admission's only stay of those that did not) and ``coded`` (whether the admission has a
        billing code). What happened before admission to the unit does not count as the stay's.

    Raises:
        SourceError: As ``read_mimic_iv``; or ``chartevents``, ``labevents`` or, where phenotypes are asked with their
            answers, ``diagnoses_icd`` is absent.
    """
    data, version, build = opened(Path(root), work, "series")
    for table, spec in MEDFUSE.items():
        build.stream(data, table, spec, spec.concepts)
    build.rules += feature_rules()
    build.descriptions |= {
        level_code(code, level): f"{feature.replace('_', ' ')}: whether it was {level}"
        for feature, (code, of) in LEVELS.items()
        for level in of
    }
    stays, outcomes = _answers(build, data, asked, codes, answered)
    stays = stays.with_columns(age_group=decades(pl.col("age")))
    roots = [data]
    if cxr is not None:
        films = DataRoot(cxr, ledger=build.register.ledger)
        build.bedside(films, cxr, side)
        roots.append(films)
    listed = digest("phenotypes") if codes is None else json.dumps(codes)
    events = build.writer.finish("MIMIC-IV", version, build.descriptions)
    ledger = build.register.ledger
    return Extract(
        name="medfuse",
        version=version,
        events=Deriving(events, levels),
        stays=stays.with_columns(since="intime"),
        rules=tuple(build.rules),
        attributes=ATTRIBUTES,
        fingerprint=hashed(*(r.fingerprint() for r in roots), asked, listed),
        warnings=(*(w for r in roots for w in r.warnings), *ledger.notes, *events.notes, *build.dropped),
        details={"asked": asked, "tables": build.read},
        outcomes=Events(outcomes, scope="subject"),
    )


def feature_rules() -> list[SeriesRule]:
    """One series per level of the five scores, then one per number."""
    known = {concept.code: concept for spec in MEDFUSE.values() for concept in spec.concepts}
    scores = [
        SeriesRule(EHR, f"{feature}_{level}", (level_code(code, level),), low=0, high=1)
        for feature, (code, of) in LEVELS.items()
        for level in of
    ]
    numbers = []
    for feature, of in NUMBERS.items():
        first = known[of[0]]
        numbers.append(SeriesRule(EHR, feature, of, first.unit, first.low, first.high))
    return [*scores, *numbers]


def _answers(
    build: Build, data: DataRoot, asked: Asked, codes: phenotypes.Codes | None, answered: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The stays with what the rules read, and what answers the question."""
    register, stays = build.register, _compared(build.stays)
    ended = people.over(register, stays).with_columns(available_time=pl.col("time"))
    events = [as_events(ended, "admissions", people.discharged_as())]
    stays = stays.with_columns(coded=pl.lit(None, pl.Boolean))
    if asked == "phenotypes" and answered:
        diagnoses = data.read(phenotypes.TABLE, history.DIAGNOSES)
        assert diagnoses is not None
        billed = phenotypes.billed(register, diagnoses)
        build.read.append(phenotypes.TABLE)
        later = ended.with_columns(time=pl.col("time") + _BILLED_AFTER)
        events.append(phenotypes.phenotype_events(billed, later, phenotypes.phenotypes(codes)))
        stays = stays.with_columns(coded=pl.col("hadm_id").is_in(billed["hadm_id"].implode()))
    return stays, pl.concat(events)


def _compared(stays: pl.DataFrame) -> pl.DataFrame:
    """With ``transferred`` and ``alone``."""
    stays = stays.with_columns(transferred=pl.col("first_careunit") != pl.col("last_careunit"))
    stayed = ~pl.col("transferred").fill_null(True)
    return stays.with_columns(alone=stayed & (stayed.sum().over("hadm_id") == 1))
