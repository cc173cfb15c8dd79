"""The part of a study's page that shows rows on kinds of a panel's outcomes, or on groups of patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mmnar.evaluation.result import Comparison
from mmnar.render import marks
from mmnar.render.blocks import Block, Figure, Heading, Paragraph, Picture, named, table_of
from mmnar.render.wording import favours_model, listed, metric_text, some, survives
from mmnar.report.study.cells import cited_cell, difference_cell, metric_cell, published, tag_of, unreachable
from mmnar.report.study.performance import NO_TARGET
from mmnar.study.parts import Part
from mmnar.study.result import StudyResult, Table

HOW: Final = (
    "Each column is judged by itself, with 95 % intervals from its patients resampled. Differences are paired on the "
    "same patients; p after Holm's correction over rows, controls and columns. That one column shows a difference and "
    "another does not is no proof that the two columns differ."
)


def parts(result: StudyResult, table: Table) -> Iterator[Block]:
    """Question by question: the numbers of each part, what was published of it, and the differences from controls."""
    if table.parts:
        yield Paragraph(HOW, "note")
    for question, of in table.parts.items():
        yield Heading(question)
        every = [c for part in of.values() for c in part.comparisons]
        for metric in next(iter(next(iter(of.values())).rows.values())):
            yield _numbers(result, question, metric, of)
            yield from _published(result, table, question, metric, of)
            own = [c for c in every if c.metric == metric]
            if own:
                yield from _differences(result, question, metric, of, own)
        yield _pictures(result, table, question, of)


def _head(of: Mapping[str, Part]) -> list[str]:
    """Names of the columns; of several outcomes how many are counted."""
    return [
        f"{label} ({some(len(p.outcomes), 'outcome')})" if len(p.outcomes) > 1 else label for label, p in of.items()
    ]


def _numbers(result: StudyResult, question: str, metric: str, of: Mapping[str, Part]) -> Block:
    rows = next(iter(of.values())).rows
    body = [
        [named(row, tag_of(result, row)), *(metric_cell(part.rows[row].get(metric), metric) for part in of.values())]
        for row in rows
    ]
    label = metric_text(metric).label  # in the corner, too: a terminal shows no captions
    return table_of(f"{question}: {label} of each row.", (label, *_head(of)), body)


def _published(
    result: StudyResult, table: Table, question: str, metric: str, of: Mapping[str, Part]
) -> Iterator[Block]:
    known = {label: published(result, table, label) for label in of}
    rows = [row for row in next(iter(of.values())).rows if any((row, metric) in own for own in known.values())]
    if not rows:
        return
    body = [[named(row), *(cited_cell(known[label].get((row, metric)), metric) for label in of)] for row in rows]
    label = metric_text(metric).label
    yield table_of(f"{question}: published {label}.", (f"Published {label}", *of), body)
    yield Paragraph(NO_TARGET, "note")


def _differences(
    result: StudyResult, question: str, metric: str, of: Mapping[str, Part], own: Sequence[Comparison]
) -> Iterator[Block]:
    if warning := unreachable(result, own, sides=1 if metric.startswith("macro_") else 2):
        yield Paragraph(warning, "warning")
    else:
        yield Paragraph(_sure(own), "finding")
    found = {(c.task, c.model, c.control): c for c in own}
    for control in dict.fromkeys(c.control for c in own):
        models = dict.fromkeys(c.model for c in own if c.control == control)
        body = [[named(row), *(difference_cell(found.get((label, row, control))) for label in of)] for row in models]
        caption = f"{question}: difference of {metric_text(metric).label} from {control}."
        yield table_of(caption, (f"Minus {control}", *of), body)


def _sure(own: Sequence[Comparison]) -> str:
    """Which differences survive."""
    better = [f"{c.model} over {c.control} ({c.task})" for c in own if survives(c) and favours_model(c)]
    worse = [f"{c.model} under {c.control} ({c.task})" for c in own if survives(c) and not favours_model(c)]
    text = f"{len(better) + len(worse)} of {some(len(own), 'difference')} of {metric_text(own[0].metric).label} hold up"
    return f"{text} after correction: {listed([*better, *worse])}." if better or worse else f"{text} after correction."


def _pictures(result: StudyResult, table: Table, question: str, of: Mapping[str, Part]) -> Figure:
    drawn, cited = [], False
    for label, part in of.items():
        metric = next(m for m in next(iter(part.rows.values())) if m.endswith("auroc"))
        rows = {row: metrics[metric] for row, metrics in part.rows.items()}
        known = published(result, table, label)
        hollow = {row: float(known[row, metric]["value"]) for row in rows if (row, metric) in known}
        cited = cited or bool(hollow)
        title = f"{metric_text(metric).label}, {label}"
        drawn.append(Picture(marks.forest(title, rows, hollow, None, result.study["controls"]), label))
    caption = f"{question}: AUROC with 95 % intervals." + (" Orange: controls." if result.study["controls"] else "")
    return Figure(caption + (" Hollow: published elsewhere." if cited else ""), tuple(drawn), "small")
