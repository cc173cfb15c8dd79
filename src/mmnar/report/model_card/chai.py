"""The card as an Applied Model Card of the Coalition for Health AI, version 0.2 (XML).

Elements, their order and their number follow https://mc.chai.org/v0.2/schema.xsd; values of metrics are JSON of the
kinds that the published cards use. Texts may hold Markdown there, so ours are escaped. No signature is made, and no
name of an EHR is claimed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from xml.etree import ElementTree as ET

from mmnar.evaluation.result import Estimate
from mmnar.render.markdown import escaped
from mmnar.render.wording import listed
from mmnar.report.model_card.answers import answers
from mmnar.report.model_card.blanks import DEVELOPERS, ETHICS, HOSPITAL, Blank
from mmnar.report.model_card.figures import Figures, fairness, safety, usefulness
from mmnar.report.model_card.fitting import after
from mmnar.report.model_card.inputs import CardInputs
from mmnar.report.model_card.limits import limits
from mmnar.report.model_card.traits import trait_sentences
from mmnar.report.parts.cohort import questions_of, source_of

NAMESPACE: Final = "https://mc.chai.org/v0.2/schema.xsd"
NOTE: Final = (
    "Filled from a run by mmnar; it certifies nothing. What is to be filled says by whom. Names in quotes are sections "
    "of card.html beside this file."
)
LEVEL: Final = 95
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""

Content = str | Blank | Sequence["Node"]
Node = tuple[str, "Content"]


def chai_xml(card: CardInputs) -> str:
    """The whole document."""
    root = _element("AppliedModelCard", _card(card))
    root.set("xmlns", NAMESPACE)
    ET.indent(root, "\t")
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {NOTE} -->\n{text}\n'


def _element(name: str, content: Content) -> ET.Element:
    of = ET.Element(name)
    if isinstance(content, str | Blank):
        of.text = _NO_XML.sub("\ufffd", content if isinstance(content, str) else f"[{content}]")
    else:
        of.extend(_element(inner, below) for inner, below in content)
    return of


def _card(card: CardInputs) -> list[Node]:
    said = answers(card)
    return [
        ("BasicInfo", _basic(card)),
        ("ReleaseInfo", _release(card)),
        ("ModelSummary", _summary(card)),
        ("UsesAndDirections", _uses(card)),
        ("Warnings", _warnings(card)),
        ("TrustIngredients", [("AISystemFacts", _facts(card, said)), ("TransparencyInformation", _transparency())]),
        ("KeyMetrics", _metrics(card)),
        ("Resources", _resources(card)),
        ("Bibliography", ""),
    ]


def _basic(card: CardInputs) -> list[Node]:
    return [
        ("ModelName", escaped(f"{card.name} for {listed(list(card.home.result.tasks))}")),
        ("ModelDeveloper", Blank(DEVELOPERS, "who they are")),
        ("DeveloperContact", Blank(DEVELOPERS, "how to reach them")),
    ]


def _release(card: CardInputs) -> list[Node]:
    return [
        ("ReleaseStage", Blank(DEVELOPERS, "stage of release; the run itself is research")),
        ("ReleaseDate", Blank(DEVELOPERS, "date of release")),
        ("ReleaseVersion", escaped("; ".join(f"{what} {value}" for what, value in card.fingerprints.items()))),
        ("GlobalAvailability", Blank(DEVELOPERS, "where it may be had")),
        ("RegulatoryApproval", Blank(DEVELOPERS, "approvals, or that there are none; a run has none")),
    ]


def _summary(card: CardInputs) -> list[Node]:
    words = [card.name, *card.home.result.tasks, *(name for name, _, _ in card.modalities)]
    return [
        ("Summary", _lines([NOTE, *usefulness(card).words])),
        ("Keywords", [("Keyword", escaped(word)) for word in dict.fromkeys(words)]),
    ]


def _uses(card: CardInputs) -> list[Node]:
    people = f"Learned from patients of {source_of(card.home.manifest)}, which does not say for whom it is meant."
    return [
        ("IntendedUseAndWorkflow", Blank(HOSPITAL, "what decision the risk is to help with, and where in care")),
        ("PrimaryIntendedUsers", Blank(HOSPITAL, "who sees the risk")),
        ("HowToUse", Blank(HOSPITAL, "what somebody does about a high risk")),
        ("TargetedPatientPopulation", f"{escaped(people)} [{Blank(HOSPITAL, 'whom it may be asked about')}]"),
        ("CautionedOutOfScopeSettings", Blank(DEVELOPERS, "settings and decisions it must be kept from")),
    ]


def _warnings(card: CardInputs) -> list[Node]:
    known = _lines([*fairness(card).words, *trait_sentences(card)])
    return [
        ("KnownRisksAndLimitations", _lines(limits(card))),
        ("KnownBiasesOrEthicalConsiderations", f"{known}\n\n[{Blank(DEVELOPERS, 'what else is known')}]"),
        ("ClinicalRiskLevel", Blank(HOSPITAL, "how grave a wrong risk is")),
    ]


def _facts(card: CardInputs, said: Mapping[str, str]) -> list[Node]:
    outcomes = [f"{t}: {q['outcome']}; asked {q['asked_at']}" for t, q in questions_of(card.home.manifest).items()]
    inputs = [f"{name}: {kind}, {len(features)} named features" for name, kind, features in card.modalities]
    method = [card.run.card.get("title", card.name), card.run.card.get("paper", ""), *after(card)]
    return [
        ("OutcomesAndOutputs", _lines(["A risk between 0 and 1 for each outcome", *outcomes])),
        ("ModelType", _lines(map(str, method))),
        ("FoundationModels", Blank(DEVELOPERS, "encoders of notes or images that were trained elsewhere, if any")),
        ("InputDataSource", escaped(said["5a"])),
        ("OutputAndInputDataTypes", _lines(["Output: a number for each outcome", *inputs])),
        ("DevelopmentDataCharacterization", _lines([*_people(card), said["12a"], said["21"]])),
        (
            "BiasMitigationApproaches",
            f"None in fitting; gaps were measured. [{Blank(DEVELOPERS, 'what else was done')}]",
        ),
        ("OngoingMaintenance", Blank(HOSPITAL, "who watches inputs, risks and groups, and when it is trained again")),
        ("Security", Blank(HOSPITAL, "how the model and its inputs are kept")),
        ("Transparency", _lines([f"{said['18f']} {said['22']}".replace("“", '"').replace("”", '"')])),
    ]


def _people(card: CardInputs) -> list[str]:
    """Groups of each attribute with their share of the samples."""
    atlas = card.home.atlas
    return [
        f"{of.name.replace('_', ' ')}: "
        + ", ".join(f"{row.group} {100 * row.n / atlas.samples:.1f} %" for row in of.rows if row.n is not None)
        for of in atlas.breakdowns
    ]


def _transparency() -> list[Node]:
    return [
        ("FundingSource", Blank(DEVELOPERS, "who paid")),
        ("ThirdPartyInformation", Blank(DEVELOPERS, "parts or data of others")),
        ("StakeholdersConsulted", Blank(DEVELOPERS, "who was asked, patients included")),
    ]


def _metrics(card: CardInputs) -> list[Node]:
    named = {"UsefulnessUsabilityEfficacy": usefulness, "FairnessEquity": fairness, "SafetyReliability": safety}
    return [(name, list(_metric(card, of(card)))) for name, of in named.items()]


def _metric(card: CardInputs, figures: Figures) -> Iterator[Node]:
    result, there = card.home.result, card.elsewhere
    kind = "Internal validation by cross-fitting, out of fold; no test fold" if result.out_of_fold else "Test fold"
    asked = answers(card)["21"]
    outside = f"; and every patient of another store, {source_of(there.manifest)}" if there else ""
    results = [
        ("MetricResult", [("Label", escaped(label)), ("ValueJson", value_json(e, share))])
        for label, e, share in figures.numbers
    ]
    none = [("MetricResult", [("Label", "None is given"), ("ValueJson", "null")])]
    yield "MetricGoal", escaped(figures.goal)
    yield "Results", results or none
    yield "Interpretation", _lines(figures.words)
    yield "TestType", escaped(f"{kind}{outside}; retrospective")
    yield "TestingDataDescription", escaped(asked)
    yield "ValidationProcessAndJustification", escaped(answers(card)["12a"])


def value_json(estimate: Estimate, share: bool) -> str:
    """A number as the published cards write it; null where it is refused, the label then says why.

    >>> value_json(Estimate(0.8, 0.7, 0.9), False)
    '{"kind":"estimate_ci","estimate":0.8,"lower":0.7,"upper":0.9,"level":95}'
    >>> value_json(Estimate(0.125), True), value_json(Estimate(None, reason="few"), True)
    ('{"kind":"single","value":12.5,"unit":"%"}', 'null')
    """
    if estimate.value is None:
        return "null"
    times, unit = (100, {"unit": "%"}) if share else (1, {})
    value, low, high = (
        None if v is None else round(times * v, 6) for v in (estimate.value, estimate.low, estimate.high)
    )
    if low is None or high is None:
        found = {"kind": "single", "value": value, **unit}
    else:
        found = {"kind": "estimate_ci", "estimate": value, "lower": low, "upper": high, "level": LEVEL, **unit}
    return json.dumps(found, separators=(",", ":"))


def _resources(card: CardInputs) -> list[Node]:
    return [
        ("EvaluationReferences", escaped(f"Source of the method: {card.run.card.get('paper', 'none')}")),
        ("ClinicalTrial", Blank(DEVELOPERS, "trials of this model; the run knows none")),
        ("PeerReviewedPublications", Blank(DEVELOPERS, "publications on this model")),
        ("ReimbursementStatus", Blank(HOSPITAL, "whether anybody pays for its use")),
        ("PatientConsentOrDisclosure", Blank(ETHICS, "consent, or its waiver, and what patients are told")),
    ]


def _lines(texts: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {escaped(text)}" for text in texts if text)
