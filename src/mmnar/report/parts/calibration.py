"""Whether risks mean what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mmnar.evaluation.decided import Decided
from mmnar.evaluation.result import Estimate, Result
from mmnar.render.blocks import Block, Cell, Figure, Paragraph, Picture, Table, table_of
from mmnar.render.cells import short, value_cell, with_mark
from mmnar.render.charts import Line
from mmnar.render.decision_charts import RISK_LEGEND, risk_bars, smooth_calibration
from mmnar.render.marks import interval_mark, marks_head
from mmnar.render.svg import BLUE, ORANGE, shared_limits
from mmnar.render.wording import number
from mmnar.report.parts.decided import alone, decided_of, headed
from mmnar.report.parts.performance import model_cell
from mmnar.report.parts.summary import is_rectified, model_pairs

CALIBRATED: Final = (
    "Slope 1, intercept 0 and observed over expected 1: risks mean what they say. A slope below 1: high risks are too "
    "high and low ones too low. Distances are between a patient's risk and the smooth curve; their intervals allow for "
    "what chance adds to a distance, so that they can reach 0 and the figure itself leans high."
)
SMOOTH: Final = (
    "Smooth calibration curves with 95 % bands, from the 2nd to the 98th of 100 patients by risk. Dotted: risks mean "
    "what they say. Solid blue: model. Dashed orange: with rectifier."
)
APART: Final = (
    "Where the risks lie, of those with and of those without the outcome. The further apart, the better a model tells "
    "them apart; each bar is of at least 10 patients."
)


def calibration(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Slope, intercept, observed over expected, distances; the smooth curves; where the risks lie."""
    yield Paragraph(CALIBRATED)
    for task in alone(result):
        yield from headed(result, manifest, task)
        decided = decided_of(result, task)
        if not decided:
            continue
        yield calibration_table(result, task, decided)
        if smooth := smooth_pictures(result, task, decided):
            yield Figure(SMOOTH, smooth, "small")
        if bars := risk_pictures(task, decided):
            yield Figure(APART, bars, "small", RISK_LEGEND)


def risk_pictures(task: str, decided: Mapping[str, Decided]) -> tuple[Picture, ...]:
    """Where the risks of each model lie, before its rectifier."""
    return tuple(
        Picture(risk_bars(task, name, of.risks), name)
        for name, of in decided.items()
        if len(of.risks) > 1 and not is_rectified(name)
    )


def calibration_table(result: Result, task: str, decided: Mapping[str, Decided]) -> Table:
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
    return table_of(f"Calibration on {task}.", head, body, {1: marks_head("95 % interval", limits, "", 1, "1 is best")})


def _plain(e: Estimate) -> str:
    return e.reason if e.value is None else number(e.value, 3)


def _colour(name: str) -> str:
    return ORANGE if is_rectified(name) else BLUE


def smooth_pictures(result: Result, task: str, decided: Mapping[str, Decided]) -> tuple[Picture, ...]:
    """The smooth curve of each model, its rectified form drawn into it."""
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
    return tuple(pictures)
