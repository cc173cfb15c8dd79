"""Which model a report answers with, and which plain control it is held against: never by the figures it then shows.

Chosen by the patients it is scored on, the best of several looks better than it is (docs/adr/0025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mmnar.evaluation.result import Result
from mmnar.predictions import Predictions, commonly_asked
from mmnar.report.inputs import Choices
from mmnar.report.parts.decided import alone
from mmnar.report.parts.summary import is_rectified
from mmnar.roles import Calibration
from mmnar.study.choosing import question_losses, questions

BY_RISKS: Final = (
    "The model was chosen before the patients scored here were looked at: of the models that are no plain controls, "
    "the one whose risks out of fold lie closest to what happened (least log loss), question by question. The plain "
    "control it is held against was chosen in the same way."
)
OF_CONTROLS: Final = (
    "Only plain controls were named. The one shown was chosen before the patients scored here were looked at: its "
    "risks out of fold lie closest to what happened (least log loss), question by question."
)
BY_ORDER: Final = (
    "The model is the first one named that is no plain control, if there is one; the control is the first one named: "
    "{why}. Neither was chosen by the figures shown here."
)
NONE_KEPT: Final = "not every run has risks out of fold"
UNLIKE: Final = "the runs' risks out of fold are not of the same patients"
THE_SAME: Final = "the risks out of fold are themselves what is judged"


def choose(result: Result, risks: Mapping[str, Predictions[Calibration] | None]) -> Choices:
    """Choices by risks out of fold, or, where these cannot be used, by the order of the models.

    Args:
        risks: Model → its risks out of fold, None where it has none.
    """
    if result.out_of_fold:
        return first_named(result, THE_SAME)
    known = {name: of for name, of in risks.items() if of is not None}
    if len(known) < len(risks):
        return first_named(result, NONE_KEPT)
    if not _alike(list(known.values())):
        return first_named(result, UNLIKE)
    losses = _losses(known)
    fallback = first_named(result, "")
    models, controls = _candidates(result)

    def best(question: str, names: Sequence[str]) -> str:
        return min(names, key=lambda name: losses[name].get(question, np.inf))

    return Choices(
        OF_CONTROLS if models == controls else BY_RISKS,
        {question: best(question, models) for question in fallback.models},
        {question: best(question, controls) for question in fallback.controls},
    )


def first_named(result: Result, why: str) -> Choices:
    """Choices by the order in which models stand in a result.

    Args:
        why: Nothing better can be had, in words.
    """
    models, controls = _candidates(result)
    asked = [*alone(result), *result.gathered]
    return Choices(
        BY_ORDER.format(why=why),
        {question: models[0] for question in asked if models},
        {question: controls[0] for question in asked if controls},
    )


def _candidates(result: Result) -> tuple[list[str], list[str]]:
    """Models that may be chosen, and plain controls; where all are controls, a model may be one. Neither was made
    elsewhere: of such nobody has risks out of fold."""
    bases = list(dict.fromkeys(base for models in result.tasks.values() for base in models if not is_rectified(base)))
    told = {*result.provenance.get("controls", ()), *(c.control for c in result.comparisons)}
    ours = [name for name in bases if name not in result.outside]
    controls = [name for name in ours if name in told]
    return [name for name in ours if name not in told] or controls, controls


def _alike(risks: Sequence[Predictions[Calibration]]) -> bool:
    first = risks[0]
    rows = ("subject_id", "stay_id", "prediction_time")
    return all(of.tasks == first.tasks for of in risks) and all(
        np.array_equal(getattr(of, name), getattr(first, name)) for of in risks for name in rows
    )


def _losses(risks: Mapping[str, Predictions[Calibration]]) -> dict[str, dict[str, float]]:
    """Model → question → log loss, of whom every model was asked."""
    asked = commonly_asked(list(risks.values()))
    found = {}
    for name, of in zip(risks, asked, strict=True):
        by_question = question_losses(of)
        panels = {task: question for question, tasks in questions(of).items() for task in tasks if len(tasks) == 1}
        found[name] = {**by_question, **{t: by_question[q] for t, q in panels.items() if q in by_question}}
    return found
