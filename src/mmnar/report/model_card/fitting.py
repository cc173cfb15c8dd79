"""How the model came to be: its method, its settings, what was hidden, what identifies it; who was learned from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from mmnar.evaluation.atlas import pattern_label
from mmnar.render.blocks import Block, Cell, Code, Fact, Facts, Fold, Paragraph, Table, named, pretty, table_of
from mmnar.render.wording import number, percent, some
from mmnar.report.model_card.inputs import CardInputs
from mmnar.report.parts.models import versions_of

RULES: Final = {
    "lattice": "one offset per observation pattern, shrunk along patterns that share modalities (lattice)",
    "threshold": "one offset per observation pattern that is frequent enough (threshold)",
}
LEARNED: Final = (
    "Patients learned from, by what they have; to the nearest ten. Patterns of fewer than 10 such patients are not "
    "listed: the risk of a patient with one of these rests on what was learned from patients with others."
)
NOBODY: Final = "No pattern has 10 patients who were learned from."


def fitting(card: CardInputs) -> Iterator[Block]:
    """Method, validation, correction, what was hidden, every setting."""
    yield Facts(tuple(Fact(name, values) for name, values in _facts(card) if values))
    if card.regime:
        yield Paragraph(f"Made under a regime: {' '.join(card.regime)}", "warning")
    if card.run.refit:
        yield Paragraph(card.run.refit, "warning")
    yield Fold("Every setting", (Code(pretty(dict(card.config))),), look="long")


def _facts(card: CardInputs) -> Iterator[tuple[str, tuple[str, ...]]]:
    method, config = card.run.card, card.config
    yield "Method", (f"{card.name}: {method.get('title', 'no title')}",)
    yield "Source of the method", (str(method.get("paper", "")),)
    yield "Kind", ("a control: it is there to be held against others" if card.control else "a method",)
    yield "Where a modality is absent", (str(method.get("missing", "")),)
    yield "Differs from its source", tuple(map(str, method.get("deviations", ())))
    if method.get("keeps_patients"):
        yield "Privacy", ("The fitted model holds vectors of training patients: its file is patient data.",)
    if card.run.parameters is not None:
        yield "Trainable numbers", (f"{card.run.parameters:,}",)
    yield "Folds", (folds(config),)
    yield "Fits", (fits(config),)
    yield "Seeds", (f"{config.get('seed')} of training, {config['split']['seed']} of the split",)
    yield "After training", tuple(after(card))
    yield "Time", (f"{number(card.run.seconds, 0)} s of training",)


def folds(config: Any) -> str:
    """Who was judged, by the configuration of the split.

    >>> folds({"split": {"by": "", "held_out": [], "folds": 1, "fold": 0, "test": 0.25}})
    'A random quarter of the patients is the test fold; all others were learned from. No patient is in both.'
    """
    split = config["split"]
    apart = "all others were learned from. No patient is in both."
    if split["by"]:
        values = ", ".join(map(str, split["held_out"]))
        return f"Patients whose {split['by']} is {values} are the test fold; {apart}"
    if split["folds"] > 1:
        return f"Fold {split['fold'] + 1} of {split['folds']} is the test fold; {apart}"
    if split["test"] == 0:
        return "No test fold: all patients were learned from, each judged by the one fit that never saw the patient."
    share = "quarter" if split["test"] == 0.25 else f"share of {split['test']:g}"
    return f"A random {share} of the patients is the test fold; {apart}"


def fits(config: Any) -> str:
    """How many fits stand behind a risk."""
    one = "a single fit" if config.get("ensemble", 1) == 1 else f"an ensemble of {config['ensemble']}"
    tune = percent(config["split"]["tune"], 0)
    if config.get("fit") == "single":
        return f"One ({one}), stopped and tuned on {tune} of the patients."
    return (
        f"Cross-fitting: {some(config['fits'], 'fit')}, each {one} on other patients, stopped and tuned on {tune} of "
        "them; a risk is the mean of all."
    )


def after(card: CardInputs) -> list[str]:
    """Corrections of the fitted model's risks."""
    said = []
    if card.platt:
        said.append("Platt's line, fitted on risks out of fold, is part of the model: its loss is no proper score")
    rule = card.config.get("rectifier", {}).get("rule", "none")
    seen = "figures are given with and without it" if card.rectified else "figures are given without it"
    if rule in RULES and card.run.rectifier is not None:
        origin = "another store's outcomes" if card.run.refit else "risks out of fold"
        said.append(f"the rectifier, {RULES[rule]}, fitted on {origin}; {seen}")
    return said or ["no correction"]


def learned_table(card: CardInputs) -> Block:
    """How many patients with each pattern were learned from."""
    if not card.learned:
        return Paragraph(NOBODY, "warning")
    names = [name for name, _, _ in card.modalities]
    ordered = sorted(card.learned.items(), key=lambda item: (-item[1], item[0]))
    body = [[named(pattern_label(list(here), names)), Cell(f"{n:,}")] for here, n in ordered]
    return table_of(LEARNED, ("What a patient has", "Patients learned from"), body, look="narrow")


def identity(card: CardInputs) -> Iterator[Block]:
    """Fingerprints and versions."""
    yield _hashes(card)
    yield Paragraph(f"Versions: {versions_of(card.versions).text}")


def _hashes(card: CardInputs) -> Table:
    body = [[named(what), Cell(value, "")] for what, value in card.fingerprints.items()]
    return table_of("What this card is about, to the bit.", ("", "Fingerprint"), body, look="narrow")
