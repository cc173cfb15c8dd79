"""The parts of a study's page that belong to one layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mmnar.evaluation.atlas import Atlas
from mmnar.evaluation.result import Comparison, Curve, Estimate
from mmnar.render import marks
from mmnar.render.blocks import Block, Cell, Figure, Heading, Paragraph, Picture, named, table_of
from mmnar.render.cells import plain_cell
from mmnar.render.charts import Line, along, legend
from mmnar.render.svg import DASHES, MUTED, PALETTE, ends, shared_limits
from mmnar.render.wording import count, listed, metric_text, number, p_value, percent, some, survives
from mmnar.report.parts.availability import modalities, patterns
from mmnar.report.parts.groups import group_table
from mmnar.report.parts.panels import under
from mmnar.report.study.cells import difference_cell, digits_of, metric_cell, unreachable
from mmnar.study.result import EXACT, RowTask, StudyResult, Table
from mmnar.study.spec import BY

DEFAULT: Final = "default"
"""The row of a sensitivity study that all others are held against."""

DECODING: Final = (
    "A representation that is computed from the pattern can always name it, so decoding proves little: it shows that "
    "the pattern went in, not that it means anything, and it says nothing about why a modality is missing. The share "
    "for always naming the commonest pattern stands beside it."
)


def sensitivity(result: StudyResult, table: Table) -> Iterator[Block]:
    """Per parameter: AUROC at each value, and the largest drop against the default settings."""
    yield Paragraph(
        "One parameter at a time is moved away from the default settings (dotted). The lowest value tried is held "
        "against the default row on the same patients, with the 95 % interval of the difference; p after Holm's "
        "correction over all settings of a task.",
        "note",
    )
    for task, rows in table.tasks.items():
        groups = tried(rows)
        if not groups:
            continue
        against = {c.model: c for c in table.comparisons if (c.task, c.metric, c.control) == (task, "auroc", DEFAULT)}
        default = rows[DEFAULT].metrics["auroc"] if DEFAULT in rows else None
        estimates = [e for values in groups.values() for e in values.values()]
        limits = shared_limits([*estimates, *([default] if default else [])])
        yield Heading(task)
        if warning := unreachable(result, list(against.values())):
            yield Paragraph(warning, "warning")
        else:
            yield Paragraph(_stable(groups, against), "finding")
        drawn = tuple(Picture(marks.parameter(name, values, default, limits), name) for name, values in groups.items())
        yield Figure(f"AUROC on {task} with 95 % intervals; dotted: default settings.", drawn, "small")
        head = ("Parameter", "Tried", "AUROC", "Lowest at", "Lowest minus default")
        body = [[named(name), *_drop(name, values, against)] for name, values in groups.items()]
        yield table_of(f"{task}: the largest drop of AUROC by parameter.", head, body)


def tried(rows: Mapping[str, RowTask]) -> dict[str, dict[str, Estimate]]:
    """parameter → value as written → AUROC, from rows named "parameter = value"."""
    groups: dict[str, dict[str, Estimate]] = {}
    for row, of in rows.items():
        name, equals, value = row.partition(" = ")
        if equals:
            groups.setdefault(name, {})[value] = of.metrics["auroc"]
    return groups


def _drop(name: str, values: Mapping[str, Estimate], against: Mapping[str, Comparison]) -> list[Cell]:
    known = {value: e.value for value, e in values.items() if e.value is not None}
    if not known:
        return [Cell(", ".join(values), ""), *[Cell("not given", "refused")] * 3]
    lowest = min(known, key=lambda value: known[value])
    scores = f"{number(min(known.values()), 3)} to {number(max(known.values()), 3)}"
    comparison = against.get(f"{name} = {lowest}")
    return [Cell(", ".join(values), ""), Cell(scores), Cell(lowest), difference_cell(comparison)]


def _stable(groups: Mapping[str, Mapping[str, Estimate]], against: Mapping[str, Comparison]) -> str:
    total = sum(len(values) for values in groups.values())
    sure = [model for model, c in against.items() if survives(c)]
    text = f"{len(sure)} of {some(total, 'setting')} differ from the default after correction"
    return f"{text}: {listed(sure)}." if sure else f"{text}."


def by_pattern(table: Table) -> Iterator[Block]:
    """The first row's numbers by pattern of the patient."""
    for task, rows in table.patterns.items():
        name, groups = next(iter(rows.items()))
        yield Heading(f"{task}: {name} by pattern")
        caption = (
            f"{task}: {name} by observation pattern. Positive: risks are too low. Small groups are pooled or hidden."
        )
        yield group_table(caption, "Pattern", groups, None, digits_of("auroc"))


def cost(result: StudyResult, table: Table) -> Iterator[Block]:
    """What each row's runs took."""
    if not table.cost:
        return
    yield Paragraph("Medians over a row's runs, one run being one fold and seed; without the search.", "note")
    plain = next((r["name"] for r in result.study["rows"] if r["model"] == "zero-fill" and r["name"] in table.cost), "")
    base = table.cost[plain].seconds if plain else None
    head = ["Row", "Runs", "Seconds", "Processor seconds", "Peak memory, MB", "ms a patient", "Parameters"]
    body = []
    for name, of in table.cost.items():
        cells = [plain_cell(of.runs), plain_cell(of.seconds, 1), plain_cell(of.cpu_seconds, 1)]
        cells += [plain_cell(of.peak_memory_mb), plain_cell(of.latency_ms, 2), plain_cell(of.parameters)]
        if base:
            cells.append(plain_cell(None if of.seconds is None else of.seconds / base, 1))
        body.append([named(name), *cells])
    yield table_of("Cost of one run.", [*head, f"Times {plain}"] if base else head, body)


def embedding(table: Table) -> Iterator[Block]:
    """What each row's representation knows of the pattern."""
    yield Paragraph(DECODING, "note")
    if not table.embedding:
        yield Paragraph("No row has a representation to look at.")
        return
    head = ("Row", "Samples", "Patterns", "Pattern decoded", "Commonest pattern", "Mean norm of a pattern")
    body = [
        [
            named(row),
            Cell(count(of.samples)),
            Cell(str(of.patterns)),
            Cell(percent(of.decoded)),
            Cell(percent(of.majority)),
            Cell(f"{number(of.norms[0])} to {number(of.norms[1])}"),
        ]
        for row, of in table.embedding.items()
    ]
    yield table_of("Reading the pattern off a representation, in patients that were not trained on.", head, body)
    links = [
        [named(row), Cell(task, ""), Cell(number(rho)), Cell(p_value(p))]
        for row, of in table.embedding.items()
        for task, (rho, p) in of.norm_outcome.items()
    ]
    if links:
        caption = "Over patterns: rank correlation of a pattern's mean norm and its outcome rate; p not corrected."
        yield table_of(caption, ("Row", "Task", "Correlation", "p"), links)


def curve(result: StudyResult, tables: Sequence[Table]) -> Iterator[Block]:
    """Of one data set, each metric along the x axis: a picture for each setting, a line with its band for each row."""
    if not tables[0].tasks:
        yield Paragraph("No row has all of its runs, so there are no numbers.", "warning")
        return
    yield Paragraph(
        "Test patients only; bands: 95 % intervals from resampled patients. Points of a line share patients, so that "
        "bands may overlap where a change along the line is sure.",
        "note",
    )
    gathered = tables[0].gathered
    for question in dict.fromkeys(
        name for task in tables[0].tasks for name in _questions(task, gathered, result.study["outcomes"])
    ):
        figures = [_along(result, tables, question, metric) for metric in result.study["metrics"]]
        yield from under(question, [figure for figure in figures if figure is not None])


def _questions(task: str, gathered: Mapping[str, Sequence[str]], outcomes: Sequence[str]) -> list[str]:
    """What is shown of a task: its panel of several, and itself where it is in none or was asked for."""
    panels = [panel for panel, tasks in gathered.items() if task in tasks]
    return [*panels, *([task] if not panels or task in outcomes else [])]


def _along(result: StudyResult, tables: Sequence[Table], question: str, metric: str) -> Figure | None:
    """None where nothing of this metric is known."""
    (key, values), rows = next(iter(result.study["along"].items())), [r["name"] for r in result.study["rows"]]
    by_setting: dict[str, dict[float, dict[str, Estimate]]] = {}
    for table in tables:
        setting, _, value = table.setting.rpartition(BY)
        by_setting.setdefault(setting, {})[float(value)] = _estimates(table, question, metric)
    known = [e for of in by_setting.values() for points in of.values() for e in points.values() if e.value is not None]
    if not known:
        return None
    names = [
        row for row in (*rows, EXACT) if any(row in points for of in by_setting.values() for points in of.values())
    ]
    looks = {row: (PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)]) for i, row in enumerate(rows)}
    looks[EXACT] = (MUTED, DASHES[2])
    limits, label, pictures = shared_limits(known), _metric_of(tables[0], question, metric), []
    lines: list[Line] = []
    for setting, of in by_setting.items():
        lines = [Line(row, _points(row, of), *looks[row], band=row != EXACT) for row in names]
        drawn = along(
            f"{label} of {question} by {key}, {setting}",
            (AXES.get(key, key), label),
            [line for line in lines if line.curve.x],
            (min(values), max(values)),
            limits,
        )
        pictures.append(Picture(drawn, setting))
    caption = f"{label} of {question}." + (f" Dotted grey: {EXACT}." if EXACT in names else "")
    head = (label, "Row", *(f"{value:g}" for value in values))
    body = [
        [named(setting), Cell(row, ""), *(_brief(of.get(value, {}).get(row), metric) for value in values)]
        for setting, of in by_setting.items()
        for row in names
    ]
    numbers = table_of(f"{label} of {question} by {AXES.get(key, key).lower()}.", head, body)
    return Figure(caption, tuple(pictures), "small", legend(lines), numbers)


AXES: Final = {
    "hide.share": "Share hidden",
    "rows.train": "Share of the unpaired in training",
    "rows.test": "Share of the unpaired in the test",
}
"""Key of a run → the name of its axis."""


def _metric_of(table: Table, question: str, metric: str) -> str:
    return metric_text(f"macro_{metric}" if question in table.gathered else metric).label


def _estimates(table: Table, question: str, metric: str) -> dict[str, Estimate]:
    """Row → a metric of a task, or of a panel of several."""
    if question in table.gathered:
        return {
            row: of.metrics[m] for row, of in table.panels[question].items() if (m := f"macro_{metric}") in of.metrics
        }
    found = {row: of.metrics[metric] for row, of in table.tasks[question].items() if metric in of.metrics}
    exact = table.bayes.get(question, {})
    return {**found, EXACT: exact[metric]} if metric in exact else found


def _points(row: str, of: Mapping[float, Mapping[str, Estimate]]) -> Curve:
    known = [(x, e) for x, points in of.items() if (e := points.get(row)) is not None and e.value is not None]
    low, high = zip(*(ends(e) for _, e in known), strict=True) if known else ((), ())
    return Curve(tuple(x for x, _ in known), tuple(e.value or 0.0 for _, e in known), low, high)


def _brief(estimate: Estimate | None, metric: str) -> Cell:
    if estimate is None:
        return Cell("–", "muted")
    cell = metric_cell(estimate, metric)
    return cell if estimate.value is None else replace(cell, brief=number(estimate.value, digits_of(metric)))


def availability(atlas: Atlas) -> Iterator[Block]:
    """Patterns and their outcome rates, and who has which modality."""
    yield from patterns(atlas)
    yield modalities(atlas)
