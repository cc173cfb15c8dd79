"""An answer as a FHIR Bundle: one RiskAssessment a patient, and the Provenance of all. Of elements that R4, R4B and R5
have alike (HL7, hl7.org/fhir/R4 and R5).

A probability is in percent there (``probability[x]``: at most 100). A moment of a record has no zone and FHIR has no
moment without one, so only its date is written. Spread is no range of certainty and stands in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from mmnar import __version__
from mmnar.workflow.service.told import beside, how, shown_risk

MEDIA_TYPE: Final = "application/fhir+json"
STATUS: Final = "preliminary"
"""Not verified by anybody."""


def bundle_of(answer: Mapping[str, Any], recorded: datetime) -> dict[str, Any]:
    """
    Args:
        answer: Of ``Scorer.answer``, its content.
        recorded: When it was made, with its zone.
    """
    risks = [_risk_assessment(answer, patient) for patient in answer["patients"]]
    names = [_name(answer, recorded, i) for i in range(len(risks) + 1)]
    provenance = _provenance(answer, names[:-1], recorded)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": recorded.isoformat(timespec="milliseconds"),
        "entry": [
            {"fullUrl": name, "resource": resource} for name, resource in zip(names, [*risks, provenance], strict=True)
        ],
    }


def _risk_assessment(answer: Mapping[str, Any], patient: Mapping[str, Any]) -> dict[str, Any]:
    moment = patient.get("prediction_time")
    found: dict[str, Any] = {
        "resourceType": "RiskAssessment",
        "status": STATUS,
        "method": {"text": f"mmnar, run {answer['run']}"},
        "subject": {"identifier": {"value": str(patient.get("subject", patient.get("subject_id")))}},
        "prediction": [_prediction(name, task) for name, task in patient["tasks"].items()],
        "note": [{"text": sentence} for sentence in beside(answer, patient)],
    }
    if patient.get("sample") is not None:
        found["identifier"] = [{"value": str(patient["sample"])}]
    day = None if moment is None else _day(str(moment))
    return found if day is None else found | {"occurrenceDateTime": day}


def _prediction(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    risk, why = shown_risk(task), how(task)
    found: dict[str, Any] = {"outcome": {"text": name}}
    if risk is not None:
        found["probabilityDecimal"] = round(100 * risk, 6)
    return found | ({"rationale": why} if why else {})


def _provenance(answer: Mapping[str, Any], targets: list[str], recorded: datetime) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": target} for target in targets],
        "recorded": recorded.isoformat(timespec="milliseconds"),
        "activity": {"text": "Risk by a fitted model"},
        "agent": [{"type": {"text": "software"}, "who": {"display": f"mmnar {__version__}, run {answer['run']}"}}],
    }


def _name(answer: Mapping[str, Any], recorded: datetime, i: int) -> str:
    words = f"{answer['run']} {recorded.isoformat()} {i}"
    return f"urn:uuid:{uuid5(NAMESPACE_URL, words)}"


def _day(moment: str) -> str | None:
    """Date of a moment as ISO 8601 has it; None for another form, which is told in the request alone."""
    try:
        return datetime.fromisoformat(moment).date().isoformat()
    except ValueError:
        return None
