"""Lines of an audit log → answers. A line that cannot be used is counted and left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from sys import intern
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import SourceError
from mmnar.evaluation.monitor.asked import Answers
from mmnar.privacy import counted
from mmnar.workflow.service.audit import LOG_VERSION

Int = NDArray[np.int64]
_FAST: Final = timedelta(days=1)
"""A server's clock may be so far ahead."""
_EARLIEST: Final = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
_UNIX: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True)
class Logged:
    """What a log says of one run.

    Args:
        time, status: (L,) of every request, microseconds since 1970 and HTTP status.
        answers: One row a patient and request.
        question: (N,) digest of who was asked about and which sample or moment.
        notes: What was left out, in sentences.
    """

    time: Int
    status: Int
    answers: Answers
    question: NDArray[np.str_]
    notes: tuple[str, ...]


def read_log(path: Path, now: datetime, run: str | None = None) -> Logged:
    """
    Args:
        now: Lines of a day later or more cannot be.
        run: SHA-256 of the ``run.json`` of the run; requests to others are left out. None = the log must be of one.

    Raises:
        SourceError: No line that can be used, or requests to several runs.
        OSError: It cannot be read.
    """
    lines = _Lines(now)
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                lines.read(line)
    return lines.of(run, f"log '{path.name}'")


class _Told(NamedTuple):
    """One object of ``patients``; task → risk, rectified risk, reason of a refusal."""

    subject: str
    question: str
    pattern: str
    tasks: dict[str, tuple[float, float, str]]


@dataclass
class _Lines:
    """
    Args:
        kept: Moment, status and run of a line, and its patients.
        broken, others: Lines that cannot be read; lines of another version.
    """

    now: datetime
    kept: list[tuple[int, int, str, list[_Told]]] = field(default_factory=list)
    broken: int = 0
    others: int = 0

    def read(self, line: bytes) -> None:
        try:
            entry = json.loads(line, parse_constant=_no_number)
            version = entry["log_version"]
            if version == LOG_VERSION:
                self.kept.append(self._line(entry))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            self.broken += 1
            return
        self.others += version != LOG_VERSION

    def _line(self, entry: Mapping[str, Any]) -> tuple[int, int, str, list[_Told]]:
        moment, status, run = datetime.fromisoformat(entry["time"]), entry["status"], entry["run"]
        if not _EARLIEST <= moment <= self.now + _FAST or type(status) is not int or not isinstance(run, str):
            raise ValueError
        return (
            (moment - _UNIX) // timedelta(microseconds=1),
            status,
            run,
            [_checked(p) for p in entry.get("patients", [])],
        )

    def of(self, run: str | None, what: str) -> Logged:
        if not self.kept:
            lost = self.broken + self.others
            fact = f"{counted(lost)} lines of another form" if lost else "none"
            raise SourceError(what, "lines that mmnar serve wrote", fact, "name the file that was its --log")
        runs = {line[2] for line in self.kept}
        if run is None and len(runs) > 1:
            raise SourceError(what, "requests to one run", f"to {len(runs)}", "say which with --run")
        if run is not None and run not in runs:
            raise SourceError(what, "requests to this run", "requests to others", "name the run that was served")
        ours = [line for line in self.kept if line[2] == run] if run else self.kept
        rows = [(line[0], patient) for line in ours for patient in line[3]]
        if len({len(p.pattern) for _, p in rows if p.pattern}) > 1:
            raise SourceError(what, "patterns of one length", "several", "restore the log as it was written")
        return Logged(
            np.array([line[0] for line in ours], dtype=np.int64),
            np.array([line[1] for line in ours], dtype=np.int64),
            _answers(rows),
            np.array([p.question for _, p in rows], dtype=np.str_),
            tuple(self._notes(len(self.kept) - len(ours))),
        )

    def _notes(self, of_other_runs: int) -> list[str]:
        found = (
            (self.broken, "cannot be read (cut, or not of mmnar serve)"),
            (self.others, "are of another version of the log"),
            (of_other_runs, "are of requests to another run"),
        )
        return [f"Left out: {counted(n)} lines that {words}." for n, words in found if n]


def _checked(patient: Any) -> _Told:
    """
    Raises:
        ValueError, TypeError, KeyError, AttributeError: Not as the service writes it.
    """
    pattern, who = patient["pattern"] or "", (patient["subject"], patient["patient"])
    if set(pattern) - {"0", "1"} or not all(isinstance(word, str) for word in (*who, pattern)):
        raise ValueError
    return _Told(*who, intern(pattern), {intern(name): _task(task) for name, task in patient["tasks"].items()})


def _task(task: Mapping[str, Any]) -> tuple[float, float, str]:
    """Risk, rectified risk and the reason of a refusal; NaN and "" where there is none."""
    if "refused" in task:
        return math.nan, math.nan, intern(task["refused"])
    risk, rectified = task["risk"], task["rectified"]
    return _risk(risk), math.nan if rectified is None else _risk(rectified), ""


def _risk(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def _answers(rows: list[tuple[int, _Told]]) -> Answers:
    names = list(dict.fromkeys(task for _, p in rows for task in p.tasks))
    nothing = (math.nan, math.nan, "")
    told = {task: list(zip(*(p.tasks.get(task, nothing) for _, p in rows), strict=True)) for task in names}
    length = max((len(p.pattern) for _, p in rows), default=0)
    present = [[c == "1" for c in p.pattern.ljust(length, "0")] for _, p in rows]
    number: dict[str, int] = {}
    return Answers(
        np.array([at for at, _ in rows], dtype=np.int64),
        np.array([number.setdefault(p.subject, len(number)) for _, p in rows], dtype=np.int64),
        np.array([bool(p.pattern) for _, p in rows], dtype=bool),
        np.array(present, dtype=bool).reshape(len(rows), length),
        {task: np.array(of[0], dtype=np.float64) for task, of in told.items()},
        {task: np.array(of[1], dtype=np.float64) for task, of in told.items()},
        {task: np.array(of[2], dtype=np.str_) for task, of in told.items()},
    )


def _no_number(_: str) -> NoReturn:
    raise ValueError
