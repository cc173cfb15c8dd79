"""Raw tables of MIMIC-IV's size: what reading them costs beside `gunzip`, and beside pandas in chunks.

Synthetic chartevents (5 and 20 M rows) and labevents (10 M rows) as csv.gz, with the columns of the real files and the
shares of items seen in the open demo; a third of the rows belongs to items that are wanted. Every step runs in a
process of its own; steps take turns, so that what else the machine does falls on all of them. Files are made once and
kept.

Bars: from raw to hourly series at most 1.5 times `gunzip`'s time and 3 times as fast as pandas at the same, at most 2 GB,
memory not growing and time at most linear from 5 to 20 M rows. "The same" is events in order, each once, on disk, and
hourly series made of them; what pandas takes for the hourly means alone, writing nothing, is shown beside it.

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
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.gather import Gathering, SeriesGatherer
from mmnar.sources.events import SeriesRule
from mmnar.sources.raw import DataRoot
from mmnar.sources.shards import EventWriter

# itemid → rows of 10,000, as in the open MIMIC-IV demo; the rest is shared by 400 items nobody asks for
CHARTED = {
    **{220045: 208, 220210: 208, 220277: 202, 220179: 125, 220180: 125, 220181: 125, 220050: 83, 220051: 83},
    **{220052: 83, 223761: 51, 220739: 49, 223900: 49, 223901: 49, 224082: 75, 224086: 73, 224093: 71, 224080: 77},
    **{227969: 289, 220048: 186, 224650: 165, 227958: 115, 228928: 82, 228905: 81, 223792: 80, 228988: 70},
    **{228868: 59, 224642: 57, 228924: 55, 224073: 52, 224087: 50, 223781: 50, 223795: 49, 224089: 48},
}
MEASURED = {
    **{50912: 250, 50971: 250, 50983: 250, 51006: 250, 50902: 250, 50882: 250, 51221: 270, 51301: 250, 51222: 250},
    **{51265: 250, 50931: 250, 50960: 220, 50893: 200, 50970: 200, 51237: 120},
}
IN_WORDS = (227969, 220048, 224650, 227958)
TABLES = {"chartevents": CHARTED, "labevents": MEASURED}
FULL_SIZE = {"chartevents": 433_000_000, "labevents": 158_000_000}
PER_STAY = 4000
HORIZON = datetime(2250, 1, 1)
BLOCK = 500_000
WHOLE, F, S, D = pl.Int64(), pl.Float64(), pl.String(), pl.Datetime("us")
COLUMNS: dict[str, dict[str, pl.DataType]] = {
    "chartevents": {
        **{"subject_id": WHOLE, "hadm_id": WHOLE, "stay_id": WHOLE, "charttime": D, "storetime": D, "itemid": WHOLE},
        **{"value": S, "valuenum": F, "valueuom": S},
    },
    "labevents": {
        **{"subject_id": WHOLE, "hadm_id": WHOLE, "itemid": WHOLE, "charttime": D, "storetime": D},
        **{"value": S, "valuenum": F, "valueuom": S},
    },
}


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
    listed = TABLES[table]
    unlisted = np.arange(229_300, 229_700) if table == "chartevents" else np.arange(51_400, 51_800)
    share = np.array([*listed.values(), *[(10_000 - sum(listed.values())) / 400] * 400])
    return np.concatenate([list(listed), unlisted])[rng.choice(len(share), n, p=share / share.sum())]


def times(row: NDArray[np.int64], per_minute: int) -> NDArray[np.datetime64]:
    stay, within = row // PER_STAY, row % PER_STAY
    hours = stay * 977 % 400_000
    minutes = hours * 60 + within // per_minute * 7
    return np.datetime64("2150-01-01", "us") + minutes * np.timedelta64(60_000_000, "us")


def chartevents(row: NDArray[np.int64], rng: np.random.Generator) -> pl.DataFrame:
    n, stay, item = len(row), row // PER_STAY, items("chartevents", len(row), rng)
    words = np.isin(item, IN_WORDS) | ((item >= 229_300) & (item % 5 == 0))
    charted = times(row, 10)
    said = pl.Series(["Done", "SR (Sinus Rhythm)", "Yes", "None", "Not applicable"])[rng.integers(0, 5, n)]
    number = pl.Series(rng.normal(80, 20, n).round().astype(np.int64))
    return pl.DataFrame(
        {
            "subject_id": 10_000_000 + stay,
            "hadm_id": 20_000_000 + stay,
            "stay_id": 30_000_000 + stay,
            "caregiver_id": rng.integers(1000, 99_999, n),
            "charttime": charted,
            "storetime": charted + rng.integers(60, 7200, n) * np.timedelta64(1_000_000, "us"),
            "itemid": item,
            "value": pl.select(pl.when(pl.Series(words)).then(said).otherwise(number.cast(pl.String))).to_series(),
            "valuenum": pl.select(pl.when(~pl.Series(words)).then(number)).to_series(),
            "valueuom": pl.Series(["bpm", "insp/min", "%", "mmHg", None])[item % 5],
            "warning": (rng.random(n) < 0.03).astype(np.int64),
        }
    ).with_columns(pl.col("charttime", "storetime").dt.to_string("%Y-%m-%d %H:%M:%S"))


def labevents(row: NDArray[np.int64], rng: np.random.Generator) -> pl.DataFrame:
    n, stay, item = len(row), row // PER_STAY, items("labevents", len(row), rng)
    drawn = times(row, 20)
    number = pl.Series(rng.normal(80, 20, n).round(1))
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
            "valueuom": pl.Series(["mEq/L", "mg/dL", "K/uL", "g/dL", None])[item % 5],
            "ref_range_lower": 3.5,
            "ref_range_upper": 5.1,
            "flag": pl.Series(["abnormal", None, None])[item % 3],
            "priority": "ROUTINE",
            "comments": pl.Series([None, None, None, "HEMOLYSIS FALSELY ELEVATES THIS RESULT, IF PRESENT"])[row % 4],
        }
    ).with_columns(pl.col("charttime", "storetime").dt.to_string("%Y-%m-%d %H:%M:%S"))


# --- the steps -------------------------------------------------------------------------------------------------------


def as_events(table: str, root: DataRoot) -> Iterator[pl.DataFrame]:
    stay = pl.col("stay_id") if table == "chartevents" else pl.lit(None, pl.Int64)
    wanted = pl.col("itemid").is_in(list(TABLES[table]))
    code = pl.concat_str(
        pl.lit(f"{table}//"), pl.col("itemid").cast(pl.String), pl.lit("//"), pl.col("valueuom").fill_null("")
    )
    for rows in root.chunks(table, COLUMNS[table], where=wanted):
        yield rows.select(
            *("subject_id", "hadm_id", stay.alias("stay_id")),
            time="charttime",
            available_time=pl.max_horizontal("charttime", "storetime"),
            code=code,
            numeric_value=pl.col("valuenum").cast(pl.Float32),
            text_value=pl.when(pl.col("valuenum").is_null()).then("value"),
            source=pl.lit(table),
        )


def to_events(path: Path, table: str, work: Path) -> dict[str, float]:
    """Raw → event folder → hourly series, as `prepare` makes them; one unit stay per subject here."""
    root = DataRoot(path.parent)
    rows = int(path.parent.name)
    subjects = pl.Series(range(10_000_000, 10_000_000 + -(-rows // PER_STAY)), dtype=pl.Int64)
    begin = time.perf_counter()
    writer = EventWriter(work, subjects, "subject", raw_bytes=root.size(table))
    writer.table(table, root.identity(table), as_events(table, root))
    folder = writer.finish("benchmark", "1", {})
    built = time.perf_counter()
    samples = pl.DataFrame(
        {
            "sample": range(len(subjects)),
            "subject_id": subjects,
            "stay_id": subjects,
            "prediction_time": HORIZON,
            "since": None,
        },
        schema={"sample": pl.Int64, "subject_id": pl.Int64, "stay_id": pl.Int64}
        | {"prediction_time": pl.Datetime("us"), "since": pl.Datetime("us")},
    )
    rules = [SeriesRule("series", str(item), (f"{table}//{item}//*",)) for item in TABLES[table]]
    series = SeriesGatherer(rules, Gathering(bin_hours=1.0, folder=work))
    for events, part in folder.parts(samples):
        series.add(events.before(part))
    content = series.content()
    assert isinstance(content, SeriesArrays)
    np.savez(work / "series.npz", **content.arrays())
    return {
        "cells": len(content.values),
        "total": round(float(content.values.sum(dtype=np.float64)), 1),
        "events_s": built - begin,
        "series_s": time.perf_counter() - built,
    }


def to_series_with_pandas(path: Path, table: str) -> dict[str, float]:
    """The same by pandas, a million rows at a time: events in order, each once, as parquet; hourly means as arrays."""
    import pandas as pd

    wanted = list(TABLES[table])
    columns = ["subject_id", "hadm_id", "itemid", "charttime", "storetime", "value", "valuenum", "valueuom"]
    columns += ["stay_id"] * (table == "chartevents")
    parts = []
    for rows in pd.read_csv(path, usecols=columns, chunksize=1_000_000):
        rows = rows[rows["itemid"].isin(wanted)]
        times = {c: pd.to_datetime(rows[c], format="%Y-%m-%d %H:%M:%S") for c in ("charttime", "storetime")}
        parts.append(rows.assign(**times))
    events = pd.concat(parts).sort_values(["subject_id", "charttime", "storetime", "itemid"]).drop_duplicates()
    work = path.parent / "pandas"
    work.mkdir(exist_ok=True)
    events.to_parquet(work / "events.parquet", compression="zstd")
    numbers = events.dropna(subset=["valuenum"])
    keys = [numbers["subject_id"], numbers["itemid"], (numbers["charttime"] - HORIZON).dt.ceil("h")]
    means = numbers.groupby(keys)["valuenum"].mean()
    np.savez(work / "series.npz", values=means.to_numpy(), subject=means.index.get_level_values(0).to_numpy())
    shutil.rmtree(work)
    return {"cells": len(means), "total": round(float(means.sum()), 1)}


def to_means_with_pandas(path: Path, table: str) -> dict[str, float]:
    """Hourly means alone by pandas, a million rows at a time; nothing is written."""
    import pandas as pd

    wanted = list(TABLES[table])
    sums = []
    columns = ["subject_id", "itemid", "charttime", "storetime", "valuenum", "valueuom"]
    for rows in pd.read_csv(path, usecols=columns, chunksize=1_000_000):
        rows = rows[rows["itemid"].isin(wanted)].dropna(subset=["valuenum"])
        hour = (pd.to_datetime(rows["charttime"], format="%Y-%m-%d %H:%M:%S") - HORIZON).dt.ceil("h")
        sums.append(rows.groupby([rows["subject_id"], rows["itemid"], hour])["valuenum"].agg(["sum", "count"]))
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
        make(arguments.path, arguments.table, int(arguments.path.parent.name))
        return
    if arguments.step in ("pandas", "means"):
        job = to_series_with_pandas if arguments.step == "pandas" else to_means_with_pandas
        print(json.dumps(job(arguments.path, arguments.table)))
        return
    if arguments.step == "mmnar":
        work = arguments.path.parent / "events"
        shutil.rmtree(work, ignore_errors=True)
        print(json.dumps(to_events(arguments.path, arguments.table, work)))
        shutil.rmtree(work)
        return
    plan = [("chartevents", 5_000_000), ("chartevents", 20_000_000), ("labevents", 10_000_000)]
    if arguments.smallest:
        plan = [("chartevents", 100_000), ("chartevents", 400_000), ("labevents", 100_000)]
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        measured: list[Measured] = []
        for table, rows in plan:
            path = work / str(rows) / f"{table}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            # in its own process: a child's peak memory begins at its parent's
            measure([sys.executable, __file__, "--path", str(path), "--table", table, "--step", "make"])
            measured += run(path, table, rows, 1 if arguments.smallest else arguments.repeats)
        ratios = report(measured)
    if arguments.json:
        arguments.json.write_text(json.dumps({"measured": [asdict(m) for m in measured], "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
