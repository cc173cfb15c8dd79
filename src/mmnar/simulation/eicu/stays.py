"""Simulated eICU: unit stays, what happens after them, and the tables ``patient`` and ``hospital``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from mmnar.simulation.eicu.columns import EICU
from mmnar.simulation.events import OUTCOMES
from mmnar.simulation.files import Ids, frame, shuffled_ids
from mmnar.simulation.population import CONTENT_NOISE, Bool, Float, Simulation

DAY: Final = 24 * 60
ASKED: Final = DAY
"""Minute after unit admission at which mortality is asked."""

KNOWN_BY: Final = 10 * 60
"""Minute by which every present modality is in the record; the shortest stay in the cohort has twelve hours."""

MODALITIES: Final = (
    *("demographics", "admission", "apache", "diagnosis", "medication", "laboratory", "vital_signs", "respiratory"),
    *("fluid_balance", "comorbidities"),
)
"""In the order of the simulator's modalities."""

_BEDS: Final = ("<100", "100 - 249", "250 - 499", ">= 500")
_REGIONS: Final = ("Midwest", "South", "West", "Northeast")
_UNIT_SOURCES: Final = ("Operating Room", "Recovery Room", "Emergency Department", "Floor", "Other Hospital")
_HOSPITAL_SOURCES: Final = ("Direct Admit", "Operating Room", "Emergency Department", "Floor", "Other Hospital")
_UNIT_TYPES: Final = ("CSICU", "SICU", "Med-Surg ICU", "MICU", "CCU-CTICU")
_FIFTHS: Final = (-0.84, -0.25, 0.25, 0.84)
_QUARTERS: Final = (-0.67, 0.0, 0.67)


@dataclass(frozen=True)
class UnitStays:
    """N patients, each with one unit stay. Arrays are (N,); times are minutes from unit admission.

    ``left``: end of the unit stay. ``died``, ``readmitted``: realised labels, the second false where ``died``.
    ``again``: begin of the next unit stay where ``readmitted``.
    """

    simulation: Simulation
    stay_id: Ids
    hadm_id: Ids
    uniquepid: list[str]
    admitted_before: Ids
    left: Ids
    hospital_left: Ids
    again: Ids
    died: Bool
    readmitted: Bool

    def __len__(self) -> int:
        return len(self.stay_id)

    def present(self, modality: str) -> Ids:
        """Row numbers of the patients who have it."""
        return np.flatnonzero(self.simulation.present[:, MODALITIES.index(modality)])

    def severity(self, modality: str) -> Float:
        """(N, 5) contents of a modality in units of their own spread."""
        number = MODALITIES.index(modality)
        world = self.simulation.world
        spread = np.sqrt((world.loadings[number] ** 2).sum(axis=1) + CONTENT_NOISE**2)
        scaled: Float = self.simulation.content[:, number] / spread
        return scaled


def admit(simulation: Simulation, rng: np.random.Generator) -> UnitStays:
    """Lengths of stay depend on nothing simulated: neither who is asked nor who is in the cohort tells an outcome."""
    n = len(simulation)
    outcome = dict(zip(OUTCOMES, simulation.labels.T, strict=True))
    died = outcome["mortality"]
    left = np.rint(np.clip(rng.lognormal(np.log(2.4), 0.6, n), 0.55, 9.8) * DAY).astype(np.int64)
    again = left + rng.integers(2 * 60, 3 * DAY, size=n)
    # the next stay is shorter than twelve hours, which leaves it out of the cohort
    home = left + rng.integers(4 * DAY, 9 * DAY, size=n)
    hundreds = rng.permutation(n)
    # seeds differ in the last digits: a fresh sample is of other people
    people = [f"{2 + i % 300:03d}-{100_000 + i}{simulation.seed % 1000:03d}" for i in hundreds.tolist()]
    before = np.rint(np.exp(rng.normal(np.log(6 * 60), 0.9, n))).astype(np.int64)
    known = simulation.present[:, MODALITIES.index("admission")]
    stays = UnitStays(
        simulation,
        shuffled_ids(rng, n, 141_000, 3_000_000),
        shuffled_ids(rng, n, 128_000, 2_000_000),
        people,
        before,
        left,
        np.where(died, left, home),
        again,
        died,
        outcome["readmission"] & ~died,
    )
    told = np.rint(6 * 60 * np.exp(0.9 * np.clip(stays.severity("admission")[:, 0], -4, 4))).astype(np.int64)
    before[known] = told[known]
    return stays


def _words(values: tuple[str, ...], z: Float, edges: tuple[float, ...]) -> Any:
    return np.array(values)[np.searchsorted(edges, z)]


def hospital() -> pl.DataFrame:
    """One hospital per size and region: which one a patient lies in is demographic content, not a site effect."""
    size, region = np.divmod(np.arange(len(_BEDS) * len(_REGIONS)), len(_REGIONS))
    values = {
        "hospitalid": 56 + np.arange(len(size)),
        "numbedscategory": np.array(_BEDS)[size],
        "teachingstatus": np.where(size == len(_BEDS) - 1, "TRUE", "FALSE"),
        "region": np.array(_REGIONS)[region],
    }
    return frame(EICU["hospital"], values)


def patient(stays: UnitStays, rng: np.random.Generator) -> pl.DataFrame:
    """The stays of the simulation, the return of those readmitted, and other hospital stays of some: never a return.

    Traps: discharge columns; the second unit stay; ``dischargeweight``.
    """
    n = len(stays)
    demo, how = stays.severity("demographics"), stays.severity("admission")
    known = np.zeros(n, dtype=bool)
    known[stays.present("admission")] = True
    status = np.where(stays.died, "Expired", "Alive")
    weight = np.round(np.clip(82 * np.exp(0.2 * demo[:, 1]), 35, 220), 1)
    place = np.searchsorted(_QUARTERS, demo[:, 3]) * len(_REGIONS) + np.searchsorted(_QUARTERS, demo[:, 4])
    clock = rng.integers(0, DAY, size=n)

    def if_known(values: Any) -> pl.Series:
        return pl.Series(values).set(pl.Series(~known), None)

    values = {
        "patientunitstayid": stays.stay_id,
        "patienthealthsystemstayid": stays.hadm_id,
        "gender": np.array(["Female", "Male"])[rng.integers(2, size=n)],
        "age": np.clip(np.rint(61 + 13 * demo[:, 0]), 18, 89).astype(np.int64).astype(str),
        "ethnicity": np.array(["Caucasian", "African American", "Hispanic", "Asian"])[
            rng.choice(4, n, p=[0.76, 0.13, 0.07, 0.04])
        ],
        "hospitalid": 56 + place,
        "wardid": rng.integers(80, 900, size=n),
        "admissionheight": np.round(np.clip(169 + 9 * demo[:, 2], 125, 215), 1),
        "hospitaladmittime24": _clock(clock),
        "hospitaladmitoffset": -stays.admitted_before,
        "hospitaladmitsource": if_known(_words(_HOSPITAL_SOURCES, how[:, 4], _FIFTHS)),
        "hospitaldischargeyear": np.array([2014, 2015])[rng.integers(2, size=n)],
        "hospitaldischargetime24": _clock(clock + stays.admitted_before + stays.hospital_left),
        "hospitaldischargeoffset": stays.hospital_left,
        "hospitaldischargelocation": np.where(stays.died, "Death", "Home"),
        "hospitaldischargestatus": status,
        "unittype": if_known(_words(_UNIT_TYPES, how[:, 3], _FIFTHS)),
        "unitadmittime24": _clock(clock + stays.admitted_before),
        "unitadmitsource": if_known(_words(_UNIT_SOURCES, how[:, 2], _FIFTHS)),
        "unitvisitnumber": if_known(1 + np.searchsorted((-0.5, 0.5, 1.5), how[:, 1])),
        "unitstaytype": if_known(np.full(n, "admit")),
        "admissionweight": weight,
        "dischargeweight": np.round(weight * rng.uniform(0.95, 1.05, n), 1),
        "unitdischargetime24": _clock(clock + stays.admitted_before + stays.left),
        "unitdischargeoffset": stays.left,
        "unitdischargelocation": np.where(stays.died, "Death", "Floor"),
        "unitdischargestatus": status,
        "uniquepid": stays.uniquepid,
    }
    table = frame(EICU["patient"], values)
    more = [_returns(stays, table, rng), _other_hospital_stays(stays, table, rng)]
    return pl.concat([table, *more], how="vertical_relaxed").sort("patientunitstayid")


def _returns(stays: UnitStays, table: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The second unit stay of the readmitted: same hospital stay, shorter than the cohort's twelve hours."""
    row = np.flatnonzero(stays.readmitted)
    n, shift = len(row), stays.again[row]
    length = rng.integers(2 * 60, 11 * 60, size=n)
    return table[row.tolist()].with_columns(
        patientunitstayid=pl.Series(shuffled_ids(rng, n, 3_200_000, 80_000)),
        hospitaladmitoffset=pl.col("hospitaladmitoffset") - shift,
        hospitaldischargeoffset=pl.col("hospitaldischargeoffset") - shift,
        unitadmitsource=pl.lit("Floor"),
        unitvisitnumber=pl.col("unitvisitnumber") + 1,
        unitstaytype=pl.lit("readmit"),
        unitdischargeoffset=pl.Series(length),
    )


def _other_hospital_stays(stays: UnitStays, table: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    row = np.flatnonzero(rng.random(len(stays)) < 0.08)
    n = len(row)
    length = rng.integers(2 * 60, 11 * 60, size=n)
    return table[row.tolist()].with_columns(
        patientunitstayid=pl.Series(shuffled_ids(rng, n, 3_290_000, 60_000)),
        patienthealthsystemstayid=pl.Series(shuffled_ids(rng, n, 2_200_000, 90_000)),
        unitdischargeoffset=pl.Series(length),
        hospitaldischargeoffset=pl.Series(length + 300),
        hospitaldischargestatus=pl.lit("Alive"),
        hospitaldischargelocation=pl.lit("Home"),
        unitdischargestatus=pl.lit("Alive"),
        unitdischargelocation=pl.lit("Floor"),
    )


def _clock(minute: Ids) -> list[str]:
    return [f"{m // 60:02d}:{m % 60:02d}:00" for m in (minute % DAY).tolist()]
