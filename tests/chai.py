"""The structure of an Applied Model Card 0.2, told from its public schema (https://mc.chai.org/v0.2/schema.xsd), and a
reader of that schema for whoever has it: elements in a fixed order, each text or elements again."""

from __future__ import annotations

from typing import Any, Final
from xml.etree import ElementTree as ET

XS: Final = "{http://www.w3.org/2001/XMLSchema}"
NAMESPACE: Final = "https://mc.chai.org/v0.2/schema.xsd"
TEXT: Final = ""
METRIC: Final = {
    "MetricGoal": TEXT,
    "Results": {"MetricResult+": {"Label": TEXT, "ValueJson": TEXT}},
    "Interpretation": TEXT,
    "TestType": TEXT,
    "TestingDataDescription": TEXT,
    "ValidationProcessAndJustification": TEXT,
}
CARD: Final[dict[str, Any]] = {
    "BasicInfo": dict.fromkeys(("ModelName", "ModelDeveloper", "DeveloperContact"), TEXT),
    "ReleaseInfo": {
        **dict.fromkeys(("ReleaseStage", "ReleaseDate", "ReleaseVersion", "GlobalAvailability"), TEXT),
        "EHRCompatibility?": {"EHR*": TEXT},
        "RegulatoryApproval?": TEXT,
    },
    "ModelSummary": {"Summary": TEXT, "Keywords": {"Keyword*": TEXT}},
    "UsesAndDirections": dict.fromkeys(
        (
            "IntendedUseAndWorkflow",
            "PrimaryIntendedUsers",
            "HowToUse",
            "TargetedPatientPopulation",
            "CautionedOutOfScopeSettings",
        ),
        TEXT,
    ),
    "Warnings": dict.fromkeys(
        ("KnownRisksAndLimitations", "KnownBiasesOrEthicalConsiderations", "ClinicalRiskLevel"), TEXT
    ),
    "TrustIngredients": {
        "AISystemFacts": dict.fromkeys(
            (
                "OutcomesAndOutputs",
                "ModelType",
                "FoundationModels?",
                "InputDataSource",
                "OutputAndInputDataTypes",
                "DevelopmentDataCharacterization",
                "BiasMitigationApproaches",
                "OngoingMaintenance",
                "Security?",
                "Transparency?",
            ),
            TEXT,
        ),
        "TransparencyInformation": dict.fromkeys(
            ("FundingSource", "ThirdPartyInformation?", "StakeholdersConsulted"), TEXT
        ),
    },
    "KeyMetrics": {"UsefulnessUsabilityEfficacy": METRIC, "FairnessEquity": METRIC, "SafetyReliability": METRIC},
    "Resources": dict.fromkeys(
        (
            "EvaluationReferences?",
            "ClinicalTrial?",
            "PeerReviewedPublications",
            "ReimbursementStatus?",
            "PatientConsentOrDisclosure",
        ),
        TEXT,
    ),
    "Bibliography": TEXT,
    "Signature?": TEXT,
}
"""Element → its content; ``?``: may be absent, ``*``: any number, ``+``: at least one."""


def read_schema(text: str) -> dict[str, Any]:
    """The same of the schema's own text."""
    root = ET.fromstring(text)
    assert root.get("targetNamespace") == NAMESPACE
    assert root.get("elementFormDefault") == "qualified"
    types = {of.get("name"): of for of in root.findall(f"{XS}complexType")}
    (top,) = root.findall(f"{XS}element")
    assert top.get("name") == "AppliedModelCard"
    return _content(top.find(f"{XS}complexType"), types)


def _content(of: ET.Element | None, types: dict[str | None, ET.Element]) -> dict[str, Any]:
    assert of is not None
    (sequence,) = of
    assert sequence.tag == f"{XS}sequence"
    times = {("1", "1"): "", ("0", "1"): "?", ("0", "unbounded"): "*", ("1", "unbounded"): "+"}
    found: dict[str, Any] = {}
    for element in sequence:
        # of a sequence of one element any number may be said of either
        many = [
            (element if element.get(k) else sequence).get(k, "1") for k in ("minOccurs", "maxOccurs")
        ]  # fmt: skip
        name = element.get("name") or str(element.get("ref")).removeprefix("ds:")
        kind = str(element.get("type", "xs:string"))
        inner = TEXT if kind == "xs:string" else _content(types[kind.removeprefix("mc:")], types)
        found[name + times[many[0], many[1]]] = inner
    return found


def check(text: str) -> ET.Element:
    """A card that has this structure.

    Raises:
        AssertionError: An element is missing, too much, out of order, or holds what it must not; names it.
    """
    root = ET.fromstring(text)
    assert root.tag == f"{{{NAMESPACE}}}AppliedModelCard"
    _check(root, CARD)
    return root


def _check(of: ET.Element, wanted: dict[str, Any] | str) -> None:
    name = of.tag.rpartition("}")[2]
    assert of.tag.startswith(f"{{{NAMESPACE}}}"), name
    assert not of.attrib, name
    if isinstance(wanted, str):
        assert not len(of), name
        return
    assert not (of.text or "").strip(), name
    left = list(of)
    for key, content in wanted.items():
        child, least, most = key.rstrip("?*+"), "?*".find(key[-1]) < 0, key[-1] in "*+"
        mine = 0
        while left and left[0].tag == f"{{{NAMESPACE}}}{child}" and (most or not mine):
            _check(left.pop(0), content)
            mine += 1
        assert mine or not least, f"{child} is missing in {name}"
    assert not left, f"{left[0].tag} in {name}"
