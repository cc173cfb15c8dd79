"""Simulated MIMIC-IV: measurements, drugs and codes. They follow the contents of modality 0, the structured record.

Each of the five dimensions moves several items, linearly or on the log scale, so that means over any part of a stay
tell the dimension up to a little noise of measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.simulation.files import Ids, Times, duration, frame, in_minutes, minutes, shuffled_ids
from mmnar.simulation.mimic_iv.columns import HOSP, ICU
from mmnar.simulation.mimic_iv.stays import DAY, Stays
from mmnar.simulation.population import Float

LATE_SHARE: Final = 0.3
"""Of the patients who could have a given late result, how many have it."""

NOISE: Final = 0.35
"""Spread of one measurement around the patient's level, in spreads between patients."""

_LACTATE: Final = 50813
_TERMINAL: Final = 24 * 60
_WORSE: Final = 3.5


@dataclass(frozen=True)
class Item:
    """A measurement: ``centre + scale z``, or ``centre exp(scale z)`` where ``log``; z follows ``dimension``."""

    itemid: int
    label: str
    category: str
    unit: str
    low: float
    high: float
    dimension: int | None
    centre: float
    scale: float
    log: bool = False
    digits: int = 0
    floor: float = 0.0
    ceiling: float = 1e9

    def value(self, z: Float) -> Float:
        raw = self.centre * np.exp(self.scale * z) if self.log else self.centre + self.scale * z
        found: Float = np.round(np.clip(raw, self.floor, self.ceiling), self.digits).astype(np.float64)
        return found


LABS: Final = (
    Item(_LACTATE, "Lactate", "Blood Gas", "mmol/L", 0.5, 2.0, 0, 1.7, 0.40, log=True, digits=1, floor=0.3),
    Item(50882, "Bicarbonate", "Chemistry", "mEq/L", 22, 32, 0, 24, -2.6, digits=0, floor=5),
    Item(50912, "Creatinine", "Chemistry", "mg/dL", 0.4, 1.1, 1, 1.15, 0.45, log=True, digits=2, floor=0.1),
    Item(51006, "Urea Nitrogen", "Chemistry", "mg/dL", 6, 20, 1, 22, 0.40, log=True, digits=0, floor=2),
    Item(50971, "Potassium", "Chemistry", "mEq/L", 3.3, 5.1, 1, 4.2, 0.35, digits=1, floor=2),
    Item(51222, "Hemoglobin", "Hematology", "g/dL", 12.0, 16.0, 3, 10.6, -1.3, digits=1, floor=4),
    Item(51301, "White Blood Cells", "Hematology", "K/uL", 4.0, 11.0, 4, 10.2, 0.36, log=True, digits=1, floor=0.3),
    Item(51265, "Platelet Count", "Hematology", "K/uL", 150, 440, 4, 200, -42, digits=0, floor=8),
    Item(50983, "Sodium", "Chemistry", "mEq/L", 133, 145, None, 139, 3.5, digits=0, floor=110),
    Item(50902, "Chloride", "Chemistry", "mEq/L", 96, 108, None, 103, 4.5, digits=0, floor=70),
    Item(50931, "Glucose", "Chemistry", "mg/dL", 70, 105, None, 132, 0.28, log=True, digits=0, floor=30),
    Item(50868, "Anion Gap", "Chemistry", "mEq/L", 8, 20, 0, 14, 2.2, digits=0, floor=3),
)
VITALS: Final = (
    Item(220045, "Heart Rate", "Routine Vital Signs", "bpm", 60, 100, 0, 87, 12, digits=0, floor=25, ceiling=220),
    Item(220210, "Respiratory Rate", "Respiratory", "insp/min", 12, 20, 2, 19.5, 3.6, digits=0, floor=4, ceiling=60),
    Item(220277, "O2 saturation pulseoxymetry", "Respiratory", "%", 92, 100, 2, 95, -1.6, floor=60, ceiling=100),
    Item(220179, "Non Invasive Blood Pressure systolic", "Routine Vital Signs", "mmHg", 90, 140, 3, 120, -15, floor=40),
    Item(220180, "Non Invasive Blood Pressure diastolic", "Routine Vital Signs", "mmHg", 50, 90, 3, 64, -8, floor=20),
    Item(220181, "Non Invasive Blood Pressure mean", "Routine Vital Signs", "mmHg", 60, 110, 3, 80, -10, floor=30),
    Item(223761, "Temperature Fahrenheit", "Routine Vital Signs", "°F", 97, 99.5, 4, 98.5, 0.9, digits=1, floor=90),
    Item(223835, "Inspired O2 Fraction", "Respiratory", "", 21, 50, 2, 42, 0.22, log=True, floor=21, ceiling=100),
)
_CELSIUS: Final = 223762
GCS: Final = (
    (220739, "GCS - Eye Opening", ("None", "To Pain", "To Speech", "Spontaneously"), (2.4, 1.6, 0.8)),
    (
        223900,
        "GCS - Verbal Response",
        ("No Response", "Incomprehensible sounds", "Inappropriate Words", "Confused", "Oriented"),
        (2.6, 1.9, 1.2, 0.5),
    ),
    (
        223901,
        "GCS - Motor Response",
        ("No response", "Abnormal extension", "Abnormal Flexion", "Flex-withdraws", "Localizes Pain", "Obeys Commands"),
        (3.2, 2.8, 2.4, 1.8, 1.0),
    ),
)
_OTHER_ITEMS: Final = (
    (226512, "Admission Weight (Kg)", "chartevents", "General", "kg"),
    (226730, "Height (cm)", "chartevents", "General", "cm"),
    (_CELSIUS, "Temperature Celsius", "chartevents", "Routine Vital Signs", "°C"),
    (226559, "Foley", "outputevents", "Output", "mL"),
    (221906, "Norepinephrine", "inputevents", "Medications", "mg"),
    (222168, "Propofol", "inputevents", "Medications", "mg"),
    (225158, "NaCl 0.9%", "inputevents", "Fluids/Intake", "mL"),
    (225792, "Invasive Ventilation", "procedureevents", "2-Ventilation", "None"),
    (224275, "20 Gauge", "procedureevents", "Access Lines - Peripheral", "None"),
)


# --- dictionaries -----------------------------------------------------------------------------------------------------


def d_labitems() -> pl.DataFrame:
    rows = sorted((item.itemid, item.label, "Blood", item.category) for item in LABS)
    return pl.DataFrame(rows, schema=list(HOSP["d_labitems"]), orient="row")


def d_items() -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = [
        (i.itemid, i.label, i.label, "chartevents", i.category, i.unit or None, "Numeric", i.low, i.high)
        for i in VITALS
    ]
    rows += [(i, label, label, "chartevents", "Neurological", None, "Text", None, None) for i, label, _, _ in GCS]
    rows += [(i, label, label, to, kind, unit, "Numeric", None, None) for i, label, to, kind, unit in _OTHER_ITEMS]
    return pl.DataFrame(sorted(rows), schema=list(ICU["d_items"]), orient="row", infer_schema_length=None)


# --- measurements -----------------------------------------------------------------------------------------------------


def grid(begin: Times, end: Times, step: int, most: int, rng: np.random.Generator) -> tuple[Ids, Times]:
    """Row numbers and times: every ``step`` minutes from ``begin`` to before ``end``, with some jitter."""
    count = np.minimum(in_minutes(end - begin) // step + 1, most).astype(np.int64)
    row = np.repeat(np.arange(len(begin)), count)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    time = begin[row] + duration(nth * step) + minutes(rng, len(row), 0, min(step, 60) - 1)
    inside = time < end[row]
    return row[inside], time[inside]


def level(stays: Stays, row: Ids, item: Item, rng: np.random.Generator, own: Float, worse: Float) -> Float:
    """z of each measurement: the patient's dimension, or ``own`` noise where the item follows none."""
    if item.dimension is None:
        return own[row] + NOISE * rng.standard_normal(len(row))
    found: Float = stays.severity(0)[row, item.dimension] + NOISE * rng.standard_normal(len(row)) + worse
    return found


def dying(stays: Stays, row: Ids, time: Times) -> Float:
    """How far a measurement is shifted: the last day of those who die, after the question was asked (trap)."""
    left = in_minutes(stays.dischtime[row] - time)
    shifted: Float = np.where(stays.died[row] & (left < _TERMINAL) & (time > stays.asked[row]), _WORSE, 0.0)
    return shifted


def chartevents(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Vital signs every six hours of the index stay.

    Traps: the last day of those who die; a heart rate charted before the question and stored after it.
    """
    row, time = grid(stays.intime, stays.outtime, 6 * 60, 60, rng)
    caregiver = rng.integers(100, 99_999, size=len(stays))
    stored = time + minutes(rng, len(row), 1, 75)
    worse = dying(stays, row, time)
    celsius = rng.random(len(stays)) < 0.15
    own = rng.standard_normal(len(stays))
    parts = []
    for item in VITALS:
        kept = np.flatnonzero(rng.random(len(row)) < 0.93)
        value = item.value(level(stays, row[kept], item, rng, own, worse[kept]))
        itemid = np.full(len(kept), item.itemid)
        unit = np.full(len(kept), item.unit)
        if item.itemid == 223761:
            cold = celsius[row[kept]]
            itemid, unit = np.where(cold, _CELSIUS, itemid), np.where(cold, "°C", unit)
            value = np.where(cold, np.round((value - 32) / 1.8, 1), value)
        parts.append(charted(stays, row[kept], time[kept], stored[kept], itemid, value, unit, caregiver))
    parts += [_gcs(stays, row, time, stored, worse, caregiver, rng), _body(stays, caregiver, rng)]
    parts.append(late_heart_rate(stays, caregiver, rng))
    return pl.concat(parts).sort("subject_id", "charttime", "itemid", maintain_order=True)


def charted(
    stays: Stays, row: Ids, time: Times, stored: Times, itemid: Ids, value: Any, unit: Any, caregiver: Ids
) -> pl.DataFrame:
    number = pl.Series(value)
    values = {
        "subject_id": stays.subject_id[row],
        "hadm_id": stays.hadm_id[row],
        "stay_id": stays.stay_id[row],
        "caregiver_id": caregiver[row],
        "charttime": time,
        "storetime": stored,
        "itemid": itemid,
        # as the release does: whole numbers without a point
        "value": number.cast(pl.String).str.strip_suffix(".0"),
        "valuenum": number,
        "valueuom": pl.Series(unit).replace("", None),
        "warning": np.zeros(len(row), dtype=np.int64),
    }
    return frame(ICU["chartevents"], values)


def _gcs(
    stays: Stays, row: Ids, time: Times, stored: Times, worse: Float, caregiver: Ids, rng: np.random.Generator
) -> pl.DataFrame:
    """Coma scale by dimension 4, twice a day."""
    some = np.flatnonzero(rng.random(len(row)) < 0.5)
    z = stays.severity(0)[row[some], 4] + NOISE * rng.standard_normal(len(some)) + worse[some]
    parts = []
    for itemid, _, words, edges in GCS:
        points = gcs_points(z, words, edges)
        ids, unit = np.full(len(some), itemid), np.full(len(some), "")
        rows = charted(stays, row[some], time[some], stored[some], ids, points.astype(float), unit, caregiver)
        parts.append(rows.with_columns(value=pl.Series(np.array(words)[points - 1])))
    return pl.concat(parts)


def gcs_points(z: Float, words: tuple[str, ...], edges: tuple[float, ...]) -> Ids:
    """Points of one component: one less at each of its edges."""
    points: Ids = len(words) - np.searchsorted(np.sort(edges), z)
    return points


def _body(stays: Stays, caregiver: Ids, rng: np.random.Generator) -> pl.DataFrame:
    everyone = np.arange(len(stays))
    time = stays.intime + minutes(rng, len(stays), 5, 90)
    parts = []
    for itemid, unit, centre, spread in ((226512, "kg", 81, 18), (226730, "cm", 169, 10)):
        value = np.round(np.clip(rng.normal(centre, spread, len(stays)), centre / 2, 2 * centre), 1)
        ids = np.full(len(stays), itemid)
        parts.append(charted(stays, everyone, time, time, ids, value, np.full(len(stays), unit), caregiver))
    return pl.concat(parts)


def late_heart_rate(stays: Stays, caregiver: Ids, rng: np.random.Generator) -> pl.DataFrame:
    """Trap: charted up to four hours before the question, stored up to five hours after it."""
    row = np.flatnonzero(stays.asked_in_unit & (rng.random(len(stays)) < LATE_SHARE))
    n = len(row)
    time = stays.asked[row] - minutes(rng, n, 5, 240)
    stored = stays.asked[row] + minutes(rng, n, 5, 300)
    item = VITALS[0]
    usual = item.value(stays.severity(0)[row, 0] + NOISE * rng.standard_normal(n))
    value = np.where(stays.died[row], 172.0 + rng.integers(-10, 10, n), usual)
    return charted(stays, row, time, stored, np.full(n, item.itemid), value, np.full(n, item.unit), caregiver)


def labevents(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Daily blood tests of the index admission; those of earlier and later admissions are the patient's too.

    Traps: a lactate drawn before the question about mortality and resulted after it; one drawn before discharge and
    resulted after it.
    """
    row, time = grid(stays.intime, stays.dischtime, DAY, 15, rng)
    stored = time + minutes(rng, len(row), 30, 200)
    worse = dying(stays, row, time)
    own = rng.standard_normal(len(stays))
    specimen = np.arange(len(row))
    parts = []
    for item in LABS:
        kept = np.flatnonzero(rng.random(len(row)) < (0.7 if item.itemid == _LACTATE else 0.95))
        z = level(stays, row[kept], item, rng, own, worse[kept])
        parts.append(_resulted(stays, row[kept], item, time[kept], stored[kept], item.value(z), specimen[kept]))
    late = [_late_lactate(stays, rng, specimen_from=len(row)), _overdue_lactate(stays, rng, specimen_from=2 * len(row))]
    rows = pl.concat(parts + late).sort("subject_id", "charttime", "specimen_id", "itemid")
    return _finish_labs(rows, rng)


def _resulted(
    stays: Stays, row: Ids, item: Item, time: Times, stored: Times, value: Any, specimen: Ids
) -> pl.DataFrame:
    n = len(row)
    values = {
        "subject_id": stays.subject_id[row],
        "hadm_id": stays.hadm_id[row],
        "specimen_id": specimen,
        "itemid": np.full(n, item.itemid),
        "charttime": time,
        "storetime": stored,
        "valuenum": value,
        "valueuom": np.full(n, item.unit),
        "ref_range_lower": np.full(n, float(item.low)),
        "ref_range_upper": np.full(n, float(item.high)),
    }
    return pl.DataFrame(values)


def _lactate_of(stays: Stays, row: Ids, telling: Any, rng: np.random.Generator) -> Float:
    usual = LABS[0].value(stays.severity(0)[row, 0] + NOISE * rng.standard_normal(len(row)))
    value: Float = np.where(telling, np.round(14 + 2 * rng.random(len(row)), 1), usual)
    return value


def _late_lactate(stays: Stays, rng: np.random.Generator, specimen_from: int) -> pl.DataFrame:
    row = np.flatnonzero(stays.asked_in_unit & (rng.random(len(stays)) < LATE_SHARE))
    time = stays.asked[row] - minutes(rng, len(row), 5, 180)
    stored = stays.asked[row] + minutes(rng, len(row), 5, 300)
    value = _lactate_of(stays, row, stays.died[row], rng)
    return _resulted(stays, row, LABS[0], time, stored, value, specimen_from + row)


def _overdue_lactate(stays: Stays, rng: np.random.Generator, specimen_from: int) -> pl.DataFrame:
    row = np.flatnonzero(~stays.died & (rng.random(len(stays)) < LATE_SHARE))
    time = stays.dischtime[row] - minutes(rng, len(row), 5, 120)
    stored = stays.dischtime[row] + minutes(rng, len(row), 5, DAY)
    value = _lactate_of(stays, row, (stays.icu_again | stays.readmitted)[row], rng)
    return _resulted(stays, row, LABS[0], time, stored, value, specimen_from + row)


def _finish_labs(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Ids, texts and flags; one result in a hundred is blanked, one row in twenty has no ``hadm_id``, as in MIMIC."""
    n = rows.height
    blanked, unlinked = pl.Series(rng.random(n) < 0.01), pl.Series(rng.random(n) < 0.05)
    number = pl.col("valuenum")
    text = number.cast(pl.String).str.strip_suffix(".0")
    abnormal = ~number.is_between("ref_range_lower", "ref_range_upper")
    rows = rows.with_columns(
        labevent_id=pl.int_range(1, n + 1),
        specimen_id=pl.col("specimen_id") + 10_000_000,
        hadm_id=pl.when(~unlinked).then("hadm_id"),
        value=pl.when(blanked).then(pl.lit("___")).otherwise(text),
        flag=pl.when(abnormal & ~blanked).then(pl.lit("abnormal")),
        priority=pl.Series(np.array(["ROUTINE", "STAT"])[rng.integers(2, size=n)]),
        valuenum=pl.when(~blanked).then("valuenum"),
    )
    return frame(HOSP["labevents"], {name: rows[name] for name in rows.columns})


def microbiologyevents(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """A blood culture of half the patients; growth follows dimension 4. Its result is stored two to four days later.

    Trap: cultures of those who die grow, and say so after the question was asked.
    """
    row = np.flatnonzero(rng.random(len(stays)) < 0.5)
    n = len(row)
    time = stays.intime[row] + minutes(rng, n, 5, 12 * 60)
    # past the question for mortality: whatever the result tells, it tells too late
    stored = np.maximum(time + minutes(rng, n, 2 * DAY, 4 * DAY), stays.asked[row] + minutes(rng, n, 5, 600))
    grows = (stays.severity(0)[row, 4] + NOISE * rng.standard_normal(n) > 1.3) | stays.died[row]
    day = [pl.Series(t.astype("datetime64[D]").astype("datetime64[us]")) for t in (time, stored)]
    values = {
        "microevent_id": np.arange(1, n + 1),
        "subject_id": stays.subject_id[row],
        "hadm_id": stays.hadm_id[row],
        "micro_specimen_id": shuffled_ids(rng, n, 1_000_000, 8_000_000),
        "chartdate": day[0],
        "charttime": time,
        "spec_itemid": np.full(n, 70012),
        "spec_type_desc": np.full(n, "BLOOD CULTURE"),
        "test_seq": np.ones(n, dtype=np.int64),
        "storedate": day[1],
        "storetime": stored,
        "test_itemid": np.full(n, 90201),
        "test_name": np.full(n, "Blood Culture, Routine"),
        "org_itemid": pl.Series(np.full(n, 80002)).set(pl.Series(~grows), None),
        "org_name": pl.Series(np.full(n, "ESCHERICHIA COLI")).set(pl.Series(~grows), None),
        "isolate_num": pl.Series(np.ones(n, dtype=np.int64)).set(pl.Series(~grows), None),
        "comments": pl.Series(np.full(n, "NO GROWTH.")).set(pl.Series(grows), None),
    }
    return frame(HOSP["microbiologyevents"], values)


# --- fluids, drugs, procedures ----------------------------------------------------------------------------------------


def outputevents(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Urine every six hours, less with dimension 1."""
    row, time = grid(stays.intime, stays.outtime, 6 * 60, 40, rng)
    z = stays.severity(0)[row, 1] + NOISE * rng.standard_normal(len(row))
    values = {
        "subject_id": stays.subject_id[row],
        "hadm_id": stays.hadm_id[row],
        "stay_id": stays.stay_id[row],
        "caregiver_id": rng.integers(100, 99_999, size=len(row)),
        "charttime": time,
        "storetime": time + minutes(rng, len(row), 1, 60),
        "itemid": np.full(len(row), 226559),
        "value": np.round(330 * np.exp(-0.35 * z)),
        "valueuom": np.full(len(row), "mL"),
    }
    return frame(ICU["outputevents"], values).sort("subject_id", "charttime")


def inputevents(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Saline for all, noradrenaline and propofol by dimensions 3 and 2."""
    z = stays.severity(0)
    parts = []
    for itemid, kind, unit, rate, wanted in (
        (221906, "01-Drips", "mg", 0.1, z[:, 3] > 1.0),
        (222168, "01-Drips", "mg", 20.0, z[:, 2] > 0.9),
        (225158, "02-Fluids (Crystalloids)", "mL", None, np.ones(len(stays), dtype=bool)),
    ):
        row = np.flatnonzero(wanted & (rng.random(len(stays)) < 0.9))
        n = len(row)
        begin = stays.intime[row] + minutes(rng, n, 15, 8 * 60)
        length = rng.integers(30, 16 * 60, size=n)
        order = shuffled_ids(rng, n, 1_000_000, 8_000_000)
        amount = np.round(length * (rate or 2.0) * rng.uniform(0.5, 1.5, n), 2)
        rates = {} if rate is None else {"rate": np.full(n, rate), "rateuom": np.full(n, "mcg/kg/min")}
        values = {
            "subject_id": stays.subject_id[row],
            "hadm_id": stays.hadm_id[row],
            "stay_id": stays.stay_id[row],
            "caregiver_id": rng.integers(100, 99_999, size=n),
            "starttime": begin,
            "endtime": begin + duration(length),
            "storetime": begin + minutes(rng, n, 1, 30),
            "itemid": np.full(n, itemid),
            "amount": amount,
            "amountuom": np.full(n, unit),
            "orderid": order,
            "linkorderid": order,
            "ordercategoryname": np.full(n, kind),
            "ordercomponenttypedescription": np.full(n, "Main order parameter"),
            "ordercategorydescription": np.full(n, "Continuous Med" if rate else "Bolus"),
            "totalamount": amount,
            "totalamountuom": np.full(n, "ml"),
            "isopenbag": np.zeros(n, dtype=np.int64),
            "continueinnextdept": np.zeros(n, dtype=np.int64),
            "statusdescription": np.full(n, "FinishedRunning"),
            "originalamount": amount,
        }
        parts.append(frame(ICU["inputevents"], values | rates).cast({"rate": pl.Float64, "rateuom": pl.String}))
    return pl.concat(parts).sort("subject_id", "starttime", "itemid")


def procedureevents(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """A line for all, ventilation by dimension 2. ``storetime`` is the end of the procedure, as in MIMIC."""
    parts = []
    for itemid, kind, wanted in (
        (225792, "Ventilation", stays.severity(0)[:, 2] > 1.1),
        (224275, "Peripheral Lines", np.ones(len(stays), dtype=bool)),
    ):
        row = np.flatnonzero(wanted & (rng.random(len(stays)) < 0.9))
        n = len(row)
        begin = stays.intime[row] + minutes(rng, n, 10, 6 * 60)
        length = rng.integers(60, 5 * 60, size=n)
        order = shuffled_ids(rng, n, 1_000_000, 8_000_000)
        values = {
            "subject_id": stays.subject_id[row],
            "hadm_id": stays.hadm_id[row],
            "stay_id": stays.stay_id[row],
            "caregiver_id": rng.integers(100, 99_999, size=n),
            "starttime": begin,
            "endtime": begin + duration(length),
            "storetime": begin + duration(length) + minutes(rng, n, 0, 20),
            "itemid": np.full(n, itemid),
            "value": length.astype(np.float64),
            "valueuom": np.full(n, "min"),
            "orderid": order,
            "linkorderid": order,
            "ordercategoryname": np.full(n, kind),
            "ordercategorydescription": np.full(n, "ContinuousProcess"),
            "isopenbag": np.ones(n, dtype=np.int64),
            "continueinnextdept": np.zeros(n, dtype=np.int64),
            "statusdescription": np.full(n, "FinishedRunning"),
            "originalamount": length.astype(np.float64),
            "originalrate": np.ones(n),
        }
        parts.append(frame(ICU["procedureevents"], values))
    return pl.concat(parts).sort("subject_id", "starttime", "itemid")


_DRUGS: Final = (
    ("Heparin", "SC"),
    ("Acetaminophen", "PO/NG"),
    ("Insulin", "SC"),
    ("Furosemide", "IV"),
    ("Metoprolol Tartrate", "PO/NG"),
    ("Pantoprazole", "IV"),
    ("Vancomycin", "IV"),
    ("Potassium Chloride", "IV"),
    ("Docusate Sodium", "PO"),
    ("Senna", "PO/NG"),
)


def prescriptions(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """A handful of drugs each; antibiotics by dimension 4, the rest noise."""
    chosen = rng.random((len(stays), len(_DRUGS))) < 0.5
    chosen[:, 6] = stays.severity(0)[:, 4] + NOISE * rng.standard_normal(len(stays)) > 0.3
    row, drug = np.nonzero(chosen)
    n = len(row)
    begin = (stays.intime[row] + minutes(rng, n, 0, 16 * 60)).astype("datetime64[h]").astype("datetime64[us]")
    names, routes = (np.array(words)[drug] for words in zip(*_DRUGS, strict=True))
    values = {
        "subject_id": stays.subject_id[row],
        "hadm_id": stays.hadm_id[row],
        "pharmacy_id": shuffled_ids(rng, n, 10_000_000, 80_000_000),
        "starttime": begin,
        "stoptime": begin + minutes(rng, n, 6 * 60, 4 * DAY),
        "drug_type": np.full(n, "MAIN"),
        "drug": names,
        "dose_val_rx": rng.integers(1, 10, size=n).astype(str),
        "dose_unit_rx": np.full(n, "mg"),
        "doses_per_24_hrs": rng.integers(1, 4, size=n).astype(float),
        "route": routes,
    }
    return frame(HOSP["prescriptions"], values).sort("subject_id", "starttime", "pharmacy_id")


# --- codes ------------------------------------------------------------------------------------------------------------

_CODES: Final = (
    ("I10", "Essential (primary) hypertension"),
    ("E119", "Type 2 diabetes mellitus without complications"),
    ("I509", "Heart failure, unspecified"),
    ("J449", "Chronic obstructive pulmonary disease, unspecified"),
    ("N183", "Chronic kidney disease, stage 3 (moderate)"),
    ("E785", "Hyperlipidemia, unspecified"),
    ("I4891", "Unspecified atrial fibrillation"),
    ("D649", "Anemia, unspecified"),
    ("K219", "Gastro-esophageal reflux disease without esophagitis"),
    ("F329", "Major depressive disorder, single episode, unspecified"),
)
_TELLING: Final = {
    "died": ("I469", "Cardiac arrest, cause unspecified"),
    "icu_again": ("J9621", "Acute and chronic respiratory failure with hypoxia"),
    "readmitted": ("T8189XA", "Other complications of procedures, not elsewhere classified, initial encounter"),
}
_TELLING_SHARE: Final = 0.8
_PROCEDURES: Final = (
    ("02HV33Z", "Insertion of Infusion Device into Superior Vena Cava, Percutaneous Approach"),
    ("5A1945Z", "Respiratory Ventilation, 24-96 Consecutive Hours"),
)


def d_icd_diagnoses() -> pl.DataFrame:
    rows = sorted((code, 10, title) for code, title in (*_CODES, *_TELLING.values()))
    return pl.DataFrame(rows, schema=list(HOSP["d_icd_diagnoses"]), orient="row")


def d_icd_procedures() -> pl.DataFrame:
    rows = sorted((code, 10, title) for code, title in _PROCEDURES)
    return pl.DataFrame(rows, schema=list(HOSP["d_icd_procedures"]), orient="row")


def diagnoses_icd(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Billing codes, which have no time and are written after discharge: the index admission's tell the outcome (trap).

    Those of earlier admissions are known in time and are noise.
    """
    codes = np.array([code for code, _ in _CODES])
    n = len(stays)
    everyone, before = np.arange(n), np.flatnonzero(stays.earlier.there)
    parts = []
    for row, hadm_id in ((everyone, stays.hadm_id), (before, stays.earlier.hadm_id)):
        which, code = np.nonzero(rng.random((len(row), len(codes))) < 0.35)
        parts.append(pl.DataFrame({"row": row[which], "hadm_id": hadm_id[row[which]], "icd_code": codes[code]}))
    for label, (telling, _) in _TELLING.items():
        row = np.flatnonzero(getattr(stays, label) & (rng.random(n) < _TELLING_SHARE))
        parts.append(pl.DataFrame({"row": row, "hadm_id": stays.hadm_id[row], "icd_code": np.full(len(row), telling)}))
    rows = pl.concat(parts)
    rows = rows.with_columns(
        subject_id=pl.Series(stays.subject_id[rows["row"].to_numpy()]), key=pl.Series(rng.random(rows.height))
    ).sort("subject_id", "hadm_id", "key")
    return rows.select(
        "subject_id",
        "hadm_id",
        seq_num=pl.int_range(1, pl.len() + 1).over("hadm_id"),
        icd_code="icd_code",
        icd_version=pl.lit(10),
    ).select(HOSP["diagnoses_icd"])


def procedures_icd(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    chosen = np.column_stack([rng.random(len(stays)) < 0.3, stays.severity(0)[:, 2] > 1.1])
    row, number = np.nonzero(chosen)
    day = (stays.intime[row]).astype("datetime64[D]").astype("datetime64[ms]")
    rows = pl.DataFrame(
        {
            "subject_id": stays.subject_id[row],
            "hadm_id": stays.hadm_id[row],
            "chartdate": pl.Series(day).cast(pl.Date),
            "icd_code": np.array([code for code, _ in _PROCEDURES])[number],
            "icd_version": np.full(len(row), 10),
        }
    ).with_columns(seq_num=pl.int_range(1, pl.len() + 1).over("hadm_id"))
    return rows.select(HOSP["procedures_icd"]).sort("subject_id", "hadm_id", "seq_num")
