"""What was fitted and how: pattern offsets, training, model cards, data, configuration, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.atlas import Atlas
from mmnar.evaluation.result import Estimate, OracleBound, Result
from mmnar.render.blocks import (
    Block,
    Cell,
    Code,
    Fact,
    Facts,
    Figure,
    Fold,
    Heading,
    Listing,
    Paragraph,
    Picture,
    Table,
    facts,
    named,
    pretty,
    table_of,
)
from mmnar.render.cells import value_cell, with_mark
from mmnar.render.charts import training as training_chart
from mmnar.render.marks import interval_mark, marks_head
from mmnar.render.svg import ORANGE, shared_limits
from mmnar.render.wording import RECTIFIED, count, number
from mmnar.report.parts.groups import pattern_name

SHOWN_ELSEWHERE: Final = ("files", "schema", "attrition", "warnings", "recipe")
"""Entries of a store's manifest that are no plain facts."""
RECTIFIER: Final = (
    "The rectifier adds one calibration offset per observation pattern to the model's risk. It is estimated from "
    "out-of-fold predictions of the patients learned from, never of those scored here. An offset says how far the "
    "model's risks lie from what was observed in that pattern. It says nothing about what would happen if a modality "
    "were measured or withheld."
)


def rectifiers(runs: Sequence[Mapping[str, Any]], result: Result, atlas: Atlas | None) -> Iterator[Block]:
    """The offsets of each rectified run and task."""
    yield Paragraph(RECTIFIER)
    for run in runs:
        if run.get("refit"):
            yield Paragraph(f"{run['name']}: {run['refit']}", "warning")
        for task, fitted in (run["rectifier"] or {}).items():
            yield Heading(f"{run['name']}: {task}")
            yield from _rectifier(run["name"], task, fitted, _oracle(result, task, run["name"]), atlas)


def _oracle(result: Result, task: str, model: str) -> OracleBound | None:
    models = result.tasks.get(task, {})
    entries = [models[n] for n in (model + RECTIFIED, model) if n in models]
    return next((e.oracle for e in entries if e.oracle is not None), None)


def _rectifier(
    run: str, task: str, fitted: Mapping[str, Any], oracle: OracleBound | None, atlas: Atlas | None
) -> Iterator[Block]:
    added = "added to the risk" if fitted["rule"] == "threshold" else "added to the log odds"
    none = fitted["no_effect_probability"]
    known = [Fact("Rule", (f"{fitted['rule']}, {added}",))]
    known.append(
        Fact("Probability of no pattern effect", ("not given by this rule" if none is None else number(none),))
    )
    if oracle is not None:
        gain = oracle.reported_gain
        known.append(Fact("Reported gain in AUROC", ("not given" if gain is None else number(gain, 3),)))
        known.append(Fact("Most that exact pattern offsets could give", (value_cell(oracle.bound, 3).text,)))
    yield Facts(tuple(known), "inline")
    if oracle is not None:
        yield Paragraph(f"Leakage alarm. {oracle.words}", "alarm") if oracle.alarm else Paragraph(oracle.words, "note")
    if fitted["note"]:
        yield Paragraph(fitted["note"], "note")
    if fitted["offsets"]:
        yield _offsets(f"{run}, {task}", fitted["offsets"], atlas)
    if fitted["withheld"]:
        yield Paragraph(
            "Patterns with fewer than 10 patients with or without the event are not listed, nor are those whose counts "
            "would tell of such.",
            "note",
        )


def _offsets(whose: str, offsets: Sequence[Mapping[str, Any]], atlas: Atlas | None) -> Table:
    estimates = [Estimate(o["value"], o["low"], o["high"]) for o in offsets]
    limits = shared_limits(estimates, (0.0,))
    body = [
        [
            named(pattern_name(o["pattern"], atlas)),
            Cell(count(o["n"])),
            Cell(count(o["events"])),
            with_mark(value_cell(e), interval_mark(e, limits, 2, 0, ORANGE)),
        ]
        for o, e in zip(offsets, estimates, strict=True)
    ]
    return table_of(
        f"{whose}: calibration offset of each pattern with its 90 % interval; labels and events to the nearest ten.",
        ("Pattern", "Labels", "Events", "Calibration offset"),
        body,
        {3: marks_head("90 % interval", limits, "", 0, "no offset")},
    )


def training(runs: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """Losses by epoch of each run that has them."""
    charts = ((name, training_chart(name, records)) for run in runs for name, records in _together(run).items())
    pictures = tuple(Picture(chart, name) for name, chart in charts if chart is not None)
    caption = (
        "Loss by epoch; lower is better. Each fit has its colour: solid on the patients it was trained on, dashed on "
        "those kept apart to know when to stop."
    )
    yield Figure(caption, pictures, "small")


def _together(run: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What was fitted → records of its fits, by the fit's own name; a method that fits task by task has several."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in run["history"]:
        what, comma, fit = str(record.get("fit", "")).partition(", ")
        name, fit = (what, fit) if comma else (run["name"], what)
        found.setdefault(name, []).append({**record, "fit": fit})
    return found


def cards(runs: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """What each model is."""
    for run in runs:
        size = "" if run["parameters"] is None else f" {run['parameters']:,} trainable parameters."
        yield Heading(run["name"])
        if run["config"]:
            yield Paragraph(f"Trained in {number(run['seconds'], 1)} s.{size}", "note")
        yield facts(run["card"]) if run["card"] else Paragraph("No card.")
        if run["weights"]:
            yield _weights(run["name"], run["weights"])


def _weights(whose: str, weights: Mapping[str, Mapping[str, float]]) -> Table:
    """What a stack weighs its members by."""
    members = list(next(iter(weights.values())))
    return table_of(
        f"{whose}: log odds of its risk are the intercept and the members' log odds times these weights.",
        ("Task", *members),
        [[named(task), *(Cell(number(of[member], 2)) for member in members)] for task, of in weights.items()],
    )


def data(manifest: Mapping[str, Any], json: str) -> Iterator[Block]:
    """A store's facts and warnings; ``json``: the file that has every number."""
    yield Heading("Data")
    yield facts({k: v for k, v in manifest.items() if k not in SHOWN_ELSEWHERE})
    yield Heading("Warnings")
    yield warnings(manifest)
    yield Paragraph(f"Every number of this page, unrounded, is in {json} beside it.", "note")


def settings(
    provenance: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], versions: Mapping[str, str]
) -> Iterator[Block]:
    """How it was evaluated, each run's configuration, versions."""
    if provenance:
        yield Heading("Evaluation")
        yield facts(provenance)
    if made := [run for run in runs if run["config"]]:
        yield Heading("Configuration")
        for run in made:
            yield Fold(run["name"], (Code(pretty(run["config"])),), look="long")
    yield Heading("Versions")
    yield versions_of(versions)


def warnings(manifest: Mapping[str, Any]) -> Block:
    """What the preparation of the store had to say."""
    said = tuple(str(w) for w in manifest.get("warnings", []))
    return Listing(said) if said else Paragraph("None.")


def versions_of(versions: Mapping[str, str]) -> Paragraph:
    """Packages, each unbroken in its line."""
    return Paragraph(", ".join(f"{name}\N{NO-BREAK SPACE}{v}" for name, v in versions.items()) or "Not recorded.")
