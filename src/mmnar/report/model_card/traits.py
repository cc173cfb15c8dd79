"""Which personal traits of a patient are among the inputs, by names of features, and by which groups are judged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from mmnar.render.blocks import Cell, Table, named, table_of
from mmnar.report.model_card.inputs import CardInputs

TRAITS: Final[Mapping[str, frozenset[str]]] = {
    "Age": frozenset({"age", "ages", "birth", "birthdate", "birthday", "dob", "yob"}),
    "Sex or gender": frozenset({"sex", "gender", "male", "female", "woman", "man"}),
    "Race or ethnicity": frozenset({"race", "races", "ethnicity", "ethnic", "hispanic", "ancestry"}),
    "Insurance": frozenset({"insurance", "insurer", "payer", "payor", "medicaid", "medicare"}),
    "Language": frozenset({"language", "lang", "interpreter"}),
    "Marital status": frozenset({"marital", "married", "spouse"}),
    "Religion": frozenset({"religion", "faith"}),
    "Home address": frozenset({"zip", "zipcode", "postcode", "postal", "address", "deprivation", "rural"}),
    "Income or education": frozenset({"income", "employment", "occupation", "education", "poverty"}),
}
UNNAMED: Final = {"embedding": "vectors", "hashed": "counts of words", "image": "images", "series": ""}
BY_NAME: Final = (
    "Found by the names of features and attributes; a trait behind another name is not seen. An attribute tells groups "
    "apart when risks are judged, and is no input by itself."
)


def traits_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Trait → which of the names tell it.

    >>> traits_of(["anchorAge", "coverage", "race_group", "sodium_max"])
    {'Age': ['anchorAge'], 'Race or ethnicity': ['race_group']}
    """
    found: dict[str, list[str]] = {}
    for name in names:
        parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
        for trait, known in TRAITS.items():
            if parts & known:
                found.setdefault(trait, []).append(name)
    return found


def inputs_by_trait(card: CardInputs) -> dict[str, list[str]]:
    """Trait → features that tell it, with their modality."""
    found: dict[str, list[str]] = {}
    for modality, _, features in card.modalities:
        for trait, names in traits_of(features).items():
            found.setdefault(trait, []).extend(f"{name} ({modality})" for name in names)
    return found


def silent(card: CardInputs) -> str:
    """What modalities without named features may tell; "" where there are none."""
    which = [f"{name} ({UNNAMED[kind]})" for name, kind, features in card.modalities if not features]
    if not which:
        return ""
    return f"Not looked into: {', '.join(which)}. Text and images can tell sex, age and race though no feature says so."


def traits_table(card: CardInputs) -> Table:
    """One row a trait: inputs that tell it, and the attribute by which groups are judged."""
    used, told = inputs_by_trait(card), traits_of(card.attributes)
    body = [
        [
            named(trait),
            Cell(_shown(used[trait]), "") if trait in used else Cell("no input by name", "muted"),
            Cell(", ".join(told[trait]), "") if trait in told else Cell("no", "muted"),
        ]
        for trait in TRAITS
    ]
    return table_of("Personal traits among the inputs.", ("Trait", "Inputs", "Groups judged by"), body)


def trait_sentences(card: CardInputs) -> list[str]:
    """The same in sentences."""
    used = inputs_by_trait(card)
    said = [f"{trait}: {_shown(used[trait])}" if trait in used else f"{trait}: no input by name" for trait in TRAITS]
    return [*said, *([silent(card)] if silent(card) else [])]


MOST: Final = 8


def _shown(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + rest
