"""What is charted in the CareBench world: every hour of the first two days, with two episodes whose order tells.

Levels follow the contents of the record as in ``mimic_iv.record``, whose tables of laboratory values, drugs and
procedures are used as they are. On top of them everybody has one episode of a fast heart and one of low pressure; each
feature's first, last, least, greatest, mean and number of values are the same whichever came first.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.simulation.carebench.outcomes import ANEMIA, ARREST, DECOYS, OUTCOMES, PHENOTYPES
from mmnar.simulation.carebench.stays import Admitted
from mmnar.simulation.files import Ids, Times, duration, frame, in_minutes, minutes
from mmnar.simulation.mimic_iv.columns import HOSP, ICU
from mmnar.simulation.mimic_iv.record import (
    GCS,
    NOISE,
    VITALS,
    Item,
    charted,
    d_items,
    dying,
    gcs_points,
    grid,
    late_heart_rate,
    level,
)
from mmnar.simulation.mimic_iv.stays import DAY, Stays
from mmnar.simulation.population import Float

EPISODE: Final = 5
"""Hours that an episode lasts."""
_LIFT: Final = 3.0  # in spreads between patients
_HOURLY: Final = np.timedelta64(48, "h")
_FAST, _LOW = (220045,), (220179, 220180, 220181)
_OXYGEN: Final = Item(223834, "O2 Flow", "Respiratory", "L/min", 0, 15, 2, 4, 0.5, log=True, floor=0.5, ceiling=60)
_SUGAR: Final = Item(225664, "Glucose finger stick (range 70-100)", "Labs", "mg/dL", 70, 105, None, 132, 0.28, log=True)
_SOME: Final = {223835: 0.4, 223834: 0.4}
"""Item → share of patients who have it at all."""
_EVERY: Final = {225664: 6}
"""Item → hours between its readings, where it is not each hour."""

_RHYTHM, _ECTOPY, _REFILL_RIGHT, _REFILL_LEFT = 220048, 224650, 223951, 224308
_TEXTS: Final = (
    (_RHYTHM, "Heart Rhythm", "Routine Vital Signs"),
    (_ECTOPY, "Ectopy Type 1", "Routine Vital Signs"),
    (_REFILL_RIGHT, "Capillary Refill R", "Cardiovascular"),
    (_REFILL_LEFT, "Capillary Refill L", "Cardiovascular"),
)
_INTUBATED: Final = "No Response-ETT"
_ADMISSION_WEIGHT, _DAILY_WEIGHT, _HEIGHT = 226512, 224639, 226730
_FOLEY, _VOID, _IRRIGANT_IN, _IRRIGANT_OUT = 226559, 226560, 227488, 227489


def items() -> pl.DataFrame:
    """d_items of everything charted here."""
    rows: list[tuple[Any, ...]] = [
        (i.itemid, i.label, i.label, "chartevents", i.category, i.unit, "Numeric", float(i.low), float(i.high))
        for i in (_OXYGEN, _SUGAR)
    ]
    rows += [(i, label, label, "chartevents", kind, None, "Text", None, None) for i, label, kind in _TEXTS]
    rows += [
        (i, label, label, table, kind, unit, "Numeric", None, None)
        for i, label, table, kind, unit in (
            (_DAILY_WEIGHT, "Daily Weight", "chartevents", "General", "kg"),
            (_VOID, "Void", "outputevents", "Output", "mL"),
            (_IRRIGANT_IN, "GU Irrigant Volume In", "outputevents", "Output", "mL"),
            (_IRRIGANT_OUT, "GU Irrigant/Urine Volume Out", "outputevents", "Output", "mL"),
        )
    ]
    usual = d_items()
    more = pl.DataFrame(rows, schema=usual.schema, orient="row")
    return pl.concat([usual, more]).sort("itemid")


def weights(admitted: Admitted, rng: np.random.Generator) -> Float:
    """(N,) kilograms: noise."""
    kilograms: Float = np.round(np.clip(rng.normal(81, 18, len(admitted)), 40, 162), 1).astype(np.float64)
    return kilograms


def chartevents(admitted: Admitted, kilograms: Float, rng: np.random.Generator) -> pl.DataFrame:
    """Vital signs each hour of the first two days and every six hours after, the coma scale and texts every four.

    Traps: the last day of those who die; a heart rate charted before the question and stored after it.
    """
    stays = admitted.stays
    two_days = np.minimum(stays.outtime, stays.intime + _HOURLY)
    hourly, later = grid(stays.intime, two_days, 60, 48, rng), grid(two_days, stays.outtime, 6 * 60, 20, rng)
    row = np.concatenate([hourly[0], later[0]])
    time: Times = np.concatenate([hourly[1], later[1]])
    stored = _stored(time, 75, rng)
    caregiver = rng.integers(100, 99_999, size=len(stays))
    fast, low = _episodes(admitted.drawn.order, row, time, stays, rng)
    worse = dying(stays, row, time)
    own = rng.standard_normal(len(stays))
    hour = (in_minutes(time - stays.intime[row]) // 60).astype(np.int64)
    parts = []
    for item in (*VITALS, _OXYGEN, _SUGAR):
        has = rng.random(len(stays)) < _SOME.get(item.itemid, 1.0)
        due = has[row] & (hour % _EVERY.get(item.itemid, 1) == 0)
        kept = np.flatnonzero(due & (rng.random(len(row)) < 0.9))
        lift = fast if item.itemid in _FAST else low if item.itemid in _LOW else np.zeros(len(row))
        z = level(stays, row[kept], item, rng, own, worse[kept] + lift[kept])
        ids, units = np.full(len(kept), item.itemid), np.full(len(kept), item.unit)
        parts.append(charted(stays, row[kept], time[kept], stored[kept], ids, item.value(z), units, caregiver))
    seldom = np.flatnonzero(hour % 4 == 0)
    at = (row[seldom], time[seldom], stored[seldom])
    parts += [_coma(stays, *at, worse[seldom], caregiver, rng), _texts(stays, *at, caregiver, rng)]
    parts += [_weighed(stays, kilograms, caregiver, rng), late_heart_rate(stays, caregiver, rng)]
    return pl.concat(parts).sort("subject_id", "charttime", "itemid", maintain_order=True)


def _stored(time: Times, most: int, rng: np.random.Generator) -> Times:
    """When rows are stored: up to ``most`` minutes after they are charted."""
    stored: Times = time + minutes(rng, len(time), 1, most)
    return stored


def _episodes(
    order: NDArray[np.int64], row: Ids, time: Times, stays: Stays, rng: np.random.Generator
) -> tuple[Float, Float]:
    """How far each reading is lifted by the episode of a fast heart, and by that of low pressure."""
    n = len(stays)
    first = rng.uniform(2, 22, n)
    second = first + rng.uniform(8, 20, n)
    hours = in_minutes(time - stays.intime[row]) / 60
    fast, low = np.where(order > 0, first, second)[row], np.where(order > 0, second, first)[row]
    lifts = [np.where((hours >= begin) & (hours < begin + EPISODE), _LIFT, 0.0) for begin in (fast, low)]
    return lifts[0], lifts[1]


def _intubated(stays: Stays) -> NDArray[np.bool_]:
    """(N,) during the first day."""
    there: NDArray[np.bool_] = stays.severity(0)[:, 2] > 1.1
    return there


def _coma(
    stays: Stays, row: Ids, time: Times, stored: Times, worse: Float, caregiver: Ids, rng: np.random.Generator
) -> pl.DataFrame:
    """Coma scale by dimension 4; of those with a tube nobody hears a word, which is written as such and counts 1."""
    z = stays.severity(0)[row, 4] + NOISE * rng.standard_normal(len(row)) + worse
    tube = _intubated(stays)[row] & (time < stays.intime[row] + np.timedelta64(24, "h"))
    parts = []
    for itemid, _, words, edges in GCS:
        points = gcs_points(z, words, edges)
        text = np.array(words, dtype="<U24")[points - 1]
        if itemid == 223900:
            points, text = np.where(tube, 1, points), np.where(tube, _INTUBATED, text)
        ids, unit = np.full(len(row), itemid), np.full(len(row), "")
        rows = charted(stays, row, time, stored, ids, points.astype(float), unit, caregiver)
        parts.append(rows.with_columns(value=pl.Series(text)))
    return pl.concat(parts)


def _texts(
    stays: Stays, row: Ids, time: Times, stored: Times, caregiver: Ids, rng: np.random.Generator
) -> pl.DataFrame:
    """Rhythm by dimensions 0 and 1, ectopic beats and capillary refill by 3: words without a number."""
    z = stays.severity(0)[row] + NOISE * rng.standard_normal((len(row), 5))
    fast, fibrillates, slow = z[:, 0] > 1, z[:, 1] > 1.2, z[:, 0] < -1.5
    sinus = np.select(
        [fibrillates, fast, slow],
        ["AF (Atrial Fibrillation)", "ST (Sinus Tachycardia)", "SB (Sinus Bradycardia)"],
        "SR (Sinus Rhythm)",
    )
    beats = np.select([z[:, 3] > 1.3, z[:, 3] > 0.9], ["PVC's", "PAC's"], "None")
    refill = np.where(z[:, 3] > 1.0, "Abnormal >3 Seconds", "Normal <3 Seconds")
    parts = []
    for itemid, text, share in (
        (_RHYTHM, sinus, 0.95),
        (_ECTOPY, beats, 0.8),
        (_REFILL_RIGHT, refill, 0.5),
        (_REFILL_LEFT, refill, 0.5),
    ):
        kept = np.flatnonzero(rng.random(len(row)) < share)
        number = pl.Series([None] * len(kept), dtype=pl.Float64)
        ids, unit = np.full(len(kept), itemid), np.full(len(kept), "")
        rows = charted(stays, row[kept], time[kept], stored[kept], ids, number, unit, caregiver)
        parts.append(rows.with_columns(value=pl.Series(text[kept])))
    return pl.concat(parts)


def _weighed(stays: Stays, kilograms: Float, caregiver: Ids, rng: np.random.Generator) -> pl.DataFrame:
    """Weight and height on admission, weight once a day."""
    everyone = np.arange(len(stays))
    early = stays.intime + minutes(rng, len(stays), 5, 90)
    height = np.round(np.clip(rng.normal(169, 10, len(stays)), 130, 210), 1)
    row, time = grid(stays.intime + duration(np.full(len(stays), DAY)), stays.outtime, DAY, 10, rng)
    parts = []
    for itemid, unit, who, when, value in (
        (_ADMISSION_WEIGHT, "kg", everyone, early, kilograms),
        (_HEIGHT, "cm", everyone, early, height),
        (_DAILY_WEIGHT, "kg", row, time, np.round(kilograms[row] + rng.normal(0, 0.8, len(row)), 1)),
    ):
        ids, units = np.full(len(who), itemid), np.full(len(who), unit)
        parts.append(charted(stays, who, when, when, ids, value, units, caregiver))
    return pl.concat(parts)


def outputevents(admitted: Admitted, kilograms: Float, rng: np.random.Generator) -> pl.DataFrame:
    """Urine each hour of the first two days and every six after: 0.9 mL a kilogram and hour, less with dimension 1.

    Of one patient in thirty the bladder is rinsed: what went in is a row of its own and comes out again.
    """
    stays = admitted.stays
    two_days = np.minimum(stays.outtime, stays.intime + _HOURLY)
    row, time = grid(stays.intime, two_days, 60, 48, rng)
    after, when = grid(two_days, stays.outtime, 6 * 60, 20, rng)
    hours = np.concatenate([np.ones(len(row)), np.full(len(after), 6.0)])
    row, time = np.concatenate([row, after]), np.concatenate([time, when])
    z = stays.severity(0)[row, 1] + NOISE * rng.standard_normal(len(row))
    urine = np.round(0.9 * hours * kilograms[row] * np.exp(-0.45 * z))
    item = np.where(rng.random(len(stays)) < 0.2, _VOID, _FOLEY)[row]
    rinsed = (rng.random(len(stays)) < 1 / 30)[row]
    into = np.where(rinsed, 100.0, 0.0)
    caregiver = rng.integers(100, 99_999, size=len(stays))
    stored = _stored(time, 60, rng)
    out = _put_out(stays, row, time, stored, np.where(rinsed, _IRRIGANT_OUT, item), urine + into, caregiver)
    some = np.flatnonzero(rinsed)
    ids = np.full(len(some), _IRRIGANT_IN)
    back = _put_out(stays, row[some], time[some], stored[some], ids, into[some], caregiver)
    return pl.concat([out, back]).sort("subject_id", "charttime", "itemid")


def _put_out(
    stays: Stays, row: Ids, time: Times, stored: Times, itemid: Ids, value: Float, caregiver: Ids
) -> pl.DataFrame:
    values = {
        "subject_id": stays.subject_id[row],
        "hadm_id": stays.hadm_id[row],
        "stay_id": stays.stay_id[row],
        "caregiver_id": caregiver[row],
        "charttime": time,
        "storetime": stored,
        "itemid": itemid,
        "value": value,
        "valueuom": np.full(len(row), "mL"),
    }
    return frame(ICU["outputevents"], values)


# --- codes ------------------------------------------------------------------------------------------------------------


def d_icd_diagnoses() -> pl.DataFrame:
    titles = {(code, 9): title for p in PHENOTYPES for code, title in p.icd9.items()}
    titles |= {(code, 10): title for p in PHENOTYPES for code, title in p.icd10.items()}
    titles |= {(code, version): title for version, of in DECOYS.items() for code, title in of.items()}
    rows = sorted((code, version, title) for (code, version), title in titles.items())
    return pl.DataFrame(rows, schema=list(HOSP["d_icd_diagnoses"]), orient="row")


def diagnoses_icd(admitted: Admitted, rng: np.random.Generator) -> pl.DataFrame:
    """Codes of the phenotypes that an admission has, decoys, and an arrest of most who die; none where uncoded.

    Those of earlier admissions are noise.
    """
    stays = admitted.stays
    coded = admitted.broken != "uncoded"
    index = _coded(admitted.version, admitted.drawn.labels[:, [OUTCOMES.index(p.name) for p in PHENOTYPES]], rng)
    arrest = np.flatnonzero(stays.died & (rng.random(len(stays)) < 0.8))
    index += [(row, _of(ARREST, admitted.version)[row]) for row in arrest.tolist()]
    noise = rng.random((len(stays), len(PHENOTYPES))) < 0.3
    before = _coded(admitted.version, noise & stays.earlier.there[:, None], rng)
    rows = [(stays.hadm_id[r], r, code) for r, code in index if coded[r]]
    rows += [(stays.earlier.hadm_id[r], r, code) for r, code in before if stays.earlier.there[r]]
    row = np.array([r for _, r, _ in rows], dtype=np.int64)
    table = pl.DataFrame(
        {
            "subject_id": stays.subject_id[row],
            "hadm_id": np.array([hadm for hadm, _, _ in rows], dtype=np.int64),
            "icd_code": [code for _, _, code in rows],
            "icd_version": admitted.version[row],
            "key": rng.random(len(rows)),
        }
    )
    table = table.unique(["hadm_id", "icd_code"], keep="first", maintain_order=True).sort(
        "subject_id", "hadm_id", "key"
    )
    return table.with_columns(seq_num=pl.int_range(1, pl.len() + 1).over("hadm_id")).select(HOSP["diagnoses_icd"])


def _of(codes: dict[int, str], version: Ids) -> NDArray[np.str_]:
    return np.array([codes[v] for v in version.tolist()])


def _coded(version: Ids, has: NDArray[np.bool_], rng: np.random.Generator) -> list[tuple[int, str]]:
    """(row, code): one code of each phenotype that a row has, anemia, and a fifth of the decoys."""
    rows = []
    dice = rng.random(has.shape)
    for number, phenotype in enumerate(PHENOTYPES):
        codes = {9: tuple(phenotype.icd9), 10: tuple(phenotype.icd10)}
        for row in np.flatnonzero(has[:, number]).tolist():
            of = codes[int(version[row])]
            rows.append((row, of[int(dice[row, number] * len(of))]))
    for which in (9, 10):
        mine = np.flatnonzero(version == which)
        decoys = [code for code in DECOYS[which] if code != ARREST[which]]
        chosen = rng.random((len(mine), len(decoys))) < 0.2
        chosen[:, decoys.index(ANEMIA[which])] = True
        rows += [(int(mine[r]), decoys[c]) for r, c in zip(*np.nonzero(chosen), strict=True)]
    return rows
