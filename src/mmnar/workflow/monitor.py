"""From a service's audit log to what it says of those who were asked about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import SourceError, StoreError
from mmnar.evaluation.monitor.asked import Answers, Learned
from mmnar.evaluation.monitor.figures import mean_of, rates_of
from mmnar.evaluation.monitor.labelled import CameTrue, came_true
from mmnar.evaluation.monitor.periods import periods
from mmnar.evaluation.monitor.refusals import Requests, requests_by_period
from mmnar.evaluation.monitor.watch import Watched, watch
from mmnar.evaluation.result import COARSE, Estimate
from mmnar.files import sha256_of
from mmnar.predictions import OUT_OF_FOLD
from mmnar.workflow.run import Run
from mmnar.workflow.service.answers import NOT_ASKED, NOT_LEARNED
from mmnar.workflow.service.logged import read_log
from mmnar.workflow.service.outcomes import outcomes_of


@dataclass(frozen=True)
class Monitored:
    """What may be shown of a log.

    Args:
        run: What they were held against; "" = nothing was judged.
        every: week, month or quarter.
        before: Modality → share of who the run learned from; {} where there is no run.
        risks_before: Task → mean risk of the test fold.
        came_true: () without labels.
        notes: What was left out.
    """

    run: str
    every: str
    before: dict[str, Estimate]
    risks_before: dict[str, Estimate]
    requests: tuple[Requests, ...]
    periods: tuple[Watched, ...]
    came_true: tuple[CameTrue, ...]
    notes: tuple[str, ...]


def monitor(
    log: Path,
    run: Run | None = None,
    labels: Path | None = None,
    every: str = "month",
    now: datetime | None = None,
    seed: int = 0,
) -> Monitored:
    """
    Args:
        run: Whose training patients the answers are held against.
        labels: Table of outcomes that are known by now (see ``outcomes_of``).
        every: week, month or quarter.
        now: Periods that end later are not judged; default: the time of the machine.
        seed: Of permutations and resamples.

    Raises:
        SourceError: The log or the labels cannot be used.
        ConfigError: Another kind of period.
        StoreError: The run does not keep who it learned from.
        OSError: A file cannot be read.
    """
    now = now or datetime.now(UTC)
    logged = read_log(log, now, None if run is None else sha256_of(run.folder / "run.json"))
    answers, notes = logged.answers, list(logged.notes)
    learned = None if run is None else learned_of(run)
    modalities = _names(answers.present) if learned is None else learned.modalities
    if not answers.read.any():
        answers = replace(answers, present=np.zeros((len(answers), len(modalities)), dtype=bool))
    if answers.present.shape[1] != len(modalities):
        fact = "others"
        raise SourceError(f"log '{log.name}'", f"patterns of {len(modalities)} modalities", fact, "restore the log")
    spans = periods(int(logged.time.min()), int(logged.time.max()), every)
    moment = int(now.timestamp()) * 1_000_000
    found = watch(answers, modalities, learned, spans, every, moment, _tested(answers, learned), seed)
    if run is not None and run.told:
        notes.append(f"The run was made under a regime, and these patients are as they are: {' '.join(run.told)}")
    true: tuple[CameTrue, ...] = ()
    if labels is not None:
        outcomes, strangers = outcomes_of(logged, labels, log)
        notes += strangers
        true = came_true(answers, outcomes, spans, seed=seed)
    return Monitored(
        "" if run is None else run.folder.name,
        every,
        {} if learned is None else _rounded(rates_of(learned.present, modalities), COARSE),
        {} if learned is None or learned.held_out is None else _rounded(_means(learned.held_out[1]), COARSE + 1),
        requests_by_period(logged.time, logged.status, answers, spans),
        tuple(period.disclosed() for period in found),
        tuple(of.disclosed() for of in true),
        tuple(notes),
    )


def learned_of(run: Run) -> Learned:
    """A run's patients.

    Raises:
        StoreError: It does not keep who it learned from.
    """
    learned = run.calibration()
    if learned is None:
        raise StoreError(
            f"run '{run.folder.name}'",
            "risks out of fold, which tell who it learned from",
            "none: of a single fit without a rectifier",
            "leave --run out, or train with fits",
        )
    return Learned.of(learned, None if run.test.provenance.get("validation") == OUT_OF_FOLD else run.test)


def _tested(answers: Answers, learned: Learned | None) -> list[str]:
    """Tasks whose risks can be held against the test fold's: whom a task is not asked of is no matter of chance."""
    known = {} if learned is None or learned.held_out is None else learned.held_out[1]
    partly = {task for task, of in answers.refused.items() if np.isin(of, (NOT_ASKED, NOT_LEARNED)).any()}
    return [task for task in answers.risks if task in known and task not in partly]


def _names(present: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(f"modality {i + 1}" for i in range(present.shape[1]))


def _means(risks: dict[str, NDArray[np.float64]]) -> dict[str, Estimate]:
    return {task: mean_of(of) for task, of in risks.items()}


def _rounded(of: dict[str, Estimate], digits: int) -> dict[str, Estimate]:
    return {name: e.rounded(digits) for name, e in of.items()}
