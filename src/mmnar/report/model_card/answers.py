"""What a run says to items of TRIPOD+AI; an item that is not here it cannot fill."""

from __future__ import annotations

from typing import Any, Final

from mmnar.render.wording import asked, count, events, listed, some, threshold_text
from mmnar.report.model_card.fitting import after, fits, folds
from mmnar.report.model_card.inputs import (
    ALERTS,
    CALIBRATION,
    ELSEWHERE,
    GROUPS,
    INPUTS,
    LIMITS,
    MISSING,
    OUTCOMES,
    PEOPLE,
    PERFORMANCE,
    SHORT,
    TRAINING,
    VERSIONS,
    CardInputs,
)
from mmnar.report.parts.cohort import questions_of, source_of

CENTRES: Final = ("site", "hospital", "centre", "center", "hospital_id", "region")
"""Attributes that name a centre."""
MEASURES: Final = (
    "AUROC, AUPRC, Brier, log loss and ECE, with 95 % intervals by resampling patients; AUROC within and between "
    "observation patterns; calibration slope, intercept, observed over expected and a smooth curve; net benefit and "
    "alerts at thresholds; gaps between groups"
)


TIMED: Final = ("mimic-iv", "carebench", "eicu", "meds", "physionet2012")
"""Doors whose records have times."""
KNOWN: Final = "An input counts from when it was known, by the rules of its source, and only before the prediction."
UNKNOWN: Final = "That they were known at the prediction time is the word of whoever made the store."


def answers(card: CardInputs) -> dict[str, str]:
    """Item → sentences."""
    return {**_study(card), **_predictors(card), **_analysis(card), **_results(card)}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _in(*sections: str) -> str:
    return f"See {listed([f'“{s}”' for s in sections])}."


def _study(card: CardInputs) -> dict[str, str]:
    home, there = card.home, card.elsewhere
    tasks = questions_of(home.manifest)
    inside = "validation out of fold" if home.result.out_of_fold else "a test fold"
    outside = f", and validation on another store ({source_of(there.manifest)})" if there else ""
    sources = f"Learned from and judged on: {source_of(home.manifest)}."
    when = next((of for of in home.atlas.breakdowns if of.over_time), None)
    centre = [name for name in card.attributes if name in CENTRES]
    said = {
        "1": f"Development of {card.name} for {listed(list(tasks) or list(home.result.tasks))}.",
        "2": _in(SHORT),
        "4": f"Development with internal validation by {inside}{outside}.",
        "5a": sources + (f" Also judged on: {source_of(there.manifest)}." if there else ""),
        "6b": _in(PEOPLE),
        "7": f"What the preparation of the store left out or warned of is in “{PEOPLE}”.",
        "8a": _in(OUTCOMES),
    }
    if when is not None and when.rows:
        said["5b"] = f"By {when.name.replace('_', ' ')}, {when.rows[0].group} to {when.rows[-1].group}: “{PEOPLE}”."
    if centre:
        said["6a"] = f"The store tells centres apart by {listed(centre)}: “{PEOPLE}”."
    return said


def _predictors(card: CardInputs) -> dict[str, str]:
    features, n = sum(len(names) for _, _, names in card.modalities), len(card.modalities)
    units = "1 modality" if n == 1 else f"{n} modalities"
    door = card.home.manifest.get("recipe", {}).get("door", "")
    chosen = "some modalities of its store" if card.config.get("modalities") else "all that its store has"
    return {
        "9a": f"The method was given {chosen}: {units}, {some(features, 'named feature')}; none was left out before.",
        "9b": f"Names are in “{INPUTS}”. {KNOWN if door in TIMED else UNKNOWN}",
        "10": f"Sizes needed and there, by the formulas of Riley and others: “{OUTCOMES}”.",
        "11": f"Where a modality is absent: {card.run.card.get('missing', 'not said')}. How much is missing is in "
        f"“{INPUTS}”.",
    }


def _analysis(card: CardInputs) -> dict[str, str]:
    home, config = card.home, card.config
    main = {task: said.main for task, said in home.result.decisions.items()}
    sources = sorted({said.source for said in home.result.decisions.values()})
    thresholds = ", ".join(f"{task} {threshold_text(at)}" for task, at in main.items()) if len(main) <= MANY else ""
    said = {
        "12a": folds(config),
        "12b": f"As the method's card says (“{TRAINING}”); its statistics are of the patients learned from alone.",
        "12c": f"{card.run.card.get('title', card.name)}. {fits(config)} Every setting: “{TRAINING}”.",
        "12d": "Intervals resample patients, not centres; differences between centres were not modelled.",
        "12e": f"{MEASURES}. {_in(PERFORMANCE, CALIBRATION, ALERTS, GROUPS)}",
        "12f": _sentence("; ".join(after(card))) if updated(card) else "None.",
        "12g": "By the run itself: mmnar predict RUN reads records by the recipe that the run keeps.",
        "13": imbalance(config, bool(card.run.history)),
        "14": f"None in fitting; gaps were measured (“{GROUPS}”).",
        "15": f"A risk between 0 and 1 for each outcome. Thresholds: {'; '.join(sources) or 'none'}"
        + (f" ({thresholds})." if thresholds else "."),
        "18f": f"mmnar {card.versions.get('mmnar', '')}, MIT licence; settings and seeds are in “{TRAINING}”.",
    }
    if card.elsewhere:
        said["16"] = said["20c"] = _in(ELSEWHERE)
    return said


MANY: Final = 6


def updated(card: CardInputs) -> bool:
    """Whether risks were corrected after training."""
    return after(card) != ["no correction"]


def imbalance(config: Any, network: bool) -> str:
    """What the run did about rare outcomes.

    >>> imbalance({"train": {"label_loss": "bce"}}, True)
    'Every patient is drawn once an epoch; loss of labels: bce, which needs no recalibration.'
    """
    if not network:
        return f"The run did nothing about it; settings of the method itself are in “{TRAINING}”."
    loss = config["train"]["label_loss"]
    proper = "which needs no recalibration" if loss == "bce" else "followed by Platt's line on risks out of fold"
    return f"Every patient is drawn once an epoch; loss of labels: {loss}, {proper}."


def _results(card: CardInputs) -> dict[str, str]:
    home, result = card.home, card.home.result
    centre = [name for name in card.attributes if name in CENTRES]
    said = {
        "20a": f"“{PEOPLE}” has the flow, “{OUTCOMES}” who was asked.",
        "20b": f"Groups: “{PEOPLE}”; missing data: “{INPUTS}” and “{MISSING}”; events: “{OUTCOMES}”.",
        "21": _sizes(card),
        "22": f"The folder of the run is the model (“{VERSIONS}”); mmnar predict scores new patients with it.",
        "23a": _in(PERFORMANCE, CALIBRATION, ALERTS, GROUPS),
        "24": f"With and without the rectifier: “{PERFORMANCE}”." if card.rectified else "No updated model was judged.",
        "26": _in(LIMITS),
        "27a": f"Who lacks a modality gets a risk all the same; how many such were learned from: “{MISSING}”.",
    }
    entries = card.entries(home).values()
    if centre and any(name in entry.subgroups for entry in entries for name in centre):
        said["23b"] = f"By {listed(centre)}: “{GROUPS}”."
    if len(result.tasks) > MANY:
        said["21"] = f"{_sizes(card, MANY)} The others: “{OUTCOMES}”."
    return said


def _sizes(card: CardInputs, most: int | None = None) -> str:
    result, said = card.home.result, []
    for task in list(result.tasks)[:most]:
        decided, counts = result.decisions.get(task), result.counts[task]
        learned = "a number not recorded" if decided is None or decided.learned is None else count(decided.learned)
        said.append(f"{task}: learned from {learned} samples (to the nearest ten), judged on {_judged(counts)}")
    return "; ".join(said) + "."


def _judged(counts: Any) -> str:
    return f"{asked(counts)}, events {events(counts.events)}"
