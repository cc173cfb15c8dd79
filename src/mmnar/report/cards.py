"""A method's card as text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def card_text(name: str, card: Mapping[str, Any]) -> str:
    """Everything a reader must know before believing a method's numbers.

    >>> card = {"title": "Mean", "paper": "A control", "missing": "not seen", "deviations": ("None.",)}
    >>> print(card_text("mean", card))
    mean: Mean
    A control
    Absent modalities: not seen
      - None.
    """
    lines = [f"{name}: {card['title']}", card["paper"], f"Absent modalities: {card['missing']}", *_facts(card)]
    return "\n".join([*lines, *(f"  - {deviation}" for deviation in card["deviations"])])


def card_markdown(name: str, card: Mapping[str, Any]) -> str:
    """The same for the documentation."""
    lines = [f"## {card['title']} (`{name}`)", "", card["paper"] + ".", "", f"*Absent modalities*: {card['missing']}."]
    lines += [f"\n{fact}." for fact in _facts(card)]
    deviations = [f"- {deviation}" for deviation in card["deviations"]]
    return "\n".join([*lines, *(["", "Deviations and open points:", "", *deviations] if deviations else [])])


def _facts(card: Mapping[str, Any]) -> list[str]:
    """What only some cards say."""
    facts = []
    if card.get("needs"):
        facts.append(f"Needs a modality of kind {' and '.join(card['needs'])}")
    if card.get("keeps_patients"):
        facts.append("The fitted model holds vectors of training patients: its file is patient data")
    if card.get("original"):
        settings = ", ".join(f"{key}={value}" for key, value in card["original"].items())
        facts.append(f"preset=original: {settings}")
    return facts
