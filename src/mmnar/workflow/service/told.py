"""What forms of an answer other than the service's own say in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmnar.workflow.service.answers import USE

NOT_CONFIDENCE = "their disagreement, no confidence interval"


def shown_risk(task: Mapping[str, Any]) -> float | None:
    """The rectified risk where there is one, else the risk; None where it is refused."""
    risk = task.get("rectified")
    return task.get("risk") if risk is None else risk


def percent(risk: float) -> str:
    """
    >>> percent(0.1834)
    '18.3 %'
    """
    return f"{100 * risk:.1f} %"


def how(task: Mapping[str, Any]) -> str:
    """How a risk came about, or why there is none."""
    if "refused" in task:
        return f"refused: {task['refused']}"
    parts = [] if task.get("rectified") is None else [f"rectified; {percent(task['risk'])} before the rectifier"]
    if task.get("spread") is not None:
        low, high = map(percent, task["spread"])
        parts.append(f"the run's fits lie between {low} and {high}: {NOT_CONFIDENCE}")
    return "; ".join(parts)


def absent(patient: Mapping[str, Any]) -> str:
    """What there is no record of.

    >>> absent({"absent": ["image", "notes"]}), absent({"absent": []}), absent({"absent": None})
    ('absent: image, notes', 'nothing is absent', 'records were not read')
    """
    if patient["absent"] is None:
        return "records were not read"
    return f"absent: {', '.join(patient['absent'])}" if patient["absent"] else "nothing is absent"


def beside(answer: Mapping[str, Any], patient: Mapping[str, Any]) -> list[str]:
    """Sentences that go with every risk."""
    found = [f"{USE[0].upper()}{USE[1:]}.", f"Inputs: {', '.join(answer['modalities'])}; {absent(patient)}."]
    if "training_patients" in patient:
        known = patient["training_patients"]
        count = "" if known is None else f"{known:,} training patients: "
        found.append(f"{count}{patient['training_patients_are']}.")
    if patient.get("ignored_later_events"):
        found.append("Events that were known only after the moment asked about were not read.")
    return [*found, *answer["notes"]]
