"""Samples from label files: MEDS brings the questions with their answers, so nothing is looked up in later events."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mmnar.cohort.build import AttritionStep, Cohort, check_classes, label_column
from mmnar.schema import Task
from mmnar.sources.events import Extract
from mmnar.sources.meds.labels import Labels


def labelled_cohort(extract: Extract, labels: Labels) -> Cohort:
    """One sample per subject and prediction time at which any task was asked, in that order.

    Args:
        extract: What ``read_meds`` read for these labels.
        labels: Answers; a task that was not asked of a sample is null there.

    Raises:
        SourceError: A task has only one class among the subjects with events.
    """
    key = ["subject_id", "prediction_time"]
    samples = extract.stays.select(*key, "hadm_id", "stay_id", "since", *extract.attributes).with_columns(
        sample=pl.col("stay_id")
    )
    moments = labels.moments()
    attrition: dict[str, tuple[AttritionStep, ...]] = {
        "cohort": (_step("all labelled moments", moments), _step("subjects with events", samples)),
    }
    for task in labels.tasks:
        asked = labels.frame.filter(task=task).drop("task")
        found = asked.join(samples.select(key), on=key, how="semi")
        check_classes(task, found["boolean_value"])
        attrition[task] = (
            AttritionStep("rows of label files", *labels.read[task]),
            _step("one label per subject and prediction time", asked),
            _step("subjects with events", found),
        )
        samples = samples.join(
            found.rename({"boolean_value": label_column(task)}), on=key, how="left", maintain_order="left"
        )
    return Cohort(samples, _tasks(labels.tasks), extract.attributes, attrition)


def unanswered_cohort(extract: Extract, names: Sequence[str]) -> Cohort:
    """One sample per moment asked about, without any answer.

    Args:
        names: Of the tasks.
    """
    samples = extract.stays.select(
        *("subject_id", "prediction_time", "hadm_id", "stay_id", "since"),
        *extract.attributes,
        *(pl.lit(None, pl.Boolean).alias(label_column(name)) for name in names),
        sample=pl.col("stay_id"),
    )
    attrition: dict[str, tuple[AttritionStep, ...]] = {"cohort": (_step("moments of subjects with events", samples),)}
    return Cohort(samples, _tasks(names), extract.attributes, attrition)


def _tasks(names: Sequence[str]) -> tuple[Task, ...]:
    return tuple(Task(name, "the prediction time of its label file", "yes in its label file") for name in names)


def _step(rule: str, frame: pl.DataFrame) -> AttritionStep:
    return AttritionStep(rule, frame.height, frame["subject_id"].n_unique())
