"""Cohort: one row per (stay, prediction time), its labels, and how many were left out by which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import polars as pl

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.schema import Panel, Task
from mmnar.sources.events import Extract, FutureEvents


@dataclass(frozen=True)
class Criterion:
    """A named inclusion rule over stays.

    Args:
        name: Shown in the attrition table.
        keep: Boolean expression over ``stays`` columns; null counts as false.
        hindsight: True where the rule uses what is known only after the prediction time (said in the report).
    """

    name: str
    keep: pl.Expr
    hindsight: bool = False


@dataclass(frozen=True)
class Question:
    """A task together with when it is asked and how its answer is found.

    Args:
        task: Name and words.
        prediction_time: Expression over ``stays`` giving a datetime; null = not asked of this stay.
        eligible: Stays of which it can be asked; others get no sample (listed in the attrition table).
        label: FutureEvents of the samples → ``sample``, ``label`` (bool; a sample not returned is False,
            a null label is unknown and masked).
    """

    task: Task
    prediction_time: pl.Expr
    eligible: tuple[Criterion, ...]
    label: Callable[[FutureEvents], pl.DataFrame]


@dataclass(frozen=True)
class AttritionStep:
    """``kept`` stays (or samples) of ``subjects`` patients are left after ``rule``."""

    rule: str
    kept: int
    subjects: int
    hindsight: bool = False


@dataclass(frozen=True)
class Cohort:
    """Samples with labels.

    Args:
        samples: ``sample`` (0..N-1), ``subject_id, hadm_id, stay_id`` (int64), ``prediction_time``
            (datetime[us]), ``since`` (begin of the record that counts as this stay's; null = all of it), per task a
            nullable Boolean column ``label:<task>`` (null = not asked or not known) and, where answers are still to
            come, ``asked:<task>``, per attribute a string column. Ordered by (subject_id, stay_id, prediction_time).
            Two questions asked of one stay at the same moment share one sample.
        tasks: K tasks in schema order.
        attributes: Names of the attribute columns.
        attrition: name of the flow ("cohort" or a task) → steps in order.
        panels: Tasks that are read together.
        warnings: What was found of the answers, in words.
    """

    samples: pl.DataFrame
    tasks: tuple[Task, ...]
    attributes: tuple[str, ...]
    attrition: dict[str, tuple[AttritionStep, ...]] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()
    warnings: tuple[str, ...] = ()


def label_column(task: str) -> str:
    return f"label:{task}"


def asked_column(task: str) -> str:
    """Of a cohort without answers: whether the task is asked of a sample at all."""
    return f"asked:{task}"


def _step(rule: str, frame: pl.DataFrame, hindsight: bool = False) -> AttritionStep:
    return AttritionStep(rule, frame.height, frame["subject_id"].n_unique(), hindsight)


def _apply(
    frame: pl.DataFrame, criteria: Sequence[Criterion], start: str
) -> tuple[pl.DataFrame, tuple[AttritionStep, ...]]:
    steps = [_step(start, frame)]
    for criterion in criteria:
        frame = frame.filter(criterion.keep.fill_null(False))
        steps.append(_step(criterion.name, frame, criterion.hindsight))
    return frame, tuple(steps)


def build_cohort(
    extract: Extract,
    criteria: Sequence[Criterion],
    questions: Sequence[Question],
    *,
    panels: Sequence[Panel] = (),
    answered: bool = True,
) -> Cohort:
    """Apply the criteria, ask the questions, look up the answers.

    A task of a panel may have one class, which is said; a task by itself, or a whole panel, may not.

    Args:
        panels: Tasks that are read together.
        answered: False = the outcome is still to come: no answer is looked up, all labels are unknown, and rules of
            hindsight are not applied.

    Raises:
        SourceError: No stay is left, a task has only one class, or not just one task of an exclusive panel is true.
    """
    if not answered:
        criteria = [rule for rule in criteria if not rule.hindsight]
        questions = [replace(q, eligible=tuple(rule for rule in q.eligible if not rule.hindsight)) for q in questions]
    stays, steps = _apply(extract.stays, criteria, f"all {extract.rows}")
    attrition = {"cohort": steps}
    ids = ["subject_id", "hadm_id", "stay_id"]
    asked = []
    for question in questions:
        eligible, steps = _apply(stays, question.eligible, "cohort")
        attrition[question.task.name] = steps
        asked.append(
            eligible.select(*ids, prediction_time=question.prediction_time, task=pl.lit(question.task.name)).drop_nulls(
                "prediction_time"
            )
        )
    points = pl.concat(asked)
    if points.is_empty():
        raise SourceError("cohort", "at least one stay left", _emptied(attrition), "compare the rules with the records")
    samples = (
        points.select(*ids, "prediction_time")
        .unique()
        .sort("subject_id", "stay_id", "prediction_time")
        .with_row_index("sample")
        .with_columns(pl.col("sample").cast(pl.Int64))
    )
    samples = samples.join(_since(extract.stays), on="stay_id", how="left", maintain_order="left")
    warnings: tuple[str, ...] = ()
    if answered:
        samples, warnings = _answered(samples, points, questions, extract, panels)
    else:
        samples = _unanswered(samples, points, [question.task.name for question in questions])
    attributes = extract.stays.select("stay_id", *extract.attributes)
    samples = samples.join(attributes, on="stay_id", how="left", maintain_order="left")
    tasks = tuple(q.task for q in questions)
    return Cohort(samples, tasks, extract.attributes, attrition, tuple(panels), warnings)


def _unanswered(samples: pl.DataFrame, points: pl.DataFrame, tasks: Sequence[str]) -> pl.DataFrame:
    key = ["stay_id", "prediction_time"]
    for task in tasks:
        asked = points.filter(task=task).select(*key, pl.lit(True).alias(asked_column(task)))
        samples = samples.join(asked, on=key, how="left", maintain_order="left").with_columns(
            pl.col(asked_column(task)).fill_null(False), pl.lit(None, pl.Boolean).alias(label_column(task))
        )
    return samples


def _answered(
    samples: pl.DataFrame,
    points: pl.DataFrame,
    questions: Sequence[Question],
    extract: Extract,
    panels: Sequence[Panel],
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """With a column of labels for each task, and what was found of them."""
    futures = (events.after(part) for events, part in extract.answers.parts(samples))
    answers = [[question.label(future) for question in questions] for future in futures]
    for question, parts in zip(questions, zip(*answers, strict=True), strict=True):
        samples = _with_label(samples, points.filter(task=question.task.name), question, pl.concat(parts))
    warnings: list[str] = []
    for panel in panels:
        if panel.exclusive:
            samples = _exclusive(samples, panel, warnings)
    shared = {task: panel for panel in panels for task in panel.tasks}
    for task in (question.task.name for question in questions):
        labels = samples[label_column(task)]
        if task not in shared or all(_one_class(samples[label_column(other)]) for other in shared[task].tasks):
            check_classes(task, labels, extract.warnings)
        elif _one_class(labels):
            which = "everybody has it" if labels.any() else "nobody has it"
            warnings.append(f"task '{task}' of panel '{shared[task].name}': {which}, so no model can learn it")
    return samples, tuple(warnings)


def _exclusive(samples: pl.DataFrame, panel: Panel, warnings: list[str]) -> pl.DataFrame:
    """Labels of an exclusive panel: all known or none, and one of them true.

    Raises:
        SourceError: Several are true of a sample, or none is.
    """
    labels = samples.select(label_column(task) for task in panel.tasks)
    known = labels.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
    partly = int((labels.select(pl.any_horizontal(pl.all().is_not_null())).to_series() & ~known).sum())
    true = labels.filter(known).select(pl.sum_horizontal(pl.all().cast(pl.Int64))).to_series()
    wrong = int((true != 1).sum())
    if wrong:
        several, none = counted(int((true > 1).sum())), counted(int((true == 0).sum()))
        fact = f"{several} samples with several, {none} with none"
        raise SourceError(f"panel '{panel.name}'", "exactly one outcome of each sample", fact, "correct the outcomes")
    if partly:
        what = f"panel '{panel.name}': {counted(partly)} samples of which some outcomes are not known"
        warnings.append(f"{what}; all of them taken as unknown")
    kept = (pl.when(known).then(pl.col(name)).alias(name) for name in labels.columns)
    return samples.with_columns(kept)


def _one_class(labels: pl.Series) -> bool:
    return labels.drop_nulls().n_unique() < 2


def _emptied(attrition: Mapping[str, Sequence[AttritionStep]]) -> str:
    """Which rules left nobody: of all stays, or else of those of each question."""
    first = {flow: next((step.rule for step in steps if not step.kept), "") for flow, steps in attrition.items()}
    rules = [first["cohort"]] if first["cohort"] else [rule for rule in dict.fromkeys(first.values()) if rule]
    return f"none after {', '.join(map(repr, rules))}" if rules else "none with a moment to ask at"


def left_out(attrition: Mapping[str, Sequence[AttritionStep]]) -> list[str]:
    """What each rule took, in words."""
    return [
        f"{flow}: {counted(before.kept - step.kept)} left out by the rule '{step.rule}'"
        for flow, steps in attrition.items()
        for before, step in pairwise(steps)
        if step.kept < before.kept
    ]


def _since(stays: pl.DataFrame) -> pl.DataFrame:
    since = pl.col("since") if "since" in stays.columns else pl.lit(None)
    return stays.select("stay_id", since=since.cast(pl.Datetime("us")))


def _with_label(samples: pl.DataFrame, points: pl.DataFrame, question: Question, answers: pl.DataFrame) -> pl.DataFrame:
    """Add ``label:<task>``: the answer where the question was asked, null elsewhere."""
    name = label_column(question.task.name)
    answers = answers.select("sample", "label", answered=pl.lit(True))
    asked = points.select("stay_id", "prediction_time", asked=pl.lit(True))
    return (
        samples.join(asked, on=["stay_id", "prediction_time"], how="left", maintain_order="left")
        .join(answers, on="sample", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("asked"))
            .then(pl.when(pl.col("answered")).then(pl.col("label")).otherwise(pl.lit(False)))
            .alias(name)
        )
        .drop("asked", "answered", "label")
    )


def check_classes(task: str, labels: pl.Series, warnings: Sequence[str] = ()) -> None:
    """
    Args:
        labels: Null = not known.
        warnings: What the source said of the records; what it took as unknown may be why.

    Raises:
        SourceError: ``labels`` are all of one class.
    """
    known = labels.drop_nulls()
    if _one_class(labels):
        why = "; ".join(line for line in warnings if line.endswith("taken as unknown"))
        raise SourceError(
            f"task '{task}'",
            "samples with and without the outcome",
            f"{counted(known.len())} samples of one class" + (f" ({why})" if why else ""),
            "drop the task or use more records",
        )
