"""From a study to its finished runs: searches first, then the table. Interrupted and started again, it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mmnar.errors import StoreError
from mmnar.files import read_json, read_sealed, write_text
from mmnar.lock import LOCK, alone, contents
from mmnar.study.data import store_of
from mmnar.study.engines.base import Engine
from mmnar.study.plan import Job, Plan, Stores, plan_runs, plan_searches
from mmnar.study.progress import Progress
from mmnar.study.spec import StudySpec

FOLDERS: Final = frozenset({"data", "runs", "searches", "slurm"})
"""What a study makes before it writes ``study.json``."""


@dataclass(frozen=True)
class Failure:
    """A job that has no result after a second attempt."""

    job: Job
    error: str
    traceback: str


@dataclass(frozen=True)
class Done:
    """A study whose runs are over.

    Args:
        spec, plan: What was asked.
        failures: What could not be done.
        stale: Finished runs in the folder that belong to other code, data or settings; they are not used.
        stores: What it ran on.
        searches: (data, row) → the record of its finished search, see ``study.search``.
    """

    spec: StudySpec
    plan: Plan
    failures: tuple[Failure, ...]
    stale: int
    stores: Stores
    searches: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


def run_study(spec: StudySpec, out: Path, engine: Engine, progress: Progress) -> Done:
    """Make every run that is not there yet.

    Raises:
        StoreError: Another process works on ``out``, or it holds something else.
        ConfigError: The study cannot be run as written; nothing has been run then.
    """
    with claimed(out):
        stores = {data.name: store_of(data, out / "data") for data in spec.data}
        plan_runs(spec, stores, out, {})  # every mistake in the study shows before the first hour is spent
        searches = plan_searches(spec, stores, out)
        failures = carry_out(list(searches.values()), engine, progress)
        found = {place: search_record(job) for place, job in searches.items() if job.finished}
        chosen = {place: record["chosen"] for place, record in found.items()}
        plan = plan_runs(spec, stores, out, chosen)
        _write_plan(out, spec, plan, stores)
        stale = len({p.parent.name for p in out.glob("runs/*/run.json")} - set(plan.jobs))
        if stale:
            progress.say(f"{stale} finished runs belong to other code, data or settings; they are not used")
        failures += carry_out(list(plan.jobs.values()), engine, progress)
        return Done(spec, plan, tuple(failures), stale, stores, found)


def carry_out(jobs: Sequence[Job], engine: Engine, progress: Progress) -> list[Failure]:
    """Run the jobs that are not finished; those that fail once more."""
    jobs = list({job.id: job for job in jobs}.values())  # rows that share their runs share their search
    left = [job for job in jobs if not job.finished]
    for job in jobs:
        if job.finished:
            _sweep(Path(job.folder))
    progress.begin(len(jobs), len(jobs) - len(left))
    engine.run(left, progress.ended)
    again = [job for job in left if not job.finished]
    if again:
        progress.say(f"{len(again)} jobs failed; trying them once more")
        engine.run(again, progress.ended)
    progress.end()
    return [failure_of(job) for job in again if not job.finished]


def _sweep(folder: Path) -> None:
    """Remove what a job killed between its result and its end left: nobody else enters a finished one."""
    from mmnar.workflow.train import WORK, sweep_finished

    if any((folder / left).exists() for left in (LOCK, WORK)):
        with suppress(StoreError), alone(folder):  # somebody is there: nothing is left over
            sweep_finished(folder)


def failure_of(job: Job) -> Failure:
    """What is known of a job without a result."""
    path = Path(job.folder) / "failed.json"
    if not path.is_file():
        return Failure(job, "its process died without a word (killed, out of memory, or the disk is full)", "")
    record = read_json(path, f"'{path}'", "run the study again")
    return Failure(job, record["error"], record["traceback"])


def search_record(job: Job) -> Mapping[str, Any]:
    """What a finished search chose and tried."""
    return read_sealed(Path(job.folder) / "best.json", f"search '{job.label}'", "delete its folder and run it again")


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Hold a study's folder; the lock goes with the process, however it ends.

    Raises:
        StoreError: Another process holds it, or the folder holds something else.
    """
    with alone(out, "study folder"):
        if set(contents(out)) - FOLDERS and not (out / "study.json").is_file():
            raise StoreError(f"study folder '{out}'", "a new folder or a study", "other files", "choose another --out")
        yield


def _write_plan(out: Path, spec: StudySpec, plan: Plan, stores: Stores) -> None:
    """``study.json``: what was asked and which folder holds which cell."""
    record = {
        "study": asdict(spec),
        "stores": {name: str(path) for name, path in stores.items()},
        "cells": [asdict(cell) for cell in plan.cells],
        "chosen": [{"data": d, "row": r, "settings": dict(v)} for (d, r), v in plan.chosen.items()],
        "notices": list(plan.notices),
    }
    write_text(out / "study.json", json.dumps(record, indent=1, ensure_ascii=False, default=str))
