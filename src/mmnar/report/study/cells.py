"""Cells and sentences that several parts of a study's page share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mmnar.estimators.registry import is_network
from mmnar.evaluation.result import Comparison, Estimate
from mmnar.render.blocks import Cell, Kind
from mmnar.render.cells import refused_cell, value_cell
from mmnar.render.wording import ALPHA, favours_model, interval, metric_text, number, p_value, some, survives
from mmnar.study.result import StudyResult, Table

MINIMUM_DIGITS: Final = 3


def digits_of(metric: str) -> int:
    """Decimals of a metric in a study, whose rows differ by less than those of one evaluation."""
    return max(MINIMUM_DIGITS, metric_text(metric).digits)


def heading_of(metric: str) -> str:
    """A column's name; it says so where lower is better."""
    shown = metric_text(metric)
    return f"{shown.label} (lower is better)" if shown.better == "lower" else shown.label


def metric_cell(estimate: Estimate | None, metric: str, spread: float | None = None) -> Cell:
    """A metric with its interval and, where there are several seeds, their SD."""
    digits = digits_of(metric)
    cell = value_cell(estimate, digits)
    return replace(cell, note=f"± {number(spread, digits)}") if spread and cell.kind == "num" else cell


def difference_cell(comparison: Comparison | None) -> Cell:
    """A difference with its interval and corrected p; better or worse only where that survives correction."""
    if comparison is None:
        return Cell("not compared", "refused")
    value = comparison.difference.value
    if value is None:
        return refused_cell(comparison.difference.reason)
    digits = digits_of(comparison.metric)
    text, p = interval(comparison.difference, digits), f"p {p_value(comparison.p_holm)}"
    if not survives(comparison):
        return Cell(text, note=p, brief=number(value, digits))
    verdict: Kind = "better" if favours_model(comparison) else "worse"
    return Cell(text, verdict, verdict, p, f"{number(value, digits)}*")


def unreachable(result: StudyResult, comparisons: Sequence[Comparison], sides: int = 2) -> str:
    """Why no test of one family can survive, or "": resampling gives no p below 2 / (B + 1), swapping (``sides`` 1)
    none below 1 / (B + 1)."""
    least = sides / (result.study["resamples"] + 1)
    tests = sum(c.p is not None for c in comparisons)
    if not tests or least * tests < ALPHA:
        return ""
    return (
        f"With {some(result.study['resamples'], 'resample')} no p of {some(tests, 'test')} can be below "
        f"{number(least * tests, 3)} after correction, so no difference of {metric_text(comparisons[0].metric).label} "
        f"can survive here, however large. It takes more than {math.ceil(sides * tests / ALPHA) - 1:,} resamples."
    )


def tag_of(result: StudyResult, row: str) -> str:
    return "control" if row in result.study["controls"] else ""


def is_deep(result: StudyResult, row: str) -> bool:
    return any(r["name"] == row and r["model"] and is_network(r["model"]) for r in result.study["rows"])


def published(result: StudyResult, table: Table, task: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(row, metric) → published figure of this data set and task, under this setting or under any."""
    name = next(d["reference"] for d in result.study["data"] if d["name"] == table.data)
    return {
        (of["row"], of["metric"]): of
        for of in result.study["reference"]
        if name and (of["data"], of["task"]) == (name, task) and of.get("setting", "") in ("", table.setting)
    }


def cited_cell(figure: Mapping[str, Any] | None, metric: str) -> Cell:
    """A published figure, with its interval or its SD over seeds where one was published."""
    if figure is None:
        return Cell("", "muted")
    digits = digits_of(metric)
    value, *ends = (number(float(figure[key]), digits) for key in ("value", "low", "high") if figure.get(key))
    text = f"{value} ({ends[0]} to {ends[1]})" if len(ends) == 2 else value
    return Cell(text, "muted", note=f"± {number(float(figure['spread']), digits)}" if figure.get("spread") else "")
