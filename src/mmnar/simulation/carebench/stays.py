"""Who is admitted when in the CareBench world, whom the cohort's rules leave out, and the tables that say so.

Each stay breaks at most one rule, by a draw that depends on nothing else: every count of an attrition table is known
whatever the order of the rules, and being in the cohort tells nothing of a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.simulation.carebench.law import Drawn, draw
from mmnar.simulation.carebench.outcomes import LENGTHS, MORTALITY, OUTCOMES
from mmnar.simulation.files import Ids, Times, duration, frame, in_minutes, minutes, shuffled_ids, subject_ids
from mmnar.simulation.mimic_iv.columns import HOSP, ICU
from mmnar.simulation.mimic_iv.stays import ASKED, DAY, UNITS, Stays, Visit, admissions_of, in_spreads, pick
from mmnar.simulation.population import Bool, Float

RULES: Final = {"uncoded": 0.03, "impossible times": 0.03, "under 6 h": 0.03, "planned": 0.06, "under 48 h": 0.12}
"""Rule that leaves a stay out → share of admissions. ``second stay`` is no admission's first stay."""
SECOND: Final = "second stay"
_SECOND_STAYS: Final = 0.08
_SECOND_ADMISSIONS: Final = 0.08
_OUTSIDERS: Final = 0.5
"""People without an ICU stay, who only have films, per patient."""

RACES: Final = {
    "WHITE": 0.48,
    "BLACK/AFRICAN AMERICAN": 0.25,
    "HISPANIC/LATINO - PUERTO RICAN": 0.12,
    "ASIAN - CHINESE": 0.09,
    "UNKNOWN": 0.06,
}
NOISIER_RACE: Final = "BLACK/AFRICAN AMERICAN"
"""Whose films are noisier."""
_PLANNED: Final = ("ELECTIVE", "SURGICAL SAME DAY ADMISSION")
_UNPLANNED: Final = ("URGENT", "DIRECT EMER.", "OBSERVATION ADMIT")
_QUARTER: Final = DAY // 4
_EDGES: Final = 30
"""Of so many stays of a class of length one lasts as long as the class begins with, to the minute, and one a minute
less than where it ends."""
_ICD10_FROM: Final = np.datetime64("2015-10-01", "us")
_FIRST_YEARS: Final = ("2008 - 2010", "2011 - 2013", "2014 - 2016", "2017 - 2019")


@dataclass(frozen=True)
class People:
    """P patients, then people who are known by films alone. All arrays are (P + Q,).

    ``group`` is the number of the three years in which a patient first came.
    """

    patients: int
    subject_id: Ids
    race: NDArray[np.str_]
    sex: NDArray[np.str_]
    age: Ids
    group: Ids


@dataclass(frozen=True)
class Admitted:
    """N admissions of P patients, the first P of them each patient's first, with one unit stay each, and a second
    unit stay of some.

    Args:
        people: Who.
        patient: (N,) whose admission it is.
        drawn: Their latents, labels and risks.
        stays: Their calendar; ``earlier`` and ``later`` admissions have no unit stay.
        broken: (N,) the rule that leaves it out, "" for stays of the cohort.
        version: (N,) of ICD.
        again: A second unit stay of the same admission, where ``there``.
    """

    people: People
    patient: Ids
    drawn: Drawn
    stays: Stays
    broken: NDArray[np.str_]
    version: Ids
    again: Visit

    def __len__(self) -> int:
        return len(self.patient)


def admit(
    patients: int, seed: int, rng: np.random.Generator, *, gamma: float = 1.0, eta: float = 0.5, mcar: float = 0.0
) -> Admitted:
    """Draw patients, their admissions and when all of it happens.

    Args:
        patients: P.
        seed: Of identifiers, latents and labels.
        rng: Of times, rules and people.
        gamma, eta, mcar: See ``law.draw``.
    """
    people = _people(patients, seed, rng)
    more = rng.permutation(patients)[: round(_SECOND_ADMISSIONS * patients)]
    patient = np.concatenate([np.arange(patients), more])
    drawn = draw(people.race[patient] == NOISIER_RACE, seed, gamma=gamma, eta=eta, mcar=mcar)
    # nobody comes back from death
    died = drawn.labels[:, OUTCOMES.index(MORTALITY)]
    kept = np.flatnonzero((np.arange(len(patient)) < patients) | ~died[patient])
    patient, drawn, died = patient[kept], drawn.take(kept), died[kept]
    n = len(patient)
    broken = rng.choice([*RULES, ""], n, p=[*RULES.values(), 1 - sum(RULES.values())])
    first_admitted = np.datetime64("2110-01-01", "us") + minutes(rng, patients, 0, 85 * 365 * DAY)
    length = _length(drawn, broken, rng)
    stays, again = _calendar(people, patient, drawn, died, broken, first_admitted, length, rng)
    return Admitted(people, patient, drawn, stays, broken, _version(people, patient, stays), again)


def _people(patients: int, seed: int, rng: np.random.Generator) -> People:
    n = patients + round(_OUTSIDERS * patients)
    number = rng.permutation(subject_ids(rng, n, seed))
    number[:patients].sort()
    age = np.clip(np.rint(rng.normal(64, 16, n)), 18, 91).astype(np.int64)
    race = pick(rng, n, tuple(RACES), tuple(RACES.values()))
    return People(patients, number, race, pick(rng, n, ("F", "M")), age, rng.integers(len(_FIRST_YEARS), size=n))


def _length(drawn: Drawn, broken: NDArray[np.str_], rng: np.random.Generator) -> Float:
    """(N,) minutes in the unit: by the class of length, unless a rule about length is broken."""
    n = len(drawn)
    classes = drawn.labels[:, [OUTCOMES.index(name) for name in LENGTHS]].argmax(axis=1)
    low = np.array([days[0] * DAY for days in LENGTHS.values()])[classes]
    high = np.array([(days[1] or 28) * DAY for days in LENGTHS.values()])[classes]
    low = np.select([broken == "under 6 h", broken == "under 48 h"], [30, _QUARTER], low)
    high = np.select([broken == "under 6 h", broken == "under 48 h"], [_QUARTER, 2 * DAY], high)
    length = low + np.floor((high - low) * rng.random(n))
    nth = pl.Series(low).to_frame("low").select(pl.int_range(pl.len()).over("low")).to_series().to_numpy() % _EDGES
    found: Float = np.select([nth == 0, nth == 1], [low, high - 1], length)
    return found


def _calendar(
    people: People,
    patient: Ids,
    drawn: Drawn,
    died: Bool,
    broken: NDArray[np.str_],
    first_admitted: Times,
    length: Float,
    rng: np.random.Generator,
) -> tuple[Stays, Visit]:
    n = len(patient)
    until_unit, until_return = minutes(rng, n, 30, DAY), minutes(rng, n, 60 * DAY, 300 * DAY)
    stays_after, to_ward = minutes(rng, n, 6 * 60, 8 * DAY), minutes(rng, n, 60, 4 * DAY)
    in_unit = died & (rng.random(n) < 0.7)
    again = ~died & (broken == "") & (rng.random(n) < _SECOND_STAYS)
    between, second = minutes(rng, n, 60, 2 * DAY), minutes(rng, n, 2 * DAY, 6 * DAY)
    in_hospital = np.maximum(duration(length), np.where(died, np.timedelta64(54 * 60, "m"), ASKED))
    after = np.where(in_unit, np.timedelta64(0, "m"), np.where(died, to_ward, stays_after))
    whole = np.where(again, duration(length) + between + second + stays_after, in_hospital + after)
    admittime = first_admitted[patient]
    back = np.arange(people.patients, n)
    admittime[back] = (admittime + until_unit + whole)[patient[back]] + until_return[back]
    intime = admittime + until_unit
    outtime, dischtime = intime + duration(length), intime + whole
    # written down as admitted a day and more after the unit stay began, which the reader's own tolerance lets not pass
    admittime = np.where(broken == "impossible times", intime + np.timedelta64(30, "h"), admittime)
    before = admittime - minutes(rng, n, 90 * DAY, 700 * DAY)
    no, none = np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    number = shuffled_ids(rng, n, 23_100_000, 3_000_000)
    earlier = Visit(
        (rng.random(n) < 0.2) & (np.arange(n) < people.patients),
        number,
        before,
        before + minutes(rng, n, DAY, 9 * DAY),
        no,
        none,
        before,
        before,
    )
    stay = shuffled_ids(rng, 2 * n, 30_000_000, 6_000_000)
    back_in = outtime + between
    second_stay = Visit(again, none, admittime, dischtime, again, stay[n:], back_in, back_in + second)
    stays = Stays(
        in_spreads(drawn.world, drawn.content),
        drawn.present,
        people.subject_id[patient],
        shuffled_ids(rng, n, 20_000_000, 3_000_000),
        stay[:n],
        admittime,
        intime,
        outtime,
        dischtime,
        died,
        no,
        no,
        earlier,
        Visit(no, none, dischtime, dischtime, no, none, dischtime, dischtime),
    )
    return stays, second_stay


def _version(people: People, patient: Ids, stays: Stays) -> Ids:
    """(N,) ICD 9 until September 2015, 10 since, by the year that the patient's first admission really was in."""
    year = 2009 + 3 * people.group[patient]
    first = stays.admittime[: people.patients][patient]
    shift = year - (first.astype("datetime64[Y]").astype(int) + 1970)
    real = stays.admittime.astype("datetime64[M]") + (12 * shift).astype("timedelta64[M]")
    return np.where(real >= _ICD10_FROM.astype("datetime64[M]"), 10, 9)


# --- tables -----------------------------------------------------------------------------------------------------------


def patients(admitted: Admitted, rng: np.random.Generator) -> pl.DataFrame:
    """Demographics are noise, but for race, by which films are noisier. ``dod`` follows the outcome: a trap."""
    people, stays = admitted.people, admitted.stays
    n = len(people.subject_id)
    first = np.datetime64("2110-01-01", "us") + minutes(rng, n, 0, 85 * 365 * DAY)
    first[: people.patients] = stays.admittime[: people.patients]
    last = first.copy()
    np.maximum.at(last, admitted.patient, stays.dischtime)
    dead = np.zeros(n, dtype=bool)
    dead[admitted.patient[stays.died]] = True
    later = (rng.random(n) < 0.1) & ~dead
    dod = np.where(later, last + minutes(rng, n, 5 * DAY, 300 * DAY), last).astype("datetime64[D]")
    values = {
        "subject_id": people.subject_id,
        "gender": people.sex,
        "anchor_age": people.age,
        "anchor_year": first.astype("datetime64[Y]").astype(int) + 1970,
        "anchor_year_group": np.array(_FIRST_YEARS)[people.group],
        "dod": pl.Series(dod.astype("datetime64[ms]")).cast(pl.Date).set(pl.Series(~(dead | later)), None),
    }
    return frame(HOSP["patients"], values).sort("subject_id")


def admissions(admitted: Admitted, rng: np.random.Generator) -> pl.DataFrame:
    """The admissions and, of some patients, one before without a unit stay."""
    stays, n = admitted.stays, len(admitted)
    rows, before = np.arange(n), np.flatnonzero(admitted.stays.earlier.there)
    index = admissions_of(stays, rows, stays.hadm_id, stays.admittime, stays.dischtime, stays.died, rng)
    # at the house's emergency door nobody is planned
    usual = pl.Series(pick(rng, n, ("EW EMER.", *_UNPLANNED), (0.65, 0.15, 0.1, 0.1)))
    planned = pl.Series(admitted.broken == "planned")
    index = index.with_columns(admission_type=usual.zip_with(~planned, pl.Series(pick(rng, n, _PLANNED))))
    visit = stays.earlier
    nobody = np.zeros(n, dtype=bool)
    earlier = admissions_of(stays, before, visit.hadm_id, visit.admittime, visit.dischtime, nobody, rng)
    whole = pl.concat([index, earlier], how="vertical_relaxed")
    races = dict(zip(admitted.people.subject_id.tolist(), admitted.people.race.tolist(), strict=True))
    race = pl.col("subject_id").replace_strict(races, return_dtype=pl.String)
    return whole.with_columns(race=race).sort("subject_id", "admittime")


def icustays(admitted: Admitted, rng: np.random.Generator) -> pl.DataFrame:
    stays, again = admitted.stays, admitted.again
    parts = []
    second = np.flatnonzero(again.there)
    for who, stay_id, begin, end in (
        (np.arange(len(admitted)), stays.stay_id, stays.intime, stays.outtime),
        (second, again.stay_id, again.intime, again.outtime),
    ):
        unit: Any = pick(rng, len(who), UNITS)
        values = {
            "subject_id": stays.subject_id[who],
            "hadm_id": stays.hadm_id[who],
            "stay_id": stay_id[who],
            "first_careunit": unit,
            "last_careunit": unit,
            "intime": begin[who],
            "outtime": end[who],
            "los": in_minutes(end[who] - begin[who]) / DAY,
        }
        parts.append(frame(ICU["icustays"], values))
    return pl.concat(parts).sort("subject_id", "intime")


def attrition(admitted: Admitted) -> pl.DataFrame:
    """Every unit stay: ids and ``left_out``, the rule that it breaks, null where it is in the cohort."""
    stays, again = admitted.stays, np.flatnonzero(admitted.again.there)
    first = pl.DataFrame(
        {
            "subject_id": stays.subject_id,
            "hadm_id": stays.hadm_id,
            "stay_id": stays.stay_id,
            "left_out": pl.Series(admitted.broken).replace("", None),
        }
    )
    second = pl.DataFrame(
        {
            "subject_id": stays.subject_id[again],
            "hadm_id": stays.hadm_id[again],
            "stay_id": admitted.again.stay_id[again],
            "left_out": np.full(len(again), SECOND),
        }
    )
    return pl.concat([first, second]).sort("subject_id", "stay_id")
