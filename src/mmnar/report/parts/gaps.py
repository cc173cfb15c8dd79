"""Alerts group by group, and which gaps between groups are more than chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mmnar.evaluation.decided import Fairness
from mmnar.evaluation.result import Result
from mmnar.render.blocks import Block, Cell, Fold, Listing, Paragraph, named, table_of
from mmnar.render.cells import share_cell, short, value_cell
from mmnar.render.wording import number, p_value, threshold_text
from mmnar.report.parts.decided import alone, decided_of, headed
from mmnar.report.parts.summary import is_rectified

FAIR: Final = (
    "The same alerts, group by group. A gap is that between the highest and the lowest group, and some gap there "
    "always is; the p value says how often chance alone, dealing the groups out anew, makes one as large. It is "
    "corrected with Holm's method for all rates and attributes of the model on the task. Groups with fewer than 10 "
    "patients with or without an alert, of those with or without the outcome, share a row."
)
RATES: Final = {
    "sensitivity": "Found, of those with the outcome",
    "false_alarms": "False alarms, of those without",
    "ppv": "Right, of all alerts",
}
MEANING: Final = {"slope": "Calibration slope", "o_to_e": "Observed over expected"}
LEVEL: Final = 0.05


def has_fairness(result: Result) -> bool:
    return any(of.fairness for task in alone(result) for of in decided_of(result, task).values())


def groups(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Who is found, missed and alerted for nothing, group by group."""
    yield Paragraph(FAIR)
    for task in alone(result):
        yield from headed(result, manifest, task)
        decided = {n: of for n, of in decided_of(result, task).items() if of.fairness and not is_rectified(n)}
        for i, (name, of) in enumerate(decided.items()):
            yield Fold(name, tuple(_fair(task, name, of.fairness)), open=i == 0, look="" if i == 0 else "long")


def _fair(task: str, name: str, found: Mapping[str, Fairness]) -> Iterator[Block]:
    yield Listing(tuple(gap_sentences(found)))
    refused: dict[str, list[str]] = {}
    for attribute, of in found.items():
        what = attribute.replace("_", " ")
        if of.reason:
            refused.setdefault(of.reason, []).append(what)
            continue
        body = [
            [
                named(row.group),
                *(short(share_cell(row.rates[r]), row.rates[r]) for r in RATES),
                *(short(value_cell(row.rates[m], 2), row.rates[m]) for m in MEANING),
            ]
            for row in of.rows
        ]
        unsaid = [Cell("", "muted")] * len(MEANING)
        gaps = {g.rate: g for g in of.gaps}
        body.append(
            [
                Cell("gap", "indented"),
                *(short(share_cell(gaps[r].difference), gaps[r].difference) for r in RATES),
                *unsaid,
            ]
        )
        body.append(
            [
                Cell("p, p (Holm)", "indented"),
                *(Cell(f"{p_value(gaps[r].p)}, {p_value(gaps[r].p_holm)}") for r in RATES),
                *unsaid,
            ]
        )
        caption = f"{name} on {task} by {what}, alerts from {threshold_text(of.threshold)} on."
        yield table_of(caption, (what, *RATES.values(), *MEANING.values()), body)
    for reason, names in refused.items():
        yield Paragraph(f"Not given by {', '.join(names)}: {reason}.", "note")


def gap_sentences(found: Mapping[str, Fairness]) -> list[str]:
    """Which gaps between groups are more than chance."""
    gaps = [(a.replace("_", " "), g) for a, of in found.items() for g in of.gaps]
    if not gaps:
        return ["No groups are large enough to be compared."]
    sure = [(a, g) for a, g in gaps if g.p_holm is not None and g.p_holm < LEVEL]
    if not sure:
        return ["No gap between groups was shown to be more than chance. That does not show that there is none."]
    return [
        f"By {a}: {RATES[g.rate].lower()}: {number(100 * (g.difference.value or 0), 1)} percentage points more in "
        f"{g.highest} than in {g.lowest} (Holm-corrected p {p_value(g.p_holm)})."
        for a, g in sure
    ]
