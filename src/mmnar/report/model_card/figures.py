"""The numbers of a card by what they are about: use, fairness, safety; and sentences that follow from them by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from mmnar.evaluation.decided import Decided
from mmnar.evaluation.result import Estimate
from mmnar.render.wording import metric_text, p_value, threshold_text
from mmnar.report.model_card.inputs import CardInputs, Judged
from mmnar.report.parts.gaps import RATES, gap_sentences
from mmnar.report.parts.performance import HEADLINE
from mmnar.report.parts.summary import OUT_OF_FOLD, panel_sentences, summarise

AT: Final = {"net_benefit": "net benefit", "sensitivity": "sensitivity", "ppv": "PPV", "alerts": "alerts of all"}
SHARES: Final = ("sensitivity", "ppv", "alerts")
CALIBRATED: Final = {
    "slope": "Calibration slope",
    "intercept": "Calibration intercept",
    "o_to_e": "Observed over expected",
    "ici": "Mean distance of risks from the calibration curve (ICI)",
}
Number = tuple[str, Estimate, bool]
"""Label, number, and whether it is a share to be shown in percent."""
Maker = Callable[[Judged, str], Iterator[Number]]
"""Patients judged and the model's name → numbers."""


@dataclass(frozen=True)
class Figures:
    """Numbers of one kind, those refused with the reason in their label."""

    goal: str
    numbers: tuple[Number, ...]
    words: tuple[str, ...]


def usefulness(card: CardInputs) -> Figures:
    """Metrics of each outcome, and what alerts at the main threshold are worth."""
    goal = (
        "Whether risks tell patients with an outcome from those without, and whether alerts at a threshold are of use"
    )
    return Figures(goal, _both(card, _useful), tuple(_summary(card)))


def fairness(card: CardInputs) -> Figures:
    """Gaps between groups at the main threshold."""
    goal = "Whether patients of different groups are found, missed and alerted for nothing alike"
    judged = _decided(card.home, card.name)
    words = [f"{task}: {said}" for task, of in judged.items() for said in gap_sentences(of.fairness)]
    return Figures(goal, _both(card, _fair), tuple(words or ["No groups were compared."]))


def safety(card: CardInputs) -> Figures:
    """Whether risks mean what they say, are steady, and what is lost with a modality."""
    goal = "Whether risks mean what they say, how steady they are, and what changes where a modality is absent"
    ideal = "Slope 1, intercept 0, observed over expected 1: risks mean what they say."
    hidden = "What changes with a modality hidden says what the model leans on, and nothing of causes."
    return Figures(goal, _both(card, _safe), (ideal, hidden))


def _both(card: CardInputs, of: Maker) -> tuple[Number, ...]:
    """Numbers at home, then on the other store."""
    found = list(of(card.home, card.name))
    if card.elsewhere is not None:
        found += [(f"{label}, on another store", e, share) for label, e, share in of(card.elsewhere, card.name)]
    return tuple((_told(label, e), e, share) for label, e, share in found)


def _told(label: str, estimate: Estimate) -> str:
    return label if estimate.value is not None else f"{label}: not given, {estimate.reason}"


def _summary(card: CardInputs) -> Iterator[str]:
    result = card.home.result
    if result.out_of_fold:
        yield OUT_OF_FOLD
    inside = {task for tasks in result.gathered.values() for task in tasks}
    for task in result.tasks:
        if task not in inside:
            yield from (f"{task}: {said}" for said in summarise(result, task, card.name))
    for panel in result.gathered:
        yield from (f"{panel}: {said}" for said in panel_sentences(result, panel, card.name))


def _decided(judged: Judged, name: str) -> dict[str, Decided]:
    """task → figures at thresholds, of outcomes that are no part of a panel."""
    inside = {task for tasks in judged.result.gathered.values() for task in tasks}
    each = {task: models[name].decided for task, models in judged.result.tasks.items() if task not in inside}
    return {task: of for task, of in each.items() if of is not None and not of.reason}


def _useful(judged: Judged, name: str) -> Iterator[Number]:
    result = judged.result
    for task, models in result.tasks.items():
        metrics = models[name].metrics
        for metric in HEADLINE:
            if metric in metrics:
                yield f"{metric_text(metric).label}, {task}", metrics[metric], False
    for panel in result.gathered:
        for metric, estimate in result.panels[panel][name].metrics.items():
            yield f"{metric_text(metric).label}, {panel}", estimate, False
    for task, decided in _decided(judged, name).items():
        main = result.decisions[task].main
        point = next((p for p in decided.points if p.kind == "stated" and p.threshold == main), None)
        for figure, what in AT.items():
            if point is not None and figure in point.figures:
                yield f"{what} at {threshold_text(main)}, {task}", point.figures[figure], figure in SHARES


def _fair(judged: Judged, name: str) -> Iterator[Number]:
    for task, decided in _decided(judged, name).items():
        for attribute, of in decided.fairness.items():
            what = attribute.replace("_", " ")
            if of.reason:
                yield f"Gap by {what}, {task}", Estimate(None, reason=of.reason), True
            for gap in of.gaps:
                rate = f"{RATES[gap.rate].lower()}: {gap.highest} less {gap.lowest} (Holm p {p_value(gap.p_holm)})"
                yield f"Gap by {what}, {task}, {rate}", gap.difference, True


def _safe(judged: Judged, name: str) -> Iterator[Number]:
    for task, decided in _decided(judged, name).items():
        if decided.calibrated is not None:
            for what, label in CALIBRATED.items():
                yield f"{label}, {task}", getattr(decided.calibrated, what), False
        if decided.spread is not None:
            yield f"Mean SD of a patient's risk over fits, {task}", decided.spread.mean, False
        for hidden in decided.hidden:
            yield f"Change of AUROC with {hidden.modality} hidden, {task}", hidden.auroc, False
