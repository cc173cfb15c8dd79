"""Raw tables of MIMIC-IV's size: what reading them costs beside `gunzip`, and beside pandas in chunks.

Synthetic chartevents (5 and 20 M rows) and labevents (10 M rows) as csv.gz, with the columns of the real files and the
shares of items seen in the open demo: 18 % of charted and 63 % of laboratory rows are of items in the code tables.
Every step runs in a process of its own; steps take turns, so that what else the machine does falls on all of them.
Files are made once and kept.

Bars: from raw to hourly series at most 1.5 times `gunzip`'s time and 3 times as fast as pandas at the same, at most
2 GB, memory not growing and time at most linear from 5 to 20 M rows. "The same" is events in order, each once, on
disk, and hourly series made of them; what pandas takes for the hourly means alone, writing nothing, stands beside it.

python benchmarks/raw_tables.py --work /tmp/raw_tables --json raw_tables.json
python benchmarks/raw_tables.py --smallest
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.gather import Gathering, SeriesGatherer
from mmnar.sources.events import SeriesRule
from mmnar.sources.mimic_iv import read_mimic_iv
from mmnar.sources.mimic_iv.tables import read_concepts

# itemid → rows of 10,000, unit, mean, spread: vital signs as in the open MIMIC-IV demo; 400 other items share the rest
CHARTED = {
    **{220045: (258, "bpm", 85, 12), 220210: (258, "insp/min", 19, 4), 220277: (251, "%", 96, 1)},
    **{220179: (155, "mmHg", 120, 15), 220180: (155, "mmHg", 65, 8), 220181: (155, "mmHg", 80, 9)},
    **{220050: (103, "mmHg", 118, 14), 220051: (103, "mmHg", 60, 8), 220052: (103, "mmHg", 78, 9)},
    **{223762: (64, "°C", 37, 0.4), 220739: (61, None, 3, 0.4), 223900: (61, None, 3, 0.4), 223901: (61, None, 4, 0.6)},
}
MEASURED = {
    **{50912: (450, "mg/dL", 1.2, 0.2), 50971: (450, "mEq/L", 4.1, 0.3), 50983: (450, "mEq/L", 139, 3)},
    **{51006: (450, "mg/dL", 22, 4), 50902: (450, "mEq/L", 104, 4), 50882: (450, "mEq/L", 24, 3)},
    **{51301: (450, "K/uL", 10, 2), 51222: (450, "g/dL", 10, 1), 51265: (450, "K/uL", 210, 40)},
    **{50931: (450, "mg/dL", 130, 20), 50960: (400, "mg/dL", 2, 0.2), 50893: (400, "mg/dL", 8.4, 0.5)},
    **{50970: (400, "mg/dL", 3.5, 0.5), 51237: (230, None, 1.3, 0.2), 51221: (450, "%", 31, 4)},
}
TABLES: dict[str, dict[int, tuple[Any, ...]]] = {"chartevents": CHARTED, "labevents": MEASURED}
FOLDERS = {"chartevents": "icu", "labevents": "hosp"}
FULL_SIZE = {"chartevents": 433_000_000, "labevents": 158_000_000}
PER_STAY = 4000
BLOCK = 500_000
HOUR = np.timedelta64(3_600_000_000, "us")


# --- the files -------------------------------------------------------------------------------------------------------


def make(path: Path, table: str, rows: int) -> None:
    """Write the table as csv.gz unless it is there."""
    if path.is_file():
        return
    begun = path.with_suffix(".begun")
    rng = np.random.default_rng(1)
    columns = chartevents if table == "chartevents" else labevents
    with begun.open("wb") as handle:
        packer = subprocess.Popen(["gzip", "-6", "-c"], stdin=subprocess.PIPE, stdout=handle)
        assert packer.stdin is not None
        for start in range(0, rows, BLOCK):
            row = np.arange(start, min(start + BLOCK, rows))
            columns(row, rng).write_csv(packer.stdin, include_header=start == 0)
        packer.stdin.close()
        assert packer.wait() == 0
    begun.rename(path)


def items(table: str, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    listed = {item: told[0] for item, told in TABLES[table].items()}
    unlisted = np.arange(229_300, 229_700) if table == "chartevents" else np.arange(51_400, 51_800)
    share = np.array([*listed.values(), *[(10_000 - sum(listed.values())) / 400] * 400])
    return np.concatenate([list(listed), unlisted])[rng.choice(len(share), n, p=share / share.sum())]


def admitted(stay: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Begin of the record of each stay; discharge is three days later."""
    return np.datetime64("2150-01-01", "us") + (stay * 977 % 400_000) * HOUR


def times(row: NDArray[np.int64], per_minute: int) -> NDArray[np.datetime64]:
    return admitted(row // PER_STAY) + row % PER_STAY // per_minute * np.timedelta64(420_000_000, "us")


def numbers(table: str, item: NDArray[np.int64], rng: np.random.Generator) -> tuple[pl.Series, pl.Series]:
    """Values around each item's mean, with its unit."""
    told = {**TABLES[table]}
    which = np.unique(item)
    place = np.searchsorted(which, item)
    mean, spread = (np.array([told.get(i, (0, "%", 50, 9))[k] for i in which], dtype=float)[place] for k in (2, 3))
    units = pl.Series([told.get(i, (0, "%", 50, 9))[1] for i in which], dtype=pl.String)
    return pl.Series((mean + spread * np.clip(rng.normal(size=len(item)), -2, 2)).round(1)), units.gather(place)


def chartevents(row: NDArray[np.int64], rng: np.random.Generator) -> pl.DataFrame:
    n, stay, item = len(row), row // PER_STAY, items("chartevents", len(row), rng)
    words = pl.Series(item % 5 == 0) & pl.Series(item >= 229_300)
    charted = times(row, 10)
    said = pl.Series(["Done", "SR (Sinus Rhythm)", "Yes", "None", "Not applicable"])[rng.integers(0, 5, n)]
    number, unit = numbers("chartevents", item, rng)
    return pl.DataFrame(
        {
            "subject_id": 10_000_000 + stay,
            "hadm_id": 20_000_000 + stay,
            "stay_id": 30_000_000 + stay,
            "caregiver_id": rng.integers(1000, 99_999, n),
            "charttime": charted,
            "storetime": charted + rng.integers(60, 7200, n) * np.timedelta64(1_000_000, "us"),
            "itemid": item,
            "value": pl.select(pl.when(words).then(said).otherwise(number.cast(pl.String))).to_series(),
            "valuenum": pl.select(pl.when(~words).then(number)).to_series(),
            "valueuom": unit,
            "warning": (rng.random(n) < 0.03).astype(np.int64),
        }
    ).with_columns(pl.col("charttime", "storetime").dt.to_string("%Y-%m-%d %H:%M:%S"))


def labevents(row: NDArray[np.int64], rng: np.random.Generator) -> pl.DataFrame:
    n, stay, item = len(row), row // PER_STAY, items("labevents", len(row), rng)
    drawn = times(row, 20)
    number, unit = numbers("labevents", item, rng)
    return pl.DataFrame(
        {
            "labevent_id": row,
            "subject_id": 10_000_000 + stay,
            "hadm_id": pl.Series(20_000_000 + stay).set(pl.Series(rng.random(n) < 0.4), None),
            "specimen_id": rng.integers(10_000_000, 99_999_999, n),
            "itemid": item,
            "order_provider_id": "P00ABC",
            "charttime": drawn,
            "storetime": drawn + rng.integers(600, 9000, n) * np.timedelta64(1_000_000, "us"),
            "value": number.cast(pl.String),
            "valuenum": number,
            "valueuom": unit,
            "ref_range_lower": 3.5,
            "ref_range_upper": 5.1,
            "flag": pl.Series(["abnormal", None, None])[item % 3],
            "priority": "ROUTINE",
            "comments": pl.Series([None, None, None, "HEMOLYSIS FALSELY ELEVATES THIS RESULT, IF PRESENT"])[row % 4],
        }
    ).with_columns(pl.col("charttime", "storetime").dt.to_string("%Y-%m-%d %H:%M:%S"))


def small_tables(root: Path, stays: int) -> None:
    """patients, admissions and icustays of the patients in the large table."""
    stay = np.arange(stays)
    begin = pl.Series(admitted(stay))
    blank = pl.lit(None, pl.String)
    ids = pl.DataFrame({"subject_id": 10_000_000 + stay, "hadm_id": 20_000_000 + stay, "begin": begin})
    hour = pl.duration(hours=1, time_unit="us")
    texts = ("deathtime", "admission_location", "discharge_location", "insurance", "language", "marital_status", "race")
    admissions = ids.select(
        "subject_id",
        "hadm_id",
        admittime=pl.col("begin") - 2 * hour,
        dischtime=pl.col("begin") + 72 * hour,
        admission_type=pl.lit("URGENT"),
        hospital_expire_flag=pl.lit(0),
        edregtime=blank,
        edouttime=blank,
        **dict.fromkeys(texts, blank),
    )
    icustays = ids.select(
        "subject_id",
        "hadm_id",
        stay_id=pl.col("hadm_id") + 10_000_000,
        first_careunit=pl.lit("Medical Intensive Care Unit (MICU)"),
        intime=pl.col("begin") - hour,
        outtime=pl.col("begin") + 60 * hour,
    )
    patients = ids.select(
        "subject_id",
        gender=pl.lit("F"),
        anchor_age=60,
        anchor_year=pl.col("begin").dt.year(),
        anchor_year_group=pl.lit("2014 - 2016"),
        dod=blank,
    )
    for folder, name, frame in (
        ("hosp", "patients", patients),
        ("hosp", "admissions", admissions),
        ("icu", "icustays", icustays),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        frame.write_csv(root / folder / f"{name}.csv", datetime_format="%Y-%m-%d %H:%M:%S")


# --- the steps -------------------------------------------------------------------------------------------------------


def to_series(path: Path, table: str) -> dict[str, float]:
    """Raw → event folder → hourly series, as `prepare mimic-iv --structured series --bin-hours 1` makes them."""
    work = path.parent.parent / "events"
    shutil.rmtree(work, ignore_errors=True)
    begin = time.perf_counter()
    extract = read_mimic_iv(path.parent.parent, work=work, structured="series")
    built = time.perf_counter()
    samples = extract.stays.sort("subject_id").select(
        "subject_id", "hadm_id", "stay_id", "since", prediction_time="dischtime"
    )
    samples = samples.with_row_index("sample").with_columns(pl.col("sample").cast(pl.Int64))
    rules = [rule for rule in extract.rules if isinstance(rule, SeriesRule)]
    series = SeriesGatherer(rules, Gathering(bin_hours=1.0, folder=work))
    for events, part in extract.events.parts(samples):
        series.add(events.before(part))
    content = series.content()
    assert isinstance(content, SeriesArrays)
    np.savez(work / "series.npz", allow_pickle=False, **content.arrays())
    shutil.rmtree(work)
    return {
        "cells": len(content.values),
        "total": round(float(content.values.sum(dtype=np.float64)), 1),
        "events_s": built - begin,
        "series_s": time.perf_counter() - built,
    }


def chosen_with_pandas(path: Path, table: str, columns: list[str]) -> Iterator[Any]:
    """Wanted rows a million at a time, with the concept each item belongs to and the hour before discharge."""
    import pandas as pd

    concept = {item: c.code for c in read_concepts(table) for item in c.items}
    for rows in pd.read_csv(path, usecols=columns, chunksize=1_000_000):
        rows = rows[rows["itemid"].isin(concept)].dropna(subset=["valuenum"])
        rows["code"] = rows["itemid"].map(concept)
        rows["charttime"] = pd.to_datetime(rows["charttime"], format="%Y-%m-%d %H:%M:%S")
        left = admitted(rows["subject_id"].to_numpy() - 10_000_000) + 72 * HOUR
        rows["hour"] = np.ceil((rows["charttime"].to_numpy().astype("datetime64[us]") - left) / HOUR)
        yield rows


def to_series_with_pandas(path: Path, table: str) -> dict[str, float]:
    """The same by pandas: events in order, each once, as parquet; hourly means as arrays."""
    import pandas as pd

    columns = ["subject_id", "hadm_id", "itemid", "charttime", "storetime", "valuenum", "valueuom"]
    parts = []
    for rows in chosen_with_pandas(path, table, columns + ["stay_id"] * (table == "chartevents")):
        rows["storetime"] = pd.to_datetime(rows["storetime"], format="%Y-%m-%d %H:%M:%S")
        parts.append(rows.drop(columns=["itemid", "valueuom"]))
    events = pd.concat(parts).drop_duplicates().sort_values(["subject_id", "charttime", "storetime", "code"])
    work = path.parent.parent / "pandas"
    work.mkdir(exist_ok=True)
    events.to_parquet(work / "events.parquet", compression="zstd")
    means = events.groupby(["subject_id", "code", "hour"])["valuenum"].mean()
    np.savez(work / "series.npz", values=means.to_numpy(), subject=means.index.get_level_values(0).to_numpy())
    shutil.rmtree(work)
    return {"cells": len(means), "total": round(float(means.sum()), 1)}


def to_means_with_pandas(path: Path, table: str) -> dict[str, float]:
    """Hourly means alone by pandas; nothing is written, and a row that is there twice counts twice."""
    import pandas as pd

    columns = ["subject_id", "itemid", "charttime", "valuenum"]
    keys = ["subject_id", "code", "hour"]
    sums = [rows.groupby(keys)["valuenum"].agg(["sum", "count"]) for rows in chosen_with_pandas(path, table, columns)]
    every = pd.concat(sums).groupby(level=[0, 1, 2]).sum()
    return {"cells": len(every), "total": round(float((every["sum"] / every["count"]).sum()), 1)}


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    table: str
    rows: int
    step: str
    seconds: float
    runs: int
    peak_mb: float
    answer: dict[str, float]


def measure(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds and peak memory (MB) of a process, and what it printed."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        printed.seek(0)
        return seconds, usage.ru_maxrss / 1024, printed.read()


def run(path: Path, table: str, rows: int, repeats: int) -> list[Measured]:
    this = [sys.executable, __file__, "--path", str(path), "--table", table, "--step"]
    commands = {
        "gunzip": ["sh", "-c", f"gunzip -c '{path}' > /dev/null"],
        "mmnar": [*this, "mmnar"],
        "pandas": [*this, "pandas"],
        "means": [*this, "means"],
    }
    found: dict[str, list[tuple[float, float, str]]] = {step: [] for step in commands}
    for _ in range(repeats):
        for step, command in commands.items():
            found[step].append(measure(command))
    return [
        Measured(
            table,
            rows,
            step,
            statistics.median(seconds for seconds, _, _ in runs),
            len(runs),
            max(peak for _, peak, _ in runs),
            json.loads(runs[-1][2] or "{}"),
        )
        for step, runs in found.items()
    ]


def report(measured: list[Measured]) -> dict[str, float]:
    ratios: dict[str, float] = {}
    load = ", ".join(f"{of_minutes:.1f}" for of_minutes in os.getloadavg())
    print(f"load over 1, 5, 15 minutes: {load} on {os.cpu_count()} cores")
    by = {(m.table, m.rows, m.step): m for m in measured}
    print(f"{'table':<12} {'rows':>12} {'step':<8} {'seconds':>8} {'of gunzip':>10} {'peak MB':>8}")
    for m in measured:
        share = m.seconds / by[m.table, m.rows, "gunzip"].seconds
        print(f"{m.table:<12} {m.rows:>12,} {m.step:<8} {m.seconds:>8.2f} {share:>10.2f} {m.peak_mb:>8.0f}")
    print()
    for (table, rows), ours in {(m.table, m.rows): m for m in measured if m.step == "mmnar"}.items():
        pandas, gunzip = by[table, rows, "pandas"], by[table, rows, "gunzip"]
        assert ours.answer["cells"] == pandas.answer["cells"], "not the same work"
        assert abs(ours.answer["total"] / pandas.answer["total"] - 1) < 1e-4, "not the same answer"
        name = f"{table} {rows:,}"
        ratios[f"{name}: of gunzip (bar 1.5)"] = ours.seconds / gunzip.seconds
        ratios[f"{name}: times as fast as pandas at the same (bar 3)"] = pandas.seconds / ours.seconds
        means = by[table, rows, "means"]
        ratios[f"{name}: times as fast as pandas' hourly means alone"] = means.seconds / ours.seconds
        ratios[f"{name}: peak GB (bar 2)"] = ours.peak_mb / 1024
        full = ours.seconds * FULL_SIZE[table] / rows
        ratios[f"{name}: minutes at {FULL_SIZE[table] / 1e6:.0f} M rows, extrapolated"] = full / 60
    small, large = (m for m in measured if (m.table, m.step) == ("chartevents", "mmnar"))
    growth = (large.seconds / small.seconds) / (large.rows / small.rows)
    ratios["chartevents: seconds per row, large by small (bar 1)"] = growth
    ratios["chartevents: peak memory, large by small"] = large.peak_mb / small.peak_mb
    for name, value in ratios.items():
        print(f"{name:<70} {value:.2f}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the files; default: a temporary one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--step", choices=["make", "mmnar", "pandas", "means"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "make":
        make(arguments.path, arguments.table, int(arguments.path.parent.parent.name.split("-")[1]))
        return
    if arguments.step in ("pandas", "means"):
        job = to_series_with_pandas if arguments.step == "pandas" else to_means_with_pandas
        print(json.dumps(job(arguments.path, arguments.table)))
        return
    if arguments.step == "mmnar":
        print(json.dumps(to_series(arguments.path, arguments.table)))
        return
    plan = [("chartevents", 5_000_000), ("chartevents", 20_000_000), ("labevents", 10_000_000)]
    if arguments.smallest:
        plan = [("chartevents", 100_000), ("chartevents", 400_000), ("labevents", 100_000)]
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        measured: list[Measured] = []
        for table, rows in plan:
            root = work / f"{table}-{rows}"
            path = root / FOLDERS[table] / f"{table}.csv.gz"
            small_tables(root, -(-rows // PER_STAY))
            # in its own process: a child's peak memory begins at its parent's
            measure([sys.executable, __file__, "--path", str(path), "--table", table, "--step", "make"])
            measured += run(path, table, rows, 1 if arguments.smallest else arguments.repeats)
        ratios = report(measured)
    if arguments.json:
        arguments.json.write_text(json.dumps({"measured": [asdict(m) for m in measured], "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
