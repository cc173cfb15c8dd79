"""What alerts from a threshold on would do: decision curves, tables of thresholds, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.decided import EVALUATED, EVERYONE, NOBODY, Decided, Difference, Point, TaskDecisions
from mmnar.evaluation.result import Curve, Estimate, Result
from mmnar.render.blocks import Block, Cell, Figure, Fold, Paragraph, Picture, Table, named, table_of
from mmnar.render.cells import share_cell, short, value_cell, with_mark
from mmnar.render.charts import Line, legend
from mmnar.render.decision_charts import net_benefit
from mmnar.render.marks import interval_mark, marks_head
from mmnar.render.svg import MUTED, ends, shared_limits
from mmnar.render.wording import RECTIFIED, listed, per_100, threshold_text
from mmnar.report.parts.curves import line_looks
from mmnar.report.parts.decided import alone, decided_of, headed, model_words
from mmnar.report.parts.summary import is_rectified

ALERTS: Final = (
    "If everyone whose risk reaches a threshold got an alert: how many alerts, how many of them right, who is missed. "
    "Net benefit is the share of patients with the outcome who get an alert, less false alarms at the price the "
    "threshold names: an alert from 10 % on takes nine false alarms for one patient found. It is compared with two "
    "rules that need no model: alert everyone, alert nobody (0). All thresholds were fixed before these patients were "
    "looked at."
)
WITHHELD: Final = (
    "Of thresholds so close that fewer than 10 patients with or without the outcome lie between them, one is withheld. "
    "Lines join neighbours among the thresholds."
)
AGAINST: Final = {EVERYONE: "alert everyone", NOBODY: "alert nobody"}


def alerts(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Decision curves, tables of thresholds, paired differences of net benefit."""
    yield Paragraph(ALERTS)
    looks = line_looks(result)
    for task in alone(result):
        yield from headed(result, manifest, task)
        yield from _of_task(result, task, looks)


def _of_task(result: Result, task: str, looks: Mapping[str, tuple[str, str]]) -> Iterator[Block]:
    decided, said = decided_of(result, task), result.decisions.get(task)
    if not decided or said is None:
        return
    yield Paragraph(thresholds_words(said), "note")
    yield _decision_curves(result, task, said, decided, looks)
    yield Paragraph(WITHHELD, "note")
    lead = next((name.removesuffix(RECTIFIED) for name, of in decided.items() if _tells(of)), "")
    yield from threshold_tables(task, {n: of for n, of in decided.items() if n.removesuffix(RECTIFIED) == lead})
    others = {n: of for n, of in decided.items() if n.removesuffix(RECTIFIED) != lead}
    if others:
        yield Fold("Other models at the same thresholds", tuple(threshold_tables(task, others)), look="long")
    if said.differences:
        yield from _differences(task, said)


def thresholds_words(said: TaskDecisions) -> str:
    """Where the thresholds are from."""
    return f"Thresholds: {said.source}; the main one is {threshold_text(said.main)}."


def threshold_tables(task: str, decided: Mapping[str, Decided]) -> Iterator[Block]:
    """A table for each model of which a threshold can be told."""
    yield from (_thresholds(task, name, of) for name, of in decided.items() if _tells(of))
    for name, of in decided.items():
        hidden = [threshold_text(p.threshold) for p in of.points if p.kind != "curve" and not _told(p)]
        if hidden and _tells(of):
            yield Paragraph(f"{model_words(name)}: withheld at {listed(hidden)}.", "note")
    if silent := [model_words(name) for name, of in decided.items() if not _tells(of)]:
        yield Paragraph(f"Withheld at every threshold of the table: {listed(silent)}.", "note")


def _tells(of: Decided) -> bool:
    """Whether a table of its thresholds has a row that is not withheld."""
    return any(_told(p) for p in of.points if p.kind != "curve")


def _told(p: Point) -> bool:
    return p.figures["alerts"].value is not None


def _decision_curves(
    result: Result, task: str, said: TaskDecisions, decided: Mapping[str, Decided], looks: Mapping[str, tuple[str, str]]
) -> Figure:
    lines = benefit_lines(decided, looks)
    return Figure(
        f"Decision curves on {task}. Dotted: alert everyone, alert nobody. A model is of use where it is above both.",
        (Picture(net_benefit(task, lines[::-1], benefit_of_everyone(said))),),
        "wide",
        legend(lines),
        _benefit_table(task, said, decided),
    )


def benefit_lines(decided: Mapping[str, Decided], looks: Mapping[str, tuple[str, str]]) -> list[Line]:
    """Decision curves of models before their rectifiers; those without a look are grey."""
    lines = []
    for name, of in decided.items():
        colour, dash = looks.get(name, (MUTED, ""))
        if not is_rectified(name):
            lines += [Line(name, curve, colour, dash) for curve in _benefits(of)]
    return lines


def benefit_of_everyone(said: TaskDecisions) -> Curve:
    """The decision curve of alerting everyone."""
    known = [(t, e.value) for t, e in said.everyone if e.value is not None]
    return Curve(tuple(t for t, _ in known), tuple(v for _, v in known))


def _benefits(of: Decided) -> list[Curve]:
    """Net benefit over the threshold, in parts between which one or more thresholds are withheld."""
    parts: list[list[tuple[float, Estimate]]] = [[]]
    for t, e in sorted(((p.threshold, p.figures["net_benefit"]) for p in of.points if p.kind != "per 100"), key=_first):
        if e.value is None:
            parts.append([])
        else:
            parts[-1].append((t, e))
    return [_curve(part) for part in parts if part]


def _first(pair: tuple[float, Estimate]) -> float:
    return pair[0]


def _curve(points: Sequence[tuple[float, Estimate]]) -> Curve:
    ends_of = [ends(e) for _, e in points]
    return Curve(
        tuple(t for t, _ in points),
        tuple(e.value or 0.0 for _, e in points),
        tuple(low for low, _ in ends_of),
        tuple(high for _, high in ends_of),
    )


def _benefit_table(task: str, said: TaskDecisions, decided: Mapping[str, Decided]) -> Table:
    thresholds = [t for t, _ in said.everyone]
    body = [[Cell("alert everyone", "name"), *(short(value_cell(e, 3), e) for _, e in said.everyone)]]
    for name, of in decided.items():
        at = {p.threshold: p.figures["net_benefit"] for p in of.points if p.kind != "per 100"}
        body.append([named(name), *(short(value_cell(at[t], 3), at[t]) for t in thresholds)])
    head = ("Net benefit at", *(threshold_text(t) for t in thresholds))
    return table_of(f"Net benefit on {task}.", head, body, look="grid")


def _thresholds(task: str, name: str, of: Decided) -> Table:
    head = (
        "Alert from this risk on",
        "Alerts per 100 patients",
        "Right, of all alerts (PPV)",
        "Alerts per patient found",
        "Found, of those with the outcome (sensitivity)",
        "Missed per 100 patients",
        "Spared, of those without (specificity)",
        "Without outcome, of those without alert (NPV)",
    )
    body = [_threshold_row(p) for p in of.points if p.kind != "curve" and _told(p)]
    return table_of(f"{model_words(name)} on {task}: what alerts from a threshold on would do.", head, body)


def _threshold_row(p: Point) -> list[Cell]:
    tag = "" if p.per_100 is None else f"{p.per_100} of 100 out of fold"

    def of_100(name: str) -> Cell:
        e = p.figures[name]
        return short(Cell(per_100(e)), e)

    def share(name: str) -> Cell:
        return short(share_cell(p.figures[name]), p.figures[name])

    evaluated = p.figures[EVALUATED]
    return [
        named(threshold_text(p.threshold), tag),
        of_100("alerts"),
        share("ppv"),
        short(value_cell(evaluated, 1), evaluated),
        share("sensitivity"),
        of_100("missed"),
        share("specificity"),
        share("npv"),
    ]


def _differences(task: str, said: TaskDecisions) -> Iterator[Block]:
    bases = [d for d in said.differences if not is_rectified(d.model)]
    limits = shared_limits((d.difference for d in bases), (0.0,))
    at_main = [d for d in bases if d.threshold == said.main]
    if at_main:
        yield _difference_table(
            f"{task}: net benefit of each model less that of another rule", at_main, said.main, limits
        )
    others = []
    for t in said.stated:
        rows = [d for d in bases if d.threshold == t]
        if rows and t != said.main:
            others.append(_difference_table(f"{task}: the same", rows, t, limits))
    if others:
        yield Fold("Differences at the other thresholds", tuple(others), look="long")


def _difference_table(what: str, rows: Sequence[Difference], t: float, limits: tuple[float, float]) -> Table:
    body = [
        [
            named(d.model),
            Cell(AGAINST.get(d.against, d.against), ""),
            with_mark(value_cell(d.difference, 4), interval_mark(d.difference, limits, 4, 0)),
        ]
        for d in rows
    ]
    caption = f"{what}, alerts from {threshold_text(t)} on, on the same patients. Above 0: the model is worth more."
    drawn = {2: marks_head("95 % interval", limits, "higher", 0)}
    return table_of(caption, ("Model", "Compared with", "Difference in net benefit"), body, drawn)
