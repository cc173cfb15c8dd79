"""Answers as FHIR and as a card of CDS Hooks: what their specifications allow, and nothing that an answer does not say.

``fhir.resources`` is the referee of FHIR's structure (R4B has RiskAssessment, Provenance and Bundle as R4 has them).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.provenance import Provenance as ProvenanceR5
from fhir.resources.R4B.bundle import Bundle as BundleR4B
from fhir.resources.R4B.provenance import Provenance as ProvenanceR4B
from fhir.resources.R4B.riskassessment import RiskAssessment as RiskAssessmentR4B
from fhir.resources.riskassessment import RiskAssessment as RiskAssessmentR5

from mmnar.errors import SourceError
from mmnar.workflow.service.cds import cards_of
from mmnar.workflow.service.fhir import bundle_of

AT: Final = datetime(2026, 1, 31, 10, 0, 0, 250_000, tzinfo=UTC)
RISK: Final = {"risk": 0.18, "rectified": 0.1625, "spread": [0.15, 0.21]}
PLAIN: Final = {"risk": 0.3, "rectified": None, "spread": None}
REFUSED: Final = {"refused": "the run does not ask this at this time"}
STATUSES: Final = (
    "registered",
    "preliminary",
    "final",
    "amended",
    "corrected",
    "cancelled",
    "entered-in-error",
    "unknown",
)
"""Of observation-status, which RiskAssessment.status is bound to."""
CARD: Final = {"uuid", "summary", "detail", "indicator", "source", "suggestions", "selectionBehavior", "links"}
"""What a card may have; summary, indicator and source it must."""


def patient(**more: Any) -> dict[str, Any]:
    return {
        "subject_id": 7,
        "prediction_time": "2026-01-31T10:00:00",
        "tasks": {"death": RISK, "los": PLAIN, "readmission": REFUSED},
        "pattern": "110",
        "absent": ["image"],
        "training_patients": 212,
        "training_patients_are": "with this pattern",
        "ignored_later_events": 3,
        **more,
    }


def answer(*patients: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": "crl",
        "use": "research use only; not a medical device",
        "modalities": ["basics", "labs", "image"],
        "patients": list(patients),
        "notes": ["modality 'image': nobody has it"],
        "spread_is": "",
    }


UNREAD: Final = {
    name: value
    for name, value in patient(absent=None, pattern=None, subject="P-1", sample="2").items()
    if not name.startswith("training_patients")
} | {"tasks": dict.fromkeys(("death", "los"), REFUSED)}
"""As the service answers of whom it reads no records."""


def test_a_bundle_is_one_of_r4_and_of_r5() -> None:
    bundle = bundle_of(answer(patient(), UNREAD, patient(prediction_time="31/01/2026 10:00")), AT)
    assert bundle == bundle_of(answer(patient(), UNREAD, patient(prediction_time="31/01/2026 10:00")), AT)
    for reader in (BundleR4B, BundleR5):
        reader.model_validate({**bundle, "entry": []})
    *risks, provenance = [entry["resource"] for entry in bundle["entry"]]
    assert len(risks) == 3
    for resource in risks:
        assert resource["status"] in STATUSES
        for reader in (RiskAssessmentR4B, RiskAssessmentR5):
            reader.model_validate(resource)
    for reader in (ProvenanceR4B, ProvenanceR5):
        reader.model_validate(provenance)
    names = [entry["fullUrl"] for entry in bundle["entry"]]
    assert [target["reference"] for target in provenance["target"]] == names[:-1]
    assert len(set(names)) == 4


def test_probabilities_are_in_percent_and_refusals_have_none() -> None:
    (found, unread) = [entry["resource"] for entry in bundle_of(answer(patient(), UNREAD), AT)["entry"][:2]]
    death, los, readmission = found["prediction"]
    assert (death["outcome"], death["probabilityDecimal"]) == ({"text": "death"}, 16.25)
    assert "18.0 % before the rectifier" in death["rationale"]
    assert "15.0 % and 21.0 %: their disagreement, no confidence interval" in death["rationale"]
    assert los == {"outcome": {"text": "los"}, "probabilityDecimal": 30.0}
    assert readmission == {"outcome": {"text": "readmission"}, "rationale": f"refused: {REFUSED['refused']}"}
    assert found["occurrenceDateTime"] == "2026-01-31"  # FHIR has no time of day without a zone
    assert found["subject"] == {"identifier": {"value": "7"}}
    assert (unread["subject"], unread["identifier"]) == ({"identifier": {"value": "P-1"}}, [{"value": "2"}])
    notes = " ".join(note["text"] for note in found["note"])
    for words in (
        "Research use only; not a medical device.",
        "absent: image.",
        "212 training patients",
        "nobody has it",
    ):
        assert words in notes


def test_the_referee_refuses_what_is_no_fhir() -> None:
    resource = bundle_of(answer(patient()), AT)["entry"][0]["resource"]
    for change in ({"occurrenceDateTime": "2026-01-31T10:00:00"}, {"status": None}, {"risk": 0.2}):
        for reader in (RiskAssessmentR4B, RiskAssessmentR5):
            with pytest.raises(ValueError):
                reader.model_validate({**resource, **change})


def card_of(of: dict[str, Any]) -> dict[str, Any]:
    found = cards_of(answer(of))
    assert set(found) == {"cards"}
    (card,) = found["cards"]
    assert {"summary", "indicator", "source"} <= set(card) <= CARD
    assert card["indicator"] == "info"
    assert card["source"]["label"]
    assert len(card["summary"]) < 140
    assert "research use only" in card["summary"]
    return card  # type: ignore[no-any-return]


def test_a_card_says_risks_what_is_absent_and_what_it_is_for() -> None:
    card = card_of(patient())
    assert card["summary"] == "death 16.2 %, los 30.0 %, readmission refused; absent: image; research use only"
    assert "- **death** 16.2 % (rectified; 18.0 % before the rectifier" in card["detail"]
    assert "- **readmission** refused: the run does not ask this at this time" in card["detail"]
    assert "Research use only; not a medical device." in card["detail"]
    assert "records were not read" in card_of(UNREAD)["summary"]


@pytest.mark.parametrize("tasks", [1, 2, 5, 40])
@pytest.mark.parametrize("absent", [0, 1, 3, 30])
def test_a_summary_has_fewer_than_140_characters_whatever_the_names(tasks: int, absent: int) -> None:
    names = {f"an outcome with a rather long name {i}": RISK for i in range(tasks)}
    gone = [f"a modality with a rather long name {i}" for i in range(absent)]
    summary = card_of(patient(tasks=names, absent=gone))["summary"]
    assert "absent" in summary
    if absent == 30:
        assert "30 modalities absent" in summary
    if tasks == 40:
        assert "40 tasks" in summary


def test_a_summary_uses_the_room_there_is() -> None:
    lengths = [len(card_of(patient(absent=["m" * n]))["summary"]) for n in range(1, 120)]
    assert max(lengths) == 139


def test_names_are_no_markup() -> None:
    detail = card_of(patient(tasks={"a_b*<b>": PLAIN}))["detail"]
    assert "- **a\\_b\\*\\<b\\>** 30.0 %" in detail


def test_a_card_of_several_is_refused() -> None:
    with pytest.raises(SourceError, match="one patient"):
        cards_of(answer(patient(), patient()))
