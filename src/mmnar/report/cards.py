"""A method's card as text and as Markdown, and its settings as text."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from mmnar.config import PRESETS, RunConfig, meanings


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


UNSAID: Final = "(its configuration does not say)"
"""Of a method of another package whose docstring has no such line."""


def settings_text(own: Any, deep: bool) -> str:
    """Every key of ``mmnar train`` for a method: its default, its choices, what it means.

    Args:
        own: The method's own configuration, a dataclass.
        deep: Whether it is trained by the common loop, which ``train.…`` are settings of.

    >>> from mmnar.config import RectifierConfig
    >>> print(settings_text(RectifierConfig(), deep=False).splitlines()[3].strip())
    model.kappas = 0.0,0.01,0.02,0.03,0.05
    """
    common = [row for row in settings_of(RunConfig(), "") if deep or not row[0].startswith("train.")]
    blocks = [("Its settings:", list(settings_of(own, "model."))), ("Settings of every run:", common)]
    return "\n".join(line for title, rows in blocks for line in (title, *(_setting(*row) for row in rows)))


def settings_of(config: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of each key of a (nested) dataclass."""
    said, hints = meanings(type(config)), get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value, meaning = getattr(config, f.name), said.get(f.name, UNSAID).replace("``", "")
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{where}{f.name}.")
            continue
        if isinstance(value, dict):
            for name, item in value.items():
                yield f"{where}{f.name}.{name}", _word(item), meaning
            continue
        choices = f" One of: {', '.join(get_args(hints[f.name]))}." if get_origin(hints[f.name]) is Literal else ""
        yield f"{where}{f.name}", _word(value), meaning + choices


def _word(value: Any) -> str:
    """A default as the command takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or '""'
    return {"True": "true", "False": "false", "None": "none", "": '""'}.get(str(value), str(value))


def _setting(key: str, default: str, meaning: str) -> str:
    head = f"  {key} = {default}"
    if len(head) > 32:
        return head + "\n" + textwrap.fill(meaning, 118, initial_indent=" " * 34, subsequent_indent=" " * 34)
    return textwrap.fill(meaning, 118, initial_indent=f"{head:34}", subsequent_indent=" " * 34)


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
    if extra := card.get("extra"):
        facts.append(f"Needs the extra mmnar[{extra}] and a file of weights of your own (model.weights)")
    if card.get("keeps_patients"):
        facts.append("The fitted model holds vectors of training patients: its file is patient data")
    for preset in PRESETS:
        if card.get(preset):
            settings = ", ".join(f"{key}={value}" for key, value in card[preset].items())
            facts.append(f"preset={preset}: {settings}")
    return facts
