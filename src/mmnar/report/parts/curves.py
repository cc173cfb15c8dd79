"""Discrimination and calibration curves of a task's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mmnar.evaluation.result import Curve, Result
from mmnar.render.blocks import Block, Figure, Paragraph, Picture
from mmnar.render.charts import Line, calibration, legend, precision_recall, roc
from mmnar.render.svg import BLUE, DASHES, MUTED, ORANGE, PALETTE
from mmnar.report.parts.panels import by_question
from mmnar.report.parts.performance import ranked
from mmnar.report.parts.summary import is_rectified, model_pairs

ROC: Final = "ROC, in steps of at least 10 patients with and 10 without the event. Dotted: chance."


def curves(result: Result) -> Iterator[Block]:
    """ROC, precision and recall, and calibration of every task."""
    looks = line_looks(result)

    def of_task(task: str) -> Iterator[Block]:
        figures = [f for f in (_discrimination(result, task, looks), _calibration(result, task)) if f is not None]
        yield from figures
        if not figures:
            yield Paragraph("Not given: no curve could be drawn for this task.", "note")

    yield from by_question(result.tasks, result.gathered, of_task)


def _discrimination(result: Result, task: str, looks: Mapping[str, tuple[str, str]]) -> Figure | None:
    rocs, prs = _lines(result, task, "roc", looks), _lines(result, task, "pr", looks)
    pictures = []
    if rocs:
        pictures.append(
            Picture(
                roc(task, rocs[::-1]),
                ROC,
            )
        )
    if prs:
        c = result.counts.get(task)
        rate = c.events / c.n if c is not None and c.n and c.events is not None else None
        pictures.append(Picture(precision_recall(task, prs[::-1], rate), "Precision and recall. Dotted: outcome rate."))
    return Figure("", tuple(pictures), "side", legend(rocs or prs)) if pictures else None


def _lines(result: Result, task: str, curve: str, looks: Mapping[str, tuple[str, str]]) -> list[Line]:
    """Lines of a ROC or PR chart: the named models in colour, the others grey beneath them."""
    lines = []
    for name, entry in ranked(result.tasks[task]):
        points: Curve | None = getattr(entry, curve)
        if points is not None and not is_rectified(name):
            colour, dash = looks.get(name, (MUTED, ""))
            lines.append(Line(name, points, colour, dash))
    return lines


def _calibration(result: Result, task: str) -> Figure | None:
    """One chart a model; the rectified form is drawn into its model's chart."""
    models, pictures = result.tasks[task], []
    drawn = [m.calibration for m in models.values() if m.calibration is not None]
    top = max((v for c in drawn for v in (*c.x, *c.y, *c.high)), default=1.0)
    for base, rectified in model_pairs(models):
        lines = []
        for name, colour, dash in ((base, BLUE, ""), (rectified, ORANGE, "6 3")):
            curve = models[name].calibration if name is not None else None
            if name is not None and curve is not None:
                lines.append(Line(name, curve, colour, dash, band=name == base, dots=True))
        if lines:
            pictures.append(Picture(calibration(task, base, lines, top), base))
    caption = (
        "Calibration. Points near the dotted line: risks mean what they say. Band: 95 % interval of the model itself. "
        "Solid blue: model. Dashed orange: with rectifier."
    )
    return Figure(caption, tuple(pictures), "small") if pictures else None


def line_looks(result: Result) -> dict[str, tuple[str, str]]:
    """Colour and dash of the models with the best mean AUROC, the same in every chart."""
    totals: dict[str, list[float]] = {}
    for models in result.tasks.values():
        for name, entry in models.items():
            auroc = entry.metrics.get("auroc")
            if auroc is not None and auroc.value is not None and not is_rectified(name):
                totals.setdefault(name, []).append(auroc.value)
    best = sorted(totals, key=lambda name: -sum(totals[name]) / len(totals[name]))
    return dict(zip(best, zip(PALETTE, DASHES, strict=True), strict=False))
