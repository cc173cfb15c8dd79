"""What a run has not shown, by rule from what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmnar.evaluation.result import Result
from mmnar.render.wording import listed, metric_text
from mmnar.report.model_card.inputs import ELSEWHERE, INPUTS, MISSING, PEOPLE, CardInputs
from mmnar.report.model_card.traits import TRAITS, silent, traits_of
from mmnar.report.parts.cohort import attrition
from mmnar.report.parts.summary import OUT_OF_FOLD, alarms


def limits(card: CardInputs) -> list[str]:
    """Sentences, the gravest first."""
    return list(_limits(card))


def _limits(card: CardInputs) -> Iterator[str]:
    result = card.home.result
    yield from alarms(result)
    if card.simulated:
        yield "The patients are simulated: nothing here was shown of people."
    if result.out_of_fold:
        yield OUT_OF_FOLD
    yield "Nobody acted on these risks. That patients fare better where somebody does was not shown."
    yield _elsewhere(card)
    yield "No other model stands on this card: that it is better than a simpler one is not shown here (mmnar report)."
    if card.control:
        yield "Its method is a control: it was made to be compared with, not to be used."
    if not result.out_of_fold and not card.config["split"]["by"]:
        yield "The judged were drawn at random from the years of those learned from. Later years were not shown."
    yield "Intervals are of the patients judged, for this fitted model: another training would give other risks."
    yield from card.regime
    yield from [card.run.refit] * bool(card.run.refit)
    yield from _few(result)
    yield from _refused(card)
    yield from _groups(card)
    if said := silent(card):
        yield f"{said} See {INPUTS}."
    yield f"Patients with a pattern that is not listed in {MISSING} had fewer than 10 patients to be learned from."
    if any(step.tag for flow in attrition(card.home.manifest).flows for step in flow.steps):
        yield f"A rule of the cohort uses hindsight ({PEOPLE}): at the bedside nobody can tell who passes it."


def _elsewhere(card: CardInputs) -> str:
    if card.elsewhere is None:
        return "It was judged on patients of its own source alone. How it does at another hospital was not shown."
    return f"One other store was judged ({ELSEWHERE}). How it does at a third hospital was not shown."


def _few(result: Result) -> Iterator[str]:
    lacking: list[tuple[str, str, str]] = []
    for task, said in result.decisions.items():
        lacking += [("", enough.what, task) for enough in said.enough if not enough.suffices]
    yield from (f"Too few patients to know of {tasks}: {what}." for _, what, tasks in _joined(lacking))


def _refused(card: CardInputs) -> Iterator[str]:
    found: list[tuple[str, str, str]] = []
    for task, entry in card.entries(card.home).items():
        refused = {name: of.reason for name, of in entry.metrics.items() if of.value is None}
        found += [(reason, metric_text(name).label, task) for name, reason in refused.items()]
    yield from (f"Not given of {tasks}: {metrics}: {reason}." for reason, metrics, tasks in _joined(found))


def _groups(card: CardInputs) -> Iterator[str]:
    told = traits_of(card.attributes)
    if unknown := [trait.lower() for trait in TRAITS if trait not in told]:
        yield f"Gaps were not looked for by {listed(unknown)}: the store has no such attribute."
    found: list[tuple[str, str, str]] = []
    for task, entry in card.entries(card.home).items():
        each = {} if entry.decided is None else entry.decided.fairness
        found += [(of.reason, name.replace("_", " "), task) for name, of in each.items() if of.reason]
    yield from (f"Gaps of {tasks} by {names} are not given: {reason}." for reason, names, tasks in _joined(found))


def _joined(found: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """(reason, things, tasks) of (reason, thing, task): things of the same tasks together, in words.

    >>> list(_joined([("few", "a", "x"), ("few", "b", "x"), ("few", "a", "y"), ("few", "b", "y"), ("one", "c", "y")]))
    [('few', 'a and b', 'x and y'), ('one', 'c', 'y')]
    """
    tasks: dict[tuple[str, str], list[str]] = {}
    for reason, thing, task in found:
        tasks.setdefault((reason, thing), []).append(task)
    things: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, thing), of in tasks.items():
        things.setdefault((reason, tuple(of)), []).append(thing)
    for (reason, whose), names in things.items():
        yield reason, listed(names), listed(whose)
