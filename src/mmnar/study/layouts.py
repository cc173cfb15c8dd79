"""The parts of a study's report that belong to one layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mmnar.evaluation.atlas import Atlas, OutcomeRate
from mmnar.evaluation.result import Comparison, Estimate, GroupRow
from mmnar.privacy import briefly
from mmnar.report.figures import MAX_PATTERNS, pattern_figure, shared_limits
from mmnar.report.render import TASKS_A_FIGURE
from mmnar.report.wording import count, group_count, interval, number, p_value, percent, percent_interval, survives
from mmnar.study import pictures
from mmnar.study.blocks import Block, Cell, Drawing, Gallery, Heading, Words, named, sheet
from mmnar.study.result import RowTask, StudyResult, Table
from mmnar.study.words import difference_cell, listed, plain_cell, some, unreachable

DEFAULT: Final = "default"
"""The row of a sensitivity study that all others are held against."""

DECODING: Final = (
    "A representation that is computed from the pattern can always name it, so decoding proves little: it shows that "
    "the pattern went in, not that it means anything, and it says nothing about why a modality is missing. The share "
    "for always naming the commonest pattern stands beside it."
)


def sensitivity(result: StudyResult, table: Table) -> Iterator[Block]:
    """Per parameter: AUROC at each value, and the largest drop against the default settings."""
    yield Words(
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
            yield Words(warning, "warning")
        else:
            yield Words(_stable(groups, against), "finding")
        drawn = tuple((name, pictures.parameter(name, values, default, limits)) for name, values in groups.items())
        yield Gallery(f"AUROC on {task} with 95 % intervals; dotted: default settings.", drawn)
        head = ("Parameter", "Tried", "AUROC", "Lowest at", "Lowest minus default")
        body = [[named(name), *_drop(name, values, against)] for name, values in groups.items()]
        yield sheet(f"{task}: the largest drop of AUROC by parameter.", head, body)


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
    words = f"{len(sure)} of {some(total, 'setting')} differ from the default after correction"
    return f"{words}: {listed(sure)}." if sure else f"{words}."


def by_pattern(table: Table) -> Iterator[Block]:
    """The first row's numbers by pattern of the patient."""
    for task, rows in table.patterns.items():
        name, groups = next(iter(rows.items()))
        head = ("Pattern", "Samples", "Events", "Observed rate", "Mean risk", "AUROC", "Rate minus risk")
        yield Heading(f"{task}: {name} by pattern")
        yield sheet(
            f"{task}: {name} by observation pattern. Positive: risks are too low. Small groups are pooled or hidden.",
            head,
            [_pattern(group) for group in groups],
        )


def _pattern(of: GroupRow) -> list[Cell]:
    shares = [_estimate(e, percent_interval(e)) for e in (of.observed_rate, of.mean_risk)]
    return [
        named(of.group),
        Cell(group_count(of.n, of)),
        Cell(group_count(of.events, of)),
        *shares,
        *(_estimate(e, interval(e, 3)) for e in (of.auroc, of.calibration_bias)),
    ]


def _estimate(estimate: Estimate, words: str) -> Cell:
    return Cell(briefly(estimate.reason), "refused") if estimate.value is None else Cell(words)


def cost(result: StudyResult, table: Table) -> Iterator[Block]:
    """What each row's runs took."""
    if not table.cost:
        return
    yield Words("Medians over a row's runs, one run being one fold and seed; without the search.", "note")
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
    yield sheet("Cost of one run.", [*head, f"Times {plain}"] if base else head, body)


def embedding(table: Table) -> Iterator[Block]:
    """What each row's representation knows of the pattern."""
    yield Words(DECODING, "note")
    if not table.embedding:
        yield Words("No row has a representation to look at.")
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
    yield sheet("Reading the pattern off a representation, in patients that were not trained on.", head, body)
    links = [
        [named(row), Cell(task, ""), Cell(number(rho)), Cell(p_value(p))]
        for row, of in table.embedding.items()
        for task, (rho, p) in of.norm_outcome.items()
    ]
    if links:
        caption = "Over patterns: rank correlation of a pattern's mean norm and its outcome rate; p not corrected."
        yield sheet(caption, ("Row", "Task", "Correlation", "p"), links)


def availability(atlas: Atlas) -> Iterator[Block]:
    """Figure 1: patterns and their outcome rates."""
    names, tasks = [m.name for m in atlas.modalities], list(atlas.outcomes)
    chunks = [tasks[i : i + TASKS_A_FIGURE] for i in range(0, len(tasks), TASKS_A_FIGURE)]
    caption = (
        "Outcome rate by observation pattern. A filled dot is a modality that is present. Grey bars are numbers of "
        "samples; blue bars are outcome rates with 95 % intervals; the dotted line is the rate of everyone asked."
    )
    yield Drawing(caption, tuple(pattern_figure(atlas, names, chunk) for chunk in chunks))
    body = [[named(m.name), _estimate(m.present, percent(m.present.value or 0.0))] for m in atlas.modalities]
    yield sheet("Share of samples that have each modality.", ("Modality", "Present"), body)
    everyone = [named("everyone"), Cell(count(atlas.samples)), *(_rate(o) for o in atlas.outcomes.values())]
    body = [
        [named(p.label), Cell(count(p.n)), *(_rate(o) for o in p.outcomes.values())]
        for p in atlas.patterns[:MAX_PATTERNS]
    ]
    yield sheet("Outcome rate by pattern.", ("Pattern", "Samples", *tasks), [everyone, *body])


def _rate(outcome: OutcomeRate) -> Cell:
    return _estimate(outcome.rate, percent_interval(outcome.rate))
