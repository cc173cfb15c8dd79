"""The parts of a study's page that show how well each row did, and which rank where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mmnar.evaluation.ranks import Ranks
from mmnar.evaluation.result import Estimate, PanelModel
from mmnar.render import marks
from mmnar.render.blocks import Block, Cell, Figure, Paragraph, Picture, named, table_of
from mmnar.render.wording import ALPHA, metric_text, number, p_value, some
from mmnar.report.parts.panels import by_question, outcomes_picture, panel_table, under
from mmnar.report.study.cells import cited_cell, heading_of, metric_cell, published, tag_of
from mmnar.study.result import EXACT, RowTask, StudyResult, Table

NO_TARGET: Final = (
    "Published figures come from another protocol and other patients. They are shown for orientation and are no target."
)
RANKS_CAVEAT: Final = (
    "A rank says who came before whom, not by how much. Each task and fold counts as one race, but folds share most of "
    "their training patients and tasks share theirs, so the races are not independent: read this as a description of "
    "these patients, not as proof for others. Methods joined by a bar are not told apart."
)


def performance(result: StudyResult, table: Table) -> Iterator[Block]:
    """Per task: rows × metrics as in the study, and the AUROC of each row as a picture."""
    if not table.tasks:
        yield Paragraph("No row has all of its runs, so there are no numbers.", "warning")
        return
    yield Paragraph(_how(result), "note")

    def of_task(task: str) -> Iterator[Block]:
        known = published(result, table, task)
        yield _numbers(result, table, task, known)
        if known:
            yield Paragraph(NO_TARGET, "note")
        aurocs = {name: of.metrics["auroc"] for name, of in table.tasks[task].items() if "auroc" in of.metrics}
        if aurocs:
            yield _forest(result, table, task, aurocs, known)

    yield from by_question(table.tasks, table.gathered, of_task, lambda panel: _panel(result, table, panel))


def _panel(result: StudyResult, table: Table, panel: str) -> Iterator[Block]:
    """A panel's own numbers, and each outcome's AUROC of the best row beside the best control."""
    rows = table.panels[panel]
    yield from panel_table(panel, rows, lambda name: named(name, tag_of(result, name)))
    yield from _published(result, table, panel, rows)
    means = {name: of.metrics["macro_auroc"].value for name, of in rows.items()}
    ours = [name for name in means if means[name] is not None and name != EXACT]
    order = sorted(ours, key=lambda name: -(means[name] or 0.0))
    if not order:
        return
    control = next((name for name in order[1:] if name in result.study["controls"]), "")

    def aurocs(name: str) -> dict[str, Estimate]:
        return {task: table.tasks[task][name].metrics["auroc"] for task in table.gathered[panel]} if name else {}

    yield outcomes_picture(panel, order[0], aurocs(order[0]), control, aurocs(control))


def _published(result: StudyResult, table: Table, panel: str, rows: Mapping[str, PanelModel]) -> Iterator[Block]:
    """What was published of a panel of other patients, row by row."""
    known = {at: figure for at, figure in published(result, table, panel).items() if at[0] in rows}
    metrics = list(dict.fromkeys(metric for _, metric in known))
    if not known:
        return
    body = [
        [named(row, tag_of(result, row)), *(cited_cell(known.get((row, metric)), metric) for metric in metrics)]
        for row in rows
        if any((row, metric) in known for metric in metrics)
    ]
    head = ("Row", *(metric_text(metric).label for metric in metrics))
    yield table_of(f"{panel}: published figures{_how_sure(known)}.", head, body)
    yield Paragraph(NO_TARGET, "note")


def _how_sure(known: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """What stands behind the published values."""
    words = {"spread": "± over seeds of training", "low": "95 % intervals in brackets"}
    said = [text for key, text in words.items() if any(of.get(key) for of in known.values())]
    return f"; {', '.join(said)}" if said else ""


def _how(result: StudyResult) -> str:
    seeds = len(result.study["seeds"])
    text = "Test patients only, with 95 % intervals from resampled patients; rows in the study's order."
    if seeds > 1:
        return text + f" A value is the mean over {seeds} seeds; ± is their standard deviation."
    return text + " One seed: a difference may be that of two fits, not of two methods; more seeds tell them apart."


def _numbers(result: StudyResult, table: Table, task: str, known: Mapping[tuple[str, str], Mapping[str, Any]]) -> Block:
    metrics, rows = result.study["metrics"], table.tasks[task]
    cited = [m for m in metrics if any((row, m) in known for row in rows)]
    head = ["Row", *(heading_of(m) for m in metrics), *(f"Published {metric_text(m).label}" for m in cited)]
    body = []
    for name, of in rows.items():
        theirs = [cited_cell(known.get((name, m)), m) for m in cited]
        body.append([named(name, tag_of(result, name)), *_values(of, metrics), *theirs])
    if exact := table.bayes.get(task):
        cells = [metric_cell(exact.get(m), m) if m in exact else Cell("", "muted") for m in metrics]
        body.append([Cell("exact risks", "muted"), *cells, *([Cell("", "muted")] * len(cited))])
    return table_of(f"{task}: performance of each row.", head, body)


def _values(of: RowTask, metrics: list[str]) -> list[Cell]:
    return [metric_cell(of.metrics.get(m), m, of.spread.get(m)) for m in metrics]


def _forest(
    result: StudyResult,
    table: Table,
    task: str,
    aurocs: Mapping[str, Estimate],
    known: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Figure:
    cited = {row: float(of["value"]) for (row, metric), of in known.items() if metric == "auroc" and row in aurocs}
    exact = table.bayes.get(task, {}).get("auroc")
    controls = result.study["controls"]
    caption = f"AUROC on {task} with 95 % intervals."
    caption += " Orange: controls." if controls else ""
    caption += " Hollow: published elsewhere." if cited else ""
    caption += " Dotted: the exact risks, which nothing can beat but by chance." if exact is not None else ""
    picture = marks.forest(f"AUROC, {task}", aurocs, cited, exact.value if exact else None, controls)
    return Figure(caption, (Picture(picture),))


def ranks(table: Table) -> Iterator[Block]:
    """Average ranks per metric with the critical difference."""
    found = {panel: {m: of for m, of in metrics.items() if of.blocks} for panel, metrics in table.ranks.items()}
    if any(found.values()):
        yield Paragraph(RANKS_CAVEAT, "note")
    for panel, ranked in found.items():
        if ranked:
            yield from under(panel, _ranks(ranked)) if panel else _ranks(ranked)


def _ranks(ranked: Mapping[str, Ranks]) -> Iterator[Block]:
    """Of one panel, or of the tasks outside panels."""
    for metric, of in ranked.items():
        label = metric_text(metric).label
        yield Figure(f"{label}: {_ranked_how(of)}", (Picture(marks.critical_difference(label, of)),))
    names = next(iter(ranked.values())).names
    head = ("Row", *(f"Average rank by {metric_text(m).label}" for m in ranked))
    places = [dict(zip(of.names, of.average, strict=True)) for of in ranked.values()]
    body = [[named(name), *(Cell(number(place[name])) for place in places)] for name in names]
    yield table_of("Average ranks; 1 is best.", head, body)


def _ranked_how(of: Ranks) -> str:
    text = f"average rank over {some(of.blocks, 'race')} (task × fold); 1, on the left, is best."
    if of.critical_difference is None:
        return text + " One race alone cannot tell any two apart."
    if of.friedman_p is not None:
        found = "finds that methods differ" if of.friedman_p < ALPHA else "does not find that methods differ"
        text += f" Friedman's test {found} (p {p_value(of.friedman_p)})."
    return text
