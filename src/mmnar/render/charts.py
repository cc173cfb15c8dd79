"""Curves of a task's models: ROC, precision and recall, calibration, training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from mmnar.evaluation.result import Curve, Estimate
from mmnar.render.svg import BLUE, PALETTE, Axes, dot, grid, join, nice_ticks, svg, titled
from mmnar.render.wording import number, percent, percent_interval

MAX_POINTS: Final = 300
FOLDS: Final = {"train": "training patients", "tune": "tuning patients"}


@dataclass(frozen=True)
class Line:
    """A curve with its looks; ``band`` draws ``curve.low`` to ``curve.high``, ``dots`` marks the points."""

    name: str
    curve: Curve
    colour: str = BLUE
    dash: str = ""
    band: bool = False
    dots: bool = False


def roc(task: str, lines: Sequence[Line]) -> Markup:
    """ROC curves; the diagonal is chance."""
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    return _chart(axes, f"ROC curves for {task}", ("1 − specificity", "Sensitivity"), lines, (0, 1))


def precision_recall(task: str, lines: Sequence[Line], prevalence: float | None) -> Markup:
    """Precision-recall curves; the dotted line is the outcome rate."""
    axes, names = Axes((0.0, 1.0), (0.0, 1.0)), ("Sensitivity (recall)", "Positive predictive value")
    reference = None if prevalence is None else (prevalence, prevalence)
    return _chart(axes, f"Precision-recall curves for {task}", names, lines, reference)


def calibration(task: str, model: str, lines: Sequence[Line], top: float) -> Markup:
    """Observed rate against predicted risk with an interval band; the diagonal is perfect.

    Args:
        top: Largest value of any model on this task, so that its charts share one scale.
    """
    limit = min(1.0, nice_ticks(0, top)[-1])
    axes = Axes((0.0, limit), (0.0, limit), 250, 235)
    return _chart(axes, f"Calibration of {model} for {task}", ("Predicted risk", "Observed rate"), lines, (0, limit))


def along(
    label: str, names: tuple[str, str], lines: Sequence[Line], x: tuple[float, float], y: tuple[float, float]
) -> Markup:
    """Estimates with interval bands over what is on the x axis, ``x`` and ``y`` being the limits of both axes."""
    axes = Axes(x, y, 300, 240)
    parts = [*grid(axes, *names), *(_drawn(axes, line) for line in lines)]
    for line in lines:
        for at, value in zip(line.curve.x, line.curve.y, strict=True):
            shown = f"{line.name}: {number(value, 3)} at {at:g}"
            parts.append(dot(axes.px(at), axes.py(value), line.colour, 2.5, shown))
    return svg(axes.width, axes.height, label, parts)


def training(run: str, history: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Loss by epoch, each fit in its own colour: solid in training, dashed in tuning; named below. None where nothing
    was recorded."""
    loss = main_loss(history)
    lines = [] if loss is None else _loss_lines(history, loss)
    if not lines:
        return None
    values = [v for x in lines for v in x.curve.y]
    ticks = nice_ticks(min(values), max(values))
    epochs = max(v for x in lines for v in x.curve.x)
    axes = Axes((1.0, max(epochs, 2.0)), (ticks[0], ticks[-1]), 250, 200)
    drawn = _chart(axes, f"Training curves of {run}", ("Epoch", f"Loss ({loss})"), lines)
    return join([drawn, legend(lines)])


def _loss_lines(history: Sequence[Mapping[str, Any]], loss: str) -> list[Line]:
    lines = []
    for i, fit in enumerate(dict.fromkeys(str(r.get("fit", "")) for r in history)):
        records, colour = [r for r in history if str(r.get("fit", "")) == fit], PALETTE[i % len(PALETTE)]
        for part, dash in (("train", ""), ("tune", "6 3")):
            pairs = [(i + 1.0, float(r[part][loss])) for i, r in enumerate(records) if loss in r.get(part, {})]
            pairs = [p for p in pairs if math.isfinite(p[1])]
            if pairs:
                curve = Curve(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))
                lines.append(Line(f"{FOLDS[part]}, {fit}".removesuffix(", "), curve, colour, dash))
    return lines


def main_loss(history: Sequence[Mapping[str, Any]]) -> str | None:
    """The loss to plot: one known on both folds, the label loss first."""
    train = {k for r in history for k in r.get("train", {})}
    tune = {k for r in history for k in r.get("tune", {})}
    known = sorted(train & tune) or sorted(train)
    preferred = [k for k in ("task", "total", "loss") if k in known]
    return next(iter([*preferred, *known]), None)


def legend(lines: Sequence[Line]) -> Markup:
    """Names beside samples of their lines; lines of one name are shown once."""
    items = [
        Markup(
            '<li><svg class="swatch" viewBox="0 0 26 8" width="26" height="8" aria-hidden="true">'
            '<path d="M0 4H26" stroke="{}" stroke-dasharray="{}"/></svg>{}</li>'
        ).format(line.colour, line.dash, line.name)
        for line in {line.name: line for line in lines}.values()
    ]
    return Markup('<ul class="legend">{}</ul>').format(join(items))


def _chart(
    axes: Axes,
    label: str,
    names: tuple[str, str],
    lines: Sequence[Line],
    reference: tuple[float, float] | None = None,
) -> Markup:
    """Lines over a grid; ``reference``: y of a dotted line at both ends of x."""
    body = grid(axes, *names)
    if reference is not None:
        body.append(Markup('<polyline class="reference" points="{}"/>').format(axes.points(axes.x, reference)))
    return svg(axes.width, axes.height, label, [*body, *(_drawn(axes, line) for line in lines)])


def _drawn(axes: Axes, line: Line) -> Markup:
    c = line.curve
    xs, ys = thinned(c.x), thinned(c.y)
    parts = []
    if line.band and c.low and c.high:
        edge = axes.points([*xs, *reversed(xs)], [*thinned(c.low), *reversed(thinned(c.high))])
        parts.append(Markup('<polygon class="band" fill="{}" points="{}"/>').format(line.colour, edge))
    parts.append(
        Markup('<polyline stroke="{}" stroke-dasharray="{}" points="{}">{}</polyline>').format(
            line.colour, line.dash, axes.points(xs, ys), titled(line.name)
        )
    )
    if line.dots:
        parts += [_dot(axes, line, i) for i in range(len(c.x))]
    return join(parts)


def _dot(axes: Axes, line: Line, i: int) -> Markup:
    c = line.curve
    e = Estimate(c.y[i], c.low[i], c.high[i]) if c.low and c.high else Estimate(c.y[i])
    title = f"{line.name}: predicted {percent(c.x[i])}, observed {percent_interval(e)}"
    return dot(axes.px(c.x[i]), axes.py(c.y[i]), line.colour, 3, title)


def thinned(values: Sequence[float], most: int = MAX_POINTS) -> list[float]:
    """At most ``most`` values, evenly picked, both ends kept.

    >>> thinned([0, 1, 2, 3, 4], most=3)
    [0, 2, 4]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
