"""What sections on decisions share: which tasks and models they show, and how a task is headed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmnar.evaluation.decided import Decided
from mmnar.evaluation.result import Result
from mmnar.render.blocks import Block, Heading, Paragraph
from mmnar.render.wording import RECTIFIED
from mmnar.report.parts.cohort import asked_words
from mmnar.report.parts.performance import ranked
from mmnar.report.parts.summary import is_rectified


def has_decisions(result: Result) -> bool:
    """Whether any model was judged so."""
    return any(decided_of(result, task) for task in alone(result))


def alone(result: Result) -> list[str]:
    """Tasks that are no part of a panel of several: each of those has its figures in result.json."""
    gathered = {task for tasks in result.gathered.values() for task in tasks}
    return [task for task in result.tasks if task not in gathered]


def decided_of(result: Result, task: str) -> dict[str, Decided]:
    """Models of a task with figures, best AUROC first."""
    ordered = ((name, entry.decided) for name, entry in ranked(result.tasks[task]))
    return {name: of for name, of in ordered if of is not None and not of.reason}


def undecided(result: Result, task: str) -> str:
    """Why a task has no figures; "" where it has."""
    said = {m.decided.reason for m in result.tasks[task].values() if m.decided is not None and m.decided.reason}
    return ", ".join(sorted(said))


def headed(result: Result, manifest: Mapping[str, Any], task: str) -> Iterator[Block]:
    """A task's heading with its outcome; and why there are no figures, where there are none."""
    yield Heading(task)
    if words := asked_words(task, manifest):
        yield Paragraph(words, "note")
    if reason := undecided(result, task):
        yield Paragraph(f"Not given: {reason}.", "note")


def model_words(name: str) -> str:
    """A model, or a model with its rectifier.

    >>> model_words("lstm+rectifier")
    'lstm with rectifier'
    """
    return f"{name.removesuffix(RECTIFIED)} with rectifier" if is_rectified(name) else name
