"""The simulator as a source: patients turned into events, with the traps that real records have.

Besides what a model may see, the events hold measurements that come too late (taken after the prediction time, or
taken before it and reported after). Their values give the outcome away: who reads past the prediction time shows it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.simulation.population import DIMENSIONS, Simulation
from mmnar.sources.events import EVENT_SCHEMA, Events, Extract, FeatureRule

OUTCOMES: Final = ("icu_admission", "mortality", "readmission")
"""Names of the simulator's K = 3 outcomes; their events have the code ``outcome//<name>``."""

PREDICTION_AFTER: Final = timedelta(hours=24)
"""From admission to the moment all questions are asked."""

ATTRIBUTES: Final = ("sex", "age_group", "unit", "site")
LATE_SHARE: Final = 0.3
_ADMISSIONS_FROM: Final = np.datetime64(datetime(2020, 1, 1), "us")
_PATIENTS_PER_SEED: Final = 10_000_000

Times = NDArray[np.datetime64]
Rows = NDArray[np.int64]


def read_synthetic(simulation: Simulation) -> Extract:
    """Turn simulated patients into one stay each, its events and its exact risks.

    Patients of different seeds have different identifiers, so that a fresh sample passes for fresh.

    >>> from mmnar.simulation.population import simulate
    >>> extract = read_synthetic(simulate(200, seed=3))
    >>> extract.stays.height, extract.rules[7].codes, extract.truth.columns
    (200, ('m1//x2',), ['stay_id', 'icu_admission', 'mortality', 'readmission'])
    """
    # its own stream: attributes and times are noise that no simulated quantity depends on
    rng = np.random.default_rng([simulation.seed, 0xE7E])
    n, m = simulation.present.shape
    intime = _ADMISSIONS_FROM + _minutes(rng, n, 0, 2 * 365 * 24 * 60)
    stays = _stays(simulation, intime, rng)
    frames = [
        _measurements(simulation, stays, intime, rng),
        _late_measurements(simulation, stays, intime, rng),
        _outcomes(simulation, stays, intime, rng),
    ]
    rules = tuple(FeatureRule(f"m{i}", f"x{f}", (measurement_code(i, f),)) for i in range(m) for f in range(DIMENSIONS))
    truth = pl.DataFrame({"stay_id": stays["stay_id"]} | dict(zip(OUTCOMES, simulation.bayes.T, strict=True)))
    return Extract(
        "synthetic",
        "1",
        Events(pl.concat(frames).sort("subject_id", "time", "code")),
        stays,
        rules,
        ATTRIBUTES,
        _fingerprint(simulation),
        truth=truth,
        details=_details(simulation),
        rows="simulated patients",
    )


def measurement_code(modality: int, dimension: int) -> str:
    return f"m{modality}//x{dimension}"


def outcome_code(outcome: str) -> str:
    return f"outcome//{outcome}"


def _stays(simulation: Simulation, intime: Times, rng: np.random.Generator) -> pl.DataFrame:
    n = len(simulation)
    subject = simulation.seed * _PATIENTS_PER_SEED + np.arange(1, n + 1)
    sex = np.array(["female", "male"])[rng.integers(2, size=n)]
    age = np.array(["18-44", "45-64", "65-79", "80+"])[rng.choice(4, size=n, p=[0.15, 0.3, 0.35, 0.2])]
    unit = np.array(["medical", "surgical", "cardiac"])[rng.integers(3, size=n)]
    return pl.DataFrame(
        {
            "subject_id": subject,
            "hadm_id": subject * 10 + 1,
            "stay_id": subject * 10 + 2,
            "intime": intime,
            "outtime": intime + _minutes(rng, n, 36 * 60, 240 * 60),
            "sex": sex,
            "age_group": age,
            "unit": unit,
            "site": np.char.add("site ", simulation.site.astype(np.str_)),
        }
    )


def _measurements(sim: Simulation, stays: pl.DataFrame, intime: Times, rng: np.random.Generator) -> pl.DataFrame:
    """Every dimension of every present modality, taken and reported before the prediction time."""
    row, modality = np.nonzero(sim.present)
    time = intime[row] + _minutes(rng, len(row), 0, 20 * 60)
    available = time + _minutes(rng, len(row), 0, 4 * 60)
    dimension = np.tile(np.arange(DIMENSIONS), len(row))
    row, modality = np.repeat(row, DIMENSIONS), np.repeat(modality, DIMENSIONS)
    time, available = np.repeat(time, DIMENSIONS), np.repeat(available, DIMENSIONS)
    value = sim.content[row, modality, dimension]
    return _events(stays, row, _codes(sim)[modality, dimension], time, available, value, "measurements")


def _late_measurements(sim: Simulation, stays: pl.DataFrame, intime: Times, rng: np.random.Generator) -> pl.DataFrame:
    """One telling value of a share of all modalities, absent ones too: taken, or only reported, too late."""
    row, modality = np.nonzero(rng.random(sim.present.shape) < LATE_SHARE)
    dimension = rng.integers(DIMENSIONS, size=len(row))
    asked = intime[row] + np.timedelta64(PREDICTION_AFTER)
    only_reported_late = rng.random(len(row)) < 0.5
    before = asked - _minutes(rng, len(row), 1, 60)
    after = asked + _minutes(rng, len(row), 1, 600)
    time = np.where(only_reported_late, before, after)
    value = 10.0 * sim.labels[row].sum(axis=1) + rng.standard_normal(len(row))
    available = np.maximum(time, after)
    return _events(stays, row, _codes(sim)[modality, dimension], time, available, value, "measurements")


def _outcomes(sim: Simulation, stays: pl.DataFrame, intime: Times, rng: np.random.Generator) -> pl.DataFrame:
    row, outcome = np.nonzero(sim.labels)
    time = intime[row] + np.timedelta64(PREDICTION_AFTER) + _minutes(rng, len(row), 1, 30 * 24 * 60)
    codes = np.array([outcome_code(o) for o in OUTCOMES])[outcome]
    return _events(stays, row, codes, time, time, np.full(len(row), np.nan), "outcomes")


def _events(
    stays: pl.DataFrame,
    row: Rows,
    code: NDArray[np.str_],
    time: Times,
    available: Times,
    value: NDArray[np.float64],
    source: str,
) -> pl.DataFrame:
    columns: dict[str, Any] = {name: stays[name].to_numpy()[row] for name in ("subject_id", "hadm_id", "stay_id")}
    columns |= {"time": time, "available_time": available, "code": code, "numeric_value": value}
    frame = pl.DataFrame(columns).with_columns(
        pl.col("numeric_value").fill_nan(None), text_value=pl.lit(None, pl.String), source=pl.lit(source)
    )
    return frame.select(pl.col(name).cast(dtype) for name, dtype in EVENT_SCHEMA.items())


def _codes(simulation: Simulation) -> NDArray[np.str_]:
    """(M, F) measurement codes."""
    m = simulation.present.shape[1]
    return np.array([[measurement_code(i, f) for f in range(DIMENSIONS)] for i in range(m)])


def _minutes(rng: np.random.Generator, n: int, low: int, high: int) -> NDArray[np.timedelta64]:
    """(n,) durations of ``low`` to ``high`` minutes."""
    return (rng.integers(low, high, size=n, endpoint=True) * 60_000_000).astype("timedelta64[us]")


def _fingerprint(simulation: Simulation) -> str:
    digest = hashlib.sha256()
    for array in (simulation.content, simulation.present, simulation.labels, simulation.site):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _details(simulation: Simulation) -> dict[str, Any]:
    return {
        "seed": simulation.seed,
        "world_seed": simulation.world.seed,
        "eta": simulation.world.eta,
        "mcar": simulation.policy.mcar,
        "sites": len(simulation.policy.slopes),
    }
