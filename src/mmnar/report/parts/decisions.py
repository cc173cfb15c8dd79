"""What the risks are worth as decisions: alerts at thresholds, whether risks mean what they say, groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.decided import (
    EVALUATED,
    EVERYONE,
    NOBODY,
    Decided,
    Difference,
    Fairness,
    Hidden,
    Point,
    Spread,
    TaskDecisions,
)
from mmnar.evaluation.result import Curve, Estimate, Result
from mmnar.render.blocks import Block, Cell, Figure, Fold, Heading, Listing, Paragraph, Picture, Table, named, table_of
from mmnar.render.cells import share_cell, short, value_cell, with_mark
from mmnar.render.charts import Line, legend
from mmnar.render.decision_charts import RISK_LEGEND, net_benefit, risk_bars, smooth_calibration
from mmnar.render.marks import interval_mark
from mmnar.render.svg import BLUE, MUTED, ORANGE, ends, shared_limits
from mmnar.render.wording import RECTIFIED, count, listed, number, p_value, per_100, threshold_text
from mmnar.report.parts.cohort import questions_of
from mmnar.report.parts.curves import line_looks
from mmnar.report.parts.performance import model_cell, ranked
from mmnar.report.parts.summary import is_rectified, model_pairs

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
CALIBRATED: Final = (
    "Slope 1, intercept 0 and observed over expected 1: risks mean what they say. A slope below 1: high risks are too "
    "high and low ones too low. Distances are between a patient's risk and the smooth curve; their intervals allow for "
    "what chance adds to a distance, so that they can reach 0 and the figure itself leans high."
)
FAIR: Final = (
    "The same alerts, group by group. A gap is that between the highest and the lowest group, and some gap there "
    "always is; the p value says how often chance alone, dealing the groups out anew, makes one as large. It is "
    "corrected with Holm's method for all rates and attributes of the model on the task. Groups with fewer than 10 "
    "patients with or without an alert, of those with or without the outcome, share a row."
)
SIZES: Final = (
    "Sizes by the formulas of Riley and others, at the outcome rate seen here and the best model's AUROC. For judging: "
    "how well something is known, as the half width of its 95 % interval. For learning: how many coefficients a "
    "regression may have, so that it has to be shrunk by a tenth at most."
)
STEADY: Final = (
    "The model's own fits, each learned from other patients, give one patient different risks; they share most of "
    "their patients, so models of two hospitals would differ more. And the same patients with one modality hidden from "
    "the model: this says what the model leans on, and nothing of causes or of what measuring does to a patient."
)
RATES: Final = {
    "sensitivity": "Found, of those with the outcome",
    "false_alarms": "False alarms, of those without",
    "ppv": "Right, of all alerts",
}
MEANING: Final = {"slope": "Calibration slope", "o_to_e": "Observed over expected"}
LEVEL: Final = 0.05
AGAINST: Final = {EVERYONE: "alert everyone", NOBODY: "alert nobody"}


def has_decisions(result: Result) -> bool:
    """Whether any model was judged so."""
    return any(_decided(result, task) for task in _alone(result))


def has_fairness(result: Result) -> bool:
    return any(of.fairness for task in _alone(result) for of in _decided(result, task).values())


def _alone(result: Result) -> list[str]:
    """Tasks that are no part of a panel of several: each of those has its figures in result.json."""
    gathered = {task for tasks in result.gathered.values() for task in tasks}
    return [task for task in result.tasks if task not in gathered]


def _decided(result: Result, task: str) -> dict[str, Decided]:
    """Models of a task with figures, best AUROC first."""
    ordered = ((name, entry.decided) for name, entry in ranked(result.tasks[task]))
    return {name: of for name, of in ordered if of is not None and not of.reason}


def _reason(result: Result, task: str) -> str:
    said = {m.decided.reason for m in result.tasks[task].values() if m.decided is not None and m.decided.reason}
    return ", ".join(sorted(said))


def _headed(result: Result, manifest: Mapping[str, Any], task: str) -> Iterator[Block]:
    """A task's heading with its outcome; and why there are no figures, where there are none."""
    yield Heading(task)
    questions = questions_of(manifest)
    if task in questions:
        yield Paragraph(f"Outcome: {questions[task]['outcome']}. Asked: {questions[task]['asked_at']}.", "note")
    if reason := _reason(result, task):
        yield Paragraph(f"Not given: {reason}.", "note")


# --- alerts at thresholds ---------------------------------------------------------------------------------------------


def alerts(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Decision curves, tables of thresholds, paired differences of net benefit."""
    yield Paragraph(ALERTS)
    looks = line_looks(result)
    for task in _alone(result):
        yield from _headed(result, manifest, task)
        decided, said = _decided(result, task), result.decisions.get(task)
        if not decided or said is None:
            continue
        yield Paragraph(f"Thresholds: {said.source}; the main one is {threshold_text(said.main)}.", "note")
        yield _decision_curves(result, task, said, decided, looks)
        yield Paragraph(WITHHELD, "note")
        told = [name for name, of in decided.items() if _tells(of)]
        lead = next((name.removesuffix(RECTIFIED) for name in told), "")
        yield from (_thresholds(task, n, decided[n]) for n in told if n.removesuffix(RECTIFIED) == lead)
        others = tuple(_thresholds(task, n, decided[n]) for n in told if n.removesuffix(RECTIFIED) != lead)
        if silent := [_model_name(name) for name in decided if name not in told]:
            yield Paragraph(f"Withheld at every threshold of the table: {listed(silent)}.", "note")
        if others:
            yield Fold("Other models at the same thresholds", others, look="long")
        if said.differences:
            yield from _differences(result, task, said)


def _tells(of: Decided) -> bool:
    """Whether a table of its thresholds has a row that is not withheld."""
    return any(p.figures["alerts"].value is not None for p in of.points if p.kind != "curve")


def _decision_curves(
    result: Result, task: str, said: TaskDecisions, decided: Mapping[str, Decided], looks: Mapping[str, tuple[str, str]]
) -> Figure:
    lines = []
    for name, of in decided.items():
        colour, dash = looks.get(name, (MUTED, ""))
        if not is_rectified(name):
            lines += [Line(name, curve, colour, dash) for curve in _benefits(of)]
    known = [(t, e.value) for t, e in said.everyone if e.value is not None]
    everyone = Curve(tuple(t for t, _ in known), tuple(v for _, v in known))
    return Figure(
        f"Decision curves on {task}. Dotted: alert everyone, alert nobody. A model is of use where it is above both.",
        (Picture(net_benefit(task, lines[::-1], everyone)),),
        "wide",
        legend(lines),
        _benefit_table(task, said, decided),
    )


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
    body = [_threshold_row(p) for p in of.points if p.kind != "curve"]
    return table_of(f"{_model_name(name)} on {task}: what alerts from a threshold on would do.", head, body)


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


def _differences(result: Result, task: str, said: TaskDecisions) -> Iterator[Block]:
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
    return table_of(
        caption, ("Model", "Compared with", "Difference in net benefit"), body, {2: "95 % interval; line at zero"}
    )


def _model_name(name: str) -> str:
    return f"{name.removesuffix(RECTIFIED)} with rectifier" if is_rectified(name) else name


# --- enough patients --------------------------------------------------------------------------------------------------


def has_sizes(result: Result) -> bool:
    return any(result.decisions[task].enough for task in _alone(result) if task in result.decisions)


def sizes(result: Result) -> Iterator[Block]:
    """How many patients a task has, and what they suffice for."""
    yield Paragraph(SIZES)
    body = []
    for task in _alone(result):
        said = result.decisions[task]
        body += [
            [
                named(task),
                Cell(e.what, ""),
                Cell(f"{e.needed:,}"),
                Cell(count(e.had)),
                Cell("enough" if e.suffices else "too few", "sure" if e.suffices else "muted"),
            ]
            for e in said.enough
        ]
    yield table_of("Samples needed, and there.", ("Task", "To know", "Needed", "There", ""), body)
    yield Listing(
        tuple(_carried(task, result.decisions[task]) for task in _alone(result) if result.decisions[task].enough)
    )


def _carried(task: str, said: TaskDecisions) -> str:
    if said.coefficients is None or said.learned is None:
        return f"{task}: how many patients were learned from is not known."
    return (
        f"{task}: the {count(said.learned)} samples learned from carry a logistic regression of about "
        f"{said.coefficients:,} coefficients. Trees and networks need more for the same."
    )


# --- calibration ------------------------------------------------------------------------------------------------------


def calibration(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Slope, intercept, observed over expected, distances; the smooth curves; where the risks lie."""
    yield Paragraph(CALIBRATED)
    for task in _alone(result):
        yield from _headed(result, manifest, task)
        decided = _decided(result, task)
        if not decided:
            continue
        yield _calibration_table(result, task, decided)
        if (figure := _smooth_curves(result, task, decided)) is not None:
            yield figure
        pictures = tuple(
            Picture(risk_bars(task, name, of.risks), name)
            for name, of in decided.items()
            if len(of.risks) > 1 and not is_rectified(name)
        )
        if pictures:
            caption = (
                "Where the risks lie, of those with and of those without the outcome. The further apart, the better a "
                "model tells them apart; each bar is of at least 10 patients."
            )
            yield Figure(caption, pictures, "small", RISK_LEGEND)


def _calibration_table(result: Result, task: str, decided: Mapping[str, Decided]) -> Table:
    known = {name: of.calibrated for name, of in decided.items() if of.calibrated is not None}
    limits = shared_limits((c.slope for c in known.values()), (1.0,))
    body = [
        [
            model_cell(name, result),
            with_mark(short(value_cell(c.slope), c.slope), interval_mark(c.slope, limits, 2, 1, _colour(name))),
            *(short(value_cell(e), e) for e in (c.intercept, c.o_to_e)),
            short(value_cell(c.ici, 3), c.ici),
            short(Cell(f"{_plain(c.e50)}; {_plain(c.e90)}"), c.e50),
        ]
        for name, c in known.items()
    ]
    head = (
        "Model",
        "Slope",
        "Intercept (at slope 1)",
        "Observed over expected",
        "Mean distance (ICI)",
        "Half, 90 % within (E50, E90)",
    )
    return table_of(f"Calibration on {task}.", head, body, {1: "95 % interval; line at one, the ideal"})


def _plain(e: Estimate) -> str:
    return e.reason if e.value is None else number(e.value, 3)


def _colour(name: str) -> str:
    return ORANGE if is_rectified(name) else BLUE


def _smooth_curves(result: Result, task: str, decided: Mapping[str, Decided]) -> Figure | None:
    curves = {
        n: of.calibrated.smooth for n, of in decided.items() if of.calibrated is not None and of.calibrated.smooth
    }
    top = max((v for c in curves.values() for v in (*c.x, *c.y)), default=1.0)
    pictures = []
    for base, rectified in model_pairs(result.tasks[task]):
        pair = ((base, ""), (rectified, "6 3"))
        lines = [Line(n, curves[n], _colour(n), dash) for n, dash in pair if n is not None and n in curves]
        if lines:
            pictures.append(Picture(smooth_calibration(task, base, lines, top), base))
    caption = (
        "Smooth calibration curves with 95 % bands, from the 2nd to the 98th of 100 patients by risk. Dotted: risks "
        "mean what they say. Solid blue: model. Dashed orange: with rectifier."
    )
    return Figure(caption, tuple(pictures), "small") if pictures else None


# --- steadiness -------------------------------------------------------------------------------------------------------


def has_probes(result: Result) -> bool:
    """Whether any model was scored again."""
    return any(of.spread or of.hidden for task in _alone(result) for of in _decided(result, task).values())


def steadiness(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """How far the fits behind a model agree, and what changes with a modality hidden."""
    yield Paragraph(STEADY)
    for task in _alone(result):
        yield from _headed(result, manifest, task)
        decided = _decided(result, task)
        main = threshold_text(result.decisions[task].main)
        spreads = {name: of.spread for name, of in decided.items() if of.spread is not None}
        if spreads:
            yield _spread_table(task, main, spreads)
        hidden = [(name, of.hidden) for name, of in decided.items() if of.hidden]
        for i, (name, rows) in enumerate(hidden):
            table = _hidden_table(name, task, main, rows)
            yield Fold(f"{name}: each modality hidden", (table,), open=i == 0, look="" if i == 0 else "long")


def _spread_table(task: str, main: str, spreads: Mapping[str, Spread]) -> Table:
    body = [
        [
            named(name),
            Cell(str(of.fits)),
            short(value_cell(of.mean, 3), of.mean),
            short(value_cell(of.ninth, 3), of.ninth),
            short(share_cell(of.divided), of.divided),
            short(share_cell(of.otherwise), of.otherwise),
        ]
        for name, of in spreads.items()
    ]
    head = (
        "Model",
        "Fits",
        "Mean SD of a patient's risk",
        "90 % of patients below",
        f"Patients whose alert at {main} depends on the fit",
        "A fit decides otherwise than the model",
    )
    return table_of(f"{task}: how far the fits behind a model lie apart. Lower is steadier.", head, body)


def _hidden_table(name: str, task: str, main: str, rows: Sequence[Hidden]) -> Table:
    limits = shared_limits((h.auroc for h in rows), (0.0,))
    body = [
        [
            named(h.modality),
            with_mark(short(value_cell(h.auroc, 3), h.auroc), interval_mark(h.auroc, limits, 3, 0)),
            short(value_cell(h.moved, 3), h.moved),
            short(share_cell(h.flipped), h.flipped),
        ]
        for h in rows
    ]
    head = (
        "Hidden",
        "Change of AUROC",
        "Mean change of risk, of those who have it",
        f"Alert at {main} changes, of those who have it",
    )
    caption = f"{name} on {task}. Left of zero: the model ranks worse without it."
    return table_of(caption, head, body, {1: "95 % interval; line at zero"})


# --- groups -----------------------------------------------------------------------------------------------------------


def groups(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Who is found, missed and alerted for nothing, group by group."""
    yield Paragraph(FAIR)
    for task in _alone(result):
        yield from _headed(result, manifest, task)
        decided = {n: of for n, of in _decided(result, task).items() if of.fairness and not is_rectified(n)}
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
