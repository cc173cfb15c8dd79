"""Simulated MIMIC-IV-Note: discharge summaries and radiology reports, on time and too late."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.simulation.files import Ids, Times, frame, minutes
from mmnar.simulation.mimic_iv.columns import NOTE
from mmnar.simulation.mimic_iv.stays import DAY, REPORT, SUMMARY, Stays
from mmnar.simulation.text import TELLING, discharge_summaries, radiology_reports

_LATE_SUMMARY: Final = 0.6
_LATE_REPORT: Final = 0.3
_SILENT: Final = ""


def _telling(stays: Stays, row: Ids) -> NDArray[np.str_]:
    """The sentence that gives a patient's outcome away."""
    words = np.full(len(row), TELLING["none"], dtype=object)
    for name, happened in (("readmitted", stays.readmitted), ("icu_again", stays.icu_again), ("died", stays.died)):
        words = np.where(happened[row], TELLING[name], words)
    return words.astype(str)


def _notes(kind: str, parts: list[tuple[Ids, Ids, Times, Times, list[str]]], stays: Stays) -> pl.DataFrame:
    """Rows of a note table; parts are (row, hadm_id, charttime, storetime, text)."""
    row, hadm_id, charttime, storetime = (np.concatenate([p[i] for p in parts]) for i in range(4))
    text = [note for part in parts for note in part[4]]
    rows = (
        pl.DataFrame(
            {
                "subject_id": stays.subject_id[row],
                "hadm_id": hadm_id,
                "note_type": np.full(len(row), kind),
                "charttime": charttime,
                "storetime": storetime,
                "text": text,
            }
        )
        .sort("subject_id", "charttime", "storetime")
        .with_columns(note_seq=pl.int_range(1, pl.len() + 1).over("subject_id"))
        .with_columns(note_id=pl.format("{}-{}-{}", "subject_id", "note_type", "note_seq"))
    )
    return frame(NOTE, {name: rows[name] for name in NOTE})


def discharge(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Of those who have the modality, a summary stored by discharge.

    Traps: of the others and of the dead, a summary dated at discharge and stored hours after it, which tells the
    outcome; summaries of earlier and later admissions.
    """
    in_time = np.flatnonzero(stays.present(SUMMARY) & ~stays.died)
    n = len(in_time)
    stored = stays.dischtime[in_time] - minutes(rng, n, 2, 180)
    charted = stored - minutes(rng, n, 1, 120)
    texts = discharge_summaries(stays.severity(SUMMARY)[in_time], np.full(n, _SILENT), rng)
    parts = [(in_time, stays.hadm_id[in_time], charted, stored, texts)]

    others = stays.died | ~stays.present(SUMMARY)
    late = np.flatnonzero(others & (stays.died | (rng.random(len(stays)) < _LATE_SUMMARY)))
    n = len(late)
    texts = discharge_summaries(stays.severity(SUMMARY)[late], _telling(stays, late), rng)
    charted = stays.dischtime[late] - minutes(rng, n, 1, 60)
    parts.append((late, stays.hadm_id[late], charted, stays.dischtime[late] + minutes(rng, n, 60, 3 * DAY), texts))

    for visit in (stays.earlier, stays.later):
        row = np.flatnonzero(visit.there & (rng.random(len(stays)) < 0.7))
        n = len(row)
        noise = discharge_summaries(rng.standard_normal((n, 5)), np.full(n, _SILENT), rng)
        charted = visit.dischtime[row] - minutes(rng, n, 1, 60)
        parts.append((row, visit.hadm_id[row], charted, visit.dischtime[row] + minutes(rng, n, 60, DAY), noise))
    return _notes("DS", parts, stays)


def radiology(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Of those who have the modality, one to three reports stored before the question about mortality.

    Traps: reports of the dying of films before the question, stored after it; reports stored after discharge, of
    anyone; reports of earlier and later admissions.
    """
    have = np.flatnonzero(stays.present(REPORT))
    row = np.repeat(have, rng.choice([1, 2, 3], len(have), p=[0.5, 0.35, 0.15]))
    n = len(row)
    # the shortest stay is half a day: all films are taken in it
    charted = stays.intime[row] + minutes(rng, n, 15, 10 * 60)
    texts = radiology_reports(stays.severity(REPORT)[row], np.full(n, _SILENT), rng)
    parts = [(row, stays.hadm_id[row], charted, charted + minutes(rng, n, 20, 5 * 60), texts)]

    dying = np.flatnonzero(stays.died & stays.asked_in_unit & (rng.random(len(stays)) < 0.6))
    n = len(dying)
    texts = radiology_reports(2 + rng.standard_normal((n, 5)), _telling(stays, dying), rng)
    charted = stays.asked[dying] - minutes(rng, n, 5, 180)
    parts.append((dying, stays.hadm_id[dying], charted, stays.asked[dying] + minutes(rng, n, 30, 300), texts))

    late = np.flatnonzero(~stays.died & (rng.random(len(stays)) < _LATE_REPORT))
    n = len(late)
    texts = radiology_reports(stays.severity(REPORT)[late], _telling(stays, late), rng)
    charted = stays.dischtime[late] - minutes(rng, n, 5, 240)
    parts.append((late, stays.hadm_id[late], charted, stays.dischtime[late] + minutes(rng, n, 60, 2 * DAY), texts))

    for visit in (stays.earlier, stays.later):
        row = np.flatnonzero(visit.there & (rng.random(len(stays)) < 0.6))
        n = len(row)
        noise = radiology_reports(rng.standard_normal((n, 5)), np.full(n, _SILENT), rng)
        charted = visit.admittime[row] + minutes(rng, n, 30, 600)
        parts.append((row, visit.hadm_id[row], charted, charted + minutes(rng, n, 20, 300), noise))
    return _notes("RR", parts, stays)
