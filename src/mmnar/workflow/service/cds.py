"""An answer as a card of CDS Hooks (cds-hooks.hl7.org): one patient, for information only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mmnar.errors import SourceError
from mmnar.workflow.service.told import absent, beside, how, percent, shown_risk

LONGEST: Final = 139
"""Characters of a summary: fewer than 140."""
RESEARCH: Final = "research use only"
_MARKS: Final = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|~#!"})


def cards_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """
    Args:
        answer: Of ``Scorer.answer``, its content.

    Raises:
        SourceError: Of several patients: a card does not say whose it is.
    """
    if len(answer["patients"]) != 1:
        raise SourceError("a card", "a question about one patient, at one moment", "several", "ask about each alone")
    (patient,) = answer["patients"]
    card = {
        "summary": summary_of(patient),
        "indicator": "info",
        "source": {"label": f"mmnar, run {answer['run']} ({RESEARCH})"},
        "detail": _detail(answer, patient),
    }
    return {"cards": [card]}


def summary_of(patient: Mapping[str, Any]) -> str:
    """Risks, what is absent, and what it is for, the first two in counts where there is no room for names."""
    risks = {name: shown_risk(task) for name, task in patient["tasks"].items()}
    words = ", ".join(f"{name} {'refused' if risk is None else percent(risk)}" for name, risk in risks.items())
    refused = sum(risk is None for risk in risks.values())
    counted = f"risks of {len(risks)} tasks, {refused} refused"
    lacking = f"{len(patient['absent'] or ())} modalities absent" if patient["absent"] else absent(patient)
    for said in (words, counted):
        for what in (absent(patient), lacking):
            found = "; ".join((said, what, RESEARCH))
            if len(found) <= LONGEST:
                return found
    return found


def _detail(answer: Mapping[str, Any], patient: Mapping[str, Any]) -> str:
    lines = [_line(name, task) for name, task in patient["tasks"].items()]
    return "\n".join([*lines, "", *(sentence.translate(_MARKS) for sentence in beside(answer, patient))])


def _line(name: str, task: Mapping[str, Any]) -> str:
    risk, why = shown_risk(task), how(task).translate(_MARKS)
    shown = "" if risk is None else percent(risk)
    return f"- **{name.translate(_MARKS)}** {shown}{f' ({why})' if shown and why else why}"
