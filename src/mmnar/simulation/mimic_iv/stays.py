"""Simulated MIMIC-IV: who is admitted when, and the tables that say so (patients, admissions, transfers, stays)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.simulation.events import OUTCOMES
from mmnar.simulation.files import Ids, Times, duration, frame, in_minutes, minutes, shuffled_ids, subject_ids
from mmnar.simulation.mimic_iv.columns import HOSP, ICU
from mmnar.simulation.population import CONTENT_NOISE, Bool, Float, Simulation, World

DAY: Final = 24 * 60
ASKED: Final = np.timedelta64(48 * 60, "m")
"""From ICU admission to the question about mortality."""

IMAGE, SUMMARY, REPORT = 1, 2, 3
"""Modality numbers beside 0, the structured record: chest X-ray, discharge summary, radiology report."""

UNITS: Final = (
    "Medical Intensive Care Unit (MICU)",
    "Surgical Intensive Care Unit (SICU)",
    "Medical/Surgical Intensive Care Unit (MICU/SICU)",
    "Cardiac Vascular Intensive Care Unit (CVICU)",
    "Coronary Care Unit (CCU)",
    "Trauma SICU (TSICU)",
)
_RACES: Final = ("WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN - CHINESE", "HISPANIC/LATINO - PUERTO RICAN", "UNKNOWN")
_ALIVE_TO: Final = ("HOME", "HOME HEALTH CARE", "SKILLED NURSING FACILITY", "REHAB")


@dataclass(frozen=True)
class Visit:
    """One more admission of some of the patients. All arrays are (N,) and mean something where ``there`` is true.

    ``icu`` says whether it has an ICU stay, ``stay_id``, ``intime`` and ``outtime`` which.
    """

    there: Bool
    hadm_id: Ids
    admittime: Times
    dischtime: Times
    icu: Bool
    stay_id: Ids
    intime: Times
    outtime: Times


@dataclass(frozen=True)
class Stays:
    """N patients, each with an index admission of one ICU stay. All arrays are (N,).

    ``died``, ``icu_again`` and ``readmitted`` are the realised labels; the last two are false where ``died``.
    ``earlier``: an admission without ICU stay before the index one, of noise. ``later``: the admission after it.
    ``contents`` (N, M, 5) are in units of their own spread, ``pattern`` (N, M) is δ.
    """

    contents: Float
    pattern: Bool
    subject_id: Ids
    hadm_id: Ids
    stay_id: Ids
    admittime: Times
    intime: Times
    outtime: Times
    dischtime: Times
    died: Bool
    icu_again: Bool
    readmitted: Bool
    earlier: Visit
    later: Visit

    def __len__(self) -> int:
        return len(self.subject_id)

    @property
    def asked(self) -> Times:
        """When mortality is asked: 48 h after ICU admission."""
        return self.intime + ASKED

    @property
    def asked_in_unit(self) -> Bool:
        """Still in the unit at that time."""
        still: Bool = self.outtime > self.asked
        return still

    def severity(self, modality: int) -> Float:
        """(N, 5) contents of a modality in units of their own spread."""
        scaled: Float = self.contents[:, modality]
        return scaled

    def present(self, modality: int) -> Bool:
        there: Bool = self.pattern[:, modality]
        return there


def in_spreads(world: World, content: Float) -> Float:
    """(N, M, 5) contents in units of their own spread."""
    spread = np.sqrt((world.loadings**2).sum(axis=2) + CONTENT_NOISE**2)
    scaled: Float = content / spread
    return scaled


def admit(simulation: Simulation, rng: np.random.Generator) -> Stays:
    """Place every patient on a calendar such that the tables' outcomes are the simulation's labels.

    Everyone is in hospital when death is asked about, and who is still in the unit depends on nothing simulated: being
    asked does not tell who dies.
    """
    n = len(simulation)
    outcome = dict(zip(OUTCOMES, simulation.labels.T, strict=True))
    died = outcome["mortality"]
    icu_again, readmitted = outcome["icu_admission"] & ~died, outcome["readmission"] & ~died
    admittime = np.datetime64("2110-01-01", "us") + minutes(rng, n, 0, 85 * 365 * DAY)
    intime = admittime + minutes(rng, n, 30, DAY)
    length = np.clip(rng.lognormal(np.log(2.9), 0.6, n), 0.5, 25.0) * DAY
    until_death = 54 * 60 + np.minimum(rng.exponential(4 * DAY, n), 30 * DAY)
    long_stay = length > 48 * 60 + 5
    in_unit = long_stay & (rng.random(n) < 0.7)
    on_ward = np.where(long_stay, np.clip(length, 48 * 60 + 5, until_death - 60), length)
    outtime = intime + duration(np.where(died, np.where(in_unit, until_death, on_ward), length))
    # nobody leaves hospital before the question: else short stays would tell who lives
    home = np.maximum(outtime, intime + ASKED) + minutes(rng, n, 6 * 60, 8 * DAY)
    dischtime = np.where(died, intime + duration(until_death), home)
    return Stays(
        in_spreads(simulation.world, simulation.content),
        simulation.present,
        subject_ids(rng, n, simulation.seed),
        shuffled_ids(rng, n, 20_000_000, 3_000_000),
        shuffled_ids(rng, n, 30_000_000, 3_000_000),
        admittime,
        intime,
        outtime,
        dischtime,
        died,
        icu_again,
        readmitted,
        _earlier(admittime, rng),
        _later(dischtime, died, icu_again, readmitted, rng),
    )


def _earlier(admittime: Times, rng: np.random.Generator) -> Visit:
    n = len(admittime)
    begin = admittime - minutes(rng, n, 90 * DAY, 700 * DAY)
    end = begin + minutes(rng, n, DAY, 9 * DAY)
    no, none = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    return Visit(rng.random(n) < 0.25, shuffled_ids(rng, n, 23_100_000, 3_000_000), begin, end, no, none, begin, end)


def _later(dischtime: Times, died: Bool, icu_again: Bool, readmitted: Bool, rng: np.random.Generator) -> Visit:
    """The next admission: within 30 days where readmitted, with an ICU stay within 90 where that is the label.

    Of the others, some come back after 30 days without, or after 95 days with an ICU stay: answers that are no.
    """
    n = len(dischtime)
    back = ~icu_again & ~readmitted & ~died & (rng.random(n) < 0.2)
    back_icu = back & (rng.random(n) < 0.5)
    low = np.where(readmitted, 1.0, np.where(icu_again, 31.0, np.where(back_icu, 95.0, 31.0)))
    high = np.where(readmitted, 29.0, np.where(icu_again, 87.0, 300.0))
    begin = dischtime + duration(DAY * (low + (high - low) * rng.random(n)))
    intime = begin + minutes(rng, n, 30, 20 * 60)
    outtime = intime + minutes(rng, n, 16 * 60, 5 * DAY)
    end = outtime + minutes(rng, n, 12 * 60, 6 * DAY)
    return Visit(
        readmitted | icu_again | back,
        shuffled_ids(rng, n, 26_200_000, 3_000_000),
        begin,
        end,
        icu_again | back_icu,
        shuffled_ids(rng, n, 33_100_000, 3_000_000),
        intime,
        outtime,
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def pick(rng: np.random.Generator, n: int, words: tuple[str, ...], p: tuple[float, ...] | None = None) -> Any:
    return np.array(words)[rng.choice(len(words), n, p=p)]


def patients(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Demographics are noise. ``dod`` follows the outcome: a trap."""
    n = len(stays)
    year = stays.admittime.astype("datetime64[Y]").astype(int) + 1970
    dod = stays.dischtime.astype("datetime64[D]")
    out = np.where(stays.later.there, stays.later.dischtime, stays.dischtime)
    within_a_year = rng.random(n) < np.where(stays.icu_again | stays.readmitted, 0.25, 0.07)
    dod = np.where(stays.died, dod, (out + minutes(rng, n, 5 * DAY, 300 * DAY)).astype("datetime64[D]"))
    age = np.clip(np.rint(rng.normal(64, 16, n)), 18, 91).astype(np.int64)
    shift = rng.integers(4, size=n)
    group = np.array(["2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019"])[shift]
    values = {
        "subject_id": stays.subject_id,
        "gender": pick(rng, n, ("F", "M")),
        "anchor_age": age,
        # the anchor year may lie before the first admission
        "anchor_year": year - rng.integers(3, size=n),
        "anchor_year_group": group,
        "dod": pl.Series(dod.astype("datetime64[ms]"))
        .cast(pl.Date)
        .set(pl.Series(~(stays.died | within_a_year)), None),
    }
    return frame(HOSP["patients"], values)


def admissions_of(
    stays: Stays, rows: Ids, hadm_id: Ids, begin: Times, end: Times, died: Bool, rng: np.random.Generator
) -> pl.DataFrame:
    n = len(rows)
    hadm_id, begin, end, died = hadm_id[rows], begin[rows], end[rows], died[rows]
    through_ed = rng.random(n) < 0.65
    registered = begin - minutes(rng, n, 60, 600)
    values = {
        "subject_id": stays.subject_id[rows],
        "hadm_id": hadm_id,
        "admittime": begin,
        "dischtime": end,
        "deathtime": pl.Series(end).set(pl.Series(~died), None),
        "admission_type": np.where(
            through_ed, "EW EMER.", pick(rng, n, ("URGENT", "DIRECT EMER.", "OBSERVATION ADMIT"))
        ),
        "admit_provider_id": _providers(rng, n),
        "admission_location": np.where(
            through_ed, "EMERGENCY ROOM", pick(rng, n, ("PHYSICIAN REFERRAL", "TRANSFER FROM HOSPITAL"))
        ),
        "discharge_location": np.where(died, "DIED", pick(rng, n, _ALIVE_TO)),
        "insurance": pick(rng, n, ("Medicare", "Private", "Medicaid", "Other"), (0.5, 0.3, 0.15, 0.05)),
        "language": pick(rng, n, ("English", "Spanish", "Chinese"), (0.9, 0.07, 0.03)),
        "marital_status": pick(rng, n, ("MARRIED", "SINGLE", "WIDOWED", "DIVORCED"), (0.45, 0.35, 0.12, 0.08)),
        "race": np.array(_RACES)[stays.subject_id[rows] // 97 % len(_RACES)],
        "edregtime": pl.Series(registered).set(pl.Series(~through_ed), None),
        "edouttime": pl.Series(begin + minutes(rng, n, 10, 90)).set(pl.Series(~through_ed), None),
        "hospital_expire_flag": died.astype(np.int64),
    }
    return frame(HOSP["admissions"], values)


def _providers(rng: np.random.Generator, n: int) -> Any:
    letters = np.array(list("0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"))
    codes = letters[rng.integers(len(letters), size=(200, 5))]
    return np.array(["P" + "".join(row) for row in codes])[rng.integers(200, size=n)]


def admissions(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Earlier, index and later admissions; only the index one can end in death."""
    everyone, nobody = np.arange(len(stays)), np.zeros(len(stays), dtype=bool)
    parts = [admissions_of(stays, everyone, stays.hadm_id, stays.admittime, stays.dischtime, stays.died, rng)]
    for visit in (stays.earlier, stays.later):
        rows = np.flatnonzero(visit.there)
        parts.append(admissions_of(stays, rows, visit.hadm_id, visit.admittime, visit.dischtime, nobody, rng))
    return pl.concat(parts, how="vertical_relaxed").sort("subject_id", "admittime")


def icustays(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    parts = []
    rows = np.arange(len(stays))
    later = np.flatnonzero(stays.later.there & stays.later.icu)
    for who, hadm_id, stay_id, begin, end in (
        (rows, stays.hadm_id, stays.stay_id, stays.intime, stays.outtime),
        (later, stays.later.hadm_id, stays.later.stay_id, stays.later.intime, stays.later.outtime),
    ):
        first = pick(rng, len(who), UNITS)
        moved = rng.random(len(who)) < 0.1
        values = {
            "subject_id": stays.subject_id[who],
            "hadm_id": hadm_id[who],
            "stay_id": stay_id[who],
            "first_careunit": first,
            "last_careunit": np.where(moved, pick(rng, len(who), UNITS), first),
            "intime": begin[who],
            "outtime": end[who],
            "los": in_minutes(end[who] - begin[who]) / DAY,
        }
        parts.append(frame(ICU["icustays"], values))
    return pl.concat(parts).sort("subject_id", "intime")


def transfers(icu: pl.DataFrame, admitted: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Ward → unit → ward → … → discharge of every admission; a unit's rows carry its ``stay_id``, as in the release."""
    keys = ["subject_id", "hadm_id"]
    joined = admitted.select(*keys, "admittime", "dischtime").join(
        icu.select("hadm_id", "stay_id", "first_careunit", "last_careunit", "intime", "outtime"), "hadm_id", "left"
    )
    unit = joined.filter(pl.col("stay_id").is_not_null())
    begin = joined.select(
        *keys,
        eventtype=pl.lit("admit"),
        careunit=pl.lit("Emergency Department"),
        intime="admittime",
        outtime=pl.coalesce("intime", "dischtime"),
    )
    inside = unit.select(
        *keys,
        "stay_id",
        eventtype=pl.lit("transfer"),
        careunit="first_careunit",
        intime="intime",
        outtime="outtime",
    )
    back = pl.col("intime").shift(-1).over("hadm_id", order_by="intime")
    ward = (
        unit.with_columns(until=pl.coalesce(back, "dischtime"))
        .filter(pl.col("outtime") < pl.col("until"))
        .select(*keys, eventtype=pl.lit("transfer"), careunit=pl.lit("Med/Surg"), intime="outtime", outtime="until")
    )
    end = joined.select(*keys, eventtype=pl.lit("discharge"), intime="dischtime")
    rows = pl.concat([begin, inside, ward, end], how="diagonal").sort("subject_id", "intime", "eventtype")
    numbers = pl.Series("transfer_id", shuffled_ids(rng, rows.height, 36_300_000, 3_600_000))
    return rows.with_columns(transfer_id=pl.coalesce("stay_id", numbers)).select(HOSP["transfers"])


def services(admitted: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    n = admitted.height
    values = {
        "subject_id": admitted["subject_id"],
        "hadm_id": admitted["hadm_id"],
        "transfertime": admitted["admittime"].to_numpy() + minutes(rng, n, 1, 20),
        "curr_service": pick(rng, n, ("MED", "CMED", "SURG", "CSURG", "NMED")),
    }
    return frame(HOSP["services"], values)


def omr(stays: Stays, rng: np.random.Generator) -> pl.DataFrame:
    """Outpatient body measures before the index admission: noise."""
    rows = np.flatnonzero(rng.random(len(stays)) < 0.6)
    n = len(rows)
    when = (stays.admittime[rows] - minutes(rng, n, DAY, 400 * DAY)).astype("datetime64[D]").astype("datetime64[ms]")
    height, bmi = rng.normal(66, 4, n), np.clip(rng.normal(28, 5.5, n), 15, 60)
    pounds = bmi * height**2 / 703
    parts = []
    pressure = [f"{s}/{d}" for s, d in zip(rng.integers(100, 160, n), rng.integers(55, 95, n), strict=True)]
    for name, text in (
        ("BMI (kg/m2)", np.round(bmi, 1).astype(str)),
        ("Height (Inches)", np.round(height).astype(np.int64).astype(str)),
        ("Weight (Lbs)", np.round(pounds, 1).astype(str)),
        ("Blood Pressure", np.array(pressure)),
    ):
        values = {
            "subject_id": stays.subject_id[rows],
            "chartdate": pl.Series(when).cast(pl.Date),
            "seq_num": np.ones(n, dtype=np.int64),
            "result_name": np.full(n, name),
            "result_value": text,
        }
        parts.append(frame(HOSP["omr"], values))
    return pl.concat(parts).sort("subject_id", "chartdate", "result_name")
