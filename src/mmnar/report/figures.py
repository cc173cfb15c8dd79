"""Charts as inline SVG: no script, no font, no file from elsewhere. Every text goes through markupsafe.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; lines also differ by dash for grey prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from mmnar.evaluation.atlas import Atlas, PatternRow
from mmnar.evaluation.result import Curve, Estimate
from mmnar.privacy import briefly
from mmnar.report.wording import count, interval, number, percent, percent_interval

BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
MUTED: Final = "#9aa3ad"
PALETTE: Final = (BLUE, ORANGE, "#009E73", "#CC79A7", "#B8860B", "#56B4E9")
DASHES: Final = ("", "7 3", "2 2.5", "9 3 2 3", "4 4", "12 4")
MAX_POINTS: Final = 300


@dataclass(frozen=True)
class Line:
    """A curve with its looks; ``band`` draws ``curve.low`` to ``curve.high``, ``dots`` marks the points."""

    name: str
    curve: Curve
    colour: str = BLUE
    dash: str = ""
    band: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Axes:
    """Maps data to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 330
    height: int = 300
    left: int = 50
    right: int = 12
    top: int = 10
    bottom: int = 42

    def px(self, value: float) -> float:
        return self.left + (value - self.x[0]) / _span(self.x) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        return self.height - self.bottom - (value - self.y[0]) / _span(self.y) * (self.height - self.top - self.bottom)

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        return " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _span(limits: tuple[float, float]) -> float:
    return (limits[1] - limits[0]) or 1.0


def nice_ticks(low: float, high: float, target: int = 5) -> list[float]:
    """About ``target`` round numbers that cover low to high.

    >>> nice_ticks(0, 0.37)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    raw = max(high - low, 1e-9) / target
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def svg(width: int, height: int, label: str, body: Markup, css: str = "chart") -> Markup:
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>'
    ).format(css, label, width, height, width, height, body)


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start", rotate: str = "") -> Markup:
    """Words in a chart; ``rotate``: angle, and the point to turn about."""
    turn = Markup(' transform="rotate({})"').format(rotate) if rotate else Markup("")
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}"{}>{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", css, anchor, turn, words
    )


def _grid(axes: Axes, xlabel: str, ylabel: str) -> Markup:
    xticks, yticks = (
        nice_ticks(*axes.x),
        nice_ticks(*axes.y),
    )
    bottom, right = axes.height - axes.bottom, axes.width - axes.right
    parts = []
    for t in (t for t in yticks if axes.y[0] - 1e-9 <= t <= axes.y[1] + 1e-9):
        y = f"{axes.py(t):.1f}"
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(axes.left, y, right))
        parts.append(text(axes.left - 6, axes.py(t) + 3.5, tick_words(t, yticks), "tick", "end"))
    for t in (t for t in xticks if axes.x[0] - 1e-9 <= t <= axes.x[1] + 1e-9):
        x = f"{axes.px(t):.1f}"
        parts.append(Markup('<path class="axis" d="M{} {}v4"/>').format(x, bottom))
        parts.append(text(axes.px(t), bottom + 16, tick_words(t, xticks), "tick", "middle"))
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(axes.left, bottom, right))
    parts.append(text((axes.left + right) / 2, axes.height - 6, xlabel, "label", "middle"))
    middle = (axes.top + bottom) / 2
    parts.append(text(12, middle, ylabel, "label", "middle", f"-90 12 {middle:.1f}"))
    return join(parts)


def tick_words(value: float, ticks: Sequence[float]) -> str:
    """A tick's number with as many digits as its axis needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += abs(round(step, digits) - step) > 1e-9
    return number(value, digits)


def thinned(values: Sequence[float], most: int = MAX_POINTS) -> list[float]:
    """At most ``most`` values, evenly picked, both ends kept.

    >>> thinned([0, 1, 2, 3, 4], most=3)
    [0, 2, 4]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def _draw(axes: Axes, line: Line) -> Markup:
    c = line.curve
    xs, ys = thinned(c.x), thinned(c.y)
    parts = []
    if line.band and c.low and c.high:
        edge = [*thinned(c.low), *reversed(thinned(c.high))]
        parts.append(
            Markup('<polygon class="band" fill="{}" points="{}"/>').format(
                line.colour, axes.points([*xs, *reversed(xs)], edge)
            )
        )
    parts.append(
        Markup('<polyline stroke="{}" stroke-dasharray="{}" points="{}"><title>{}</title></polyline>').format(
            line.colour, line.dash, axes.points(xs, ys), line.name
        )
    )
    if line.dots:
        parts += [_dot(axes, line, i) for i in range(len(c.x))]
    return join(parts)


def _dot(axes: Axes, line: Line, i: int) -> Markup:
    c = line.curve
    e = Estimate(c.y[i], c.low[i], c.high[i]) if c.low and c.high else Estimate(c.y[i])
    words = f"{line.name}: predicted {percent(c.x[i])}, observed {percent_interval(e)}"
    return Markup('<circle cx="{}" cy="{}" r="3" fill="{}"><title>{}</title></circle>').format(
        f"{axes.px(c.x[i]):.1f}", f"{axes.py(c.y[i]):.1f}", line.colour, words
    )


def _reference(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> Markup:
    return Markup('<polyline class="reference" points="{}"/>').format(axes.points(x, y))


def roc_figure(task: str, lines: Sequence[Line]) -> Markup:
    """ROC curves; the diagonal is chance."""
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    body = [_grid(axes, "1 − specificity", "Sensitivity"), _reference(axes, (0, 1), (0, 1))]
    return svg(axes.width, axes.height, f"ROC curves for {task}", join([*body, *(_draw(axes, x) for x in lines)]))


def pr_figure(task: str, lines: Sequence[Line], prevalence: float | None) -> Markup:
    """Precision-recall curves; the dotted line is the outcome rate."""
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    body = [_grid(axes, "Sensitivity (recall)", "Positive predictive value")]
    if prevalence is not None:
        body.append(_reference(axes, (0, 1), (prevalence, prevalence)))
    label = f"Precision-recall curves for {task}"
    return svg(axes.width, axes.height, label, join([*body, *(_draw(axes, x) for x in lines)]))


def calibration_figure(task: str, model: str, lines: Sequence[Line], top: float) -> Markup:
    """Observed rate against predicted risk with an interval band; the diagonal is perfect.

    Args:
        top: Largest value of any model on this task, so that its charts share one scale.
    """
    limit = min(1.0, nice_ticks(0, top)[-1])
    axes = Axes((0.0, limit), (0.0, limit), 250, 235)
    body = [_grid(axes, "Predicted risk", "Observed rate"), _reference(axes, (0, limit), (0, limit))]
    label = f"Calibration of {model} for {task}"
    return svg(axes.width, axes.height, label, join([*body, *(_draw(axes, x) for x in lines)]))


def training_figure(run: str, history: Sequence[dict[str, Any]]) -> Markup | None:
    """Training and tuning loss by epoch, one pair of lines a fit; None where nothing was recorded."""
    loss = main_loss(history)
    if loss is None:
        return None
    lines = []
    for fit in dict.fromkeys(str(r.get("fit", "")) for r in history):
        records = [r for r in history if str(r.get("fit", "")) == fit]
        for part, colour, dash in (("train", BLUE, ""), ("tune", ORANGE, "6 3")):
            pairs = [(i + 1.0, float(r[part][loss])) for i, r in enumerate(records) if loss in r.get(part, {})]
            pairs = [p for p in pairs if math.isfinite(p[1])]
            if pairs:
                curve = Curve(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))
                lines.append(Line(f"{part} {loss}, fit {fit}", curve, colour, dash))
    if not lines:
        return None
    values = [v for x in lines for v in x.curve.y]
    ticks = nice_ticks(min(values), max(values))
    epochs = max(v for x in lines for v in x.curve.x)
    axes = Axes((1.0, max(epochs, 2.0)), (ticks[0], ticks[-1]), 250, 200)
    body = join([_grid(axes, "Epoch", f"Loss ({loss})"), *(_draw(axes, x) for x in lines)])
    return svg(axes.width, axes.height, f"Training curves of {run}", body)


def main_loss(history: Sequence[dict[str, Any]]) -> str | None:
    """The loss to plot: one known on both folds, the label loss first."""
    train = {k for r in history for k in r.get("train", {})}
    tune = {k for r in history for k in r.get("tune", {})}
    known = sorted(train & tune) or sorted(train)
    preferred = [k for k in ("task", "total", "loss") if k in known]
    return next(iter([*preferred, *known]), None)


def legend(lines: Sequence[Line]) -> Markup:
    """Names beside samples of their lines."""
    items = [
        Markup(
            '<li><svg class="swatch" viewBox="0 0 26 8" width="26" height="8" aria-hidden="true">'
            '<path d="M0 4H26" stroke="{}" stroke-dasharray="{}"/></svg>{}</li>'
        ).format(line.colour, line.dash, line.name)
        for line in lines
    ]
    return Markup('<ul class="legend">{}</ul>').format(join(items))


def interval_mark(
    estimate: Estimate,
    limits: tuple[float, float],
    digits: int = 2,
    reference: float | None = None,
    rectified: bool = False,
) -> Markup:
    """A dot with its interval, small enough for a table cell."""
    if estimate.value is None:
        return Markup("")
    axes = Axes(limits, (0.0, 1.0), 150, 18, 6, 6, 0, 0)
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    parts = [Markup('<path class="grid" d="M6 9H144"/>')]
    if reference is not None and limits[0] <= reference <= limits[1]:
        parts.append(Markup('<path class="reference" d="M{} 1V17"/>').format(f"{axes.px(reference):.1f}"))
    colour = ORANGE if rectified else BLUE
    x0, x1, x = (f"{axes.px(min(max(v, limits[0]), limits[1])):.1f}" for v in (low, high, estimate.value))
    parts.append(Markup('<path class="whisker" stroke="{}" d="M{} 9H{}"/>').format(colour, x0, x1))
    parts.append(Markup('<circle cx="{}" cy="9" r="3.5" fill="{}"/>').format(x, colour))
    words = interval(estimate, digits)
    return svg(150, 18, words, join([Markup("<title>{}</title>").format(words), *parts]), "mark")


def shared_limits(estimates: Iterable[Estimate], include: Sequence[float] = ()) -> tuple[float, float]:
    """Limits that hold every interval, so that marks in one table can be compared."""
    values = [v for e in estimates for v in (e.value, e.low, e.high) if v is not None]
    values += include if values else [0.0, 1.0]
    margin = 0.04 * (max(values) - min(values) or 1.0)
    return min(values) - margin, max(values) + margin


def share_bar(share: float, words: str) -> Markup:
    """A horizontal bar of a share of one."""
    bar = Markup('<rect class="track" width="150" height="12"/><rect width="{}" height="12" fill="{}"/>').format(
        f"{150 * min(max(share, 0.0), 1.0):.1f}", BLUE
    )
    return svg(150, 12, words, join([Markup("<title>{}</title>").format(words), bar]), "mark")


ROW: Final = 22
CELL: Final = 18
PANEL: Final = 190
GAP: Final = 48
COUNT: Final = 132
MAX_PATTERNS: Final = 24


def pattern_figure(atlas: Atlas, modalities: Sequence[str], tasks: Sequence[str]) -> Markup:
    """Figure 1: patterns as rows of dots (filled = present), outcome rate with interval beside them for each task."""
    rows = atlas.patterns[:MAX_PATTERNS]
    head = 34 + round(5.2 * max(len(m) for m in modalities))
    matrix = CELL * len(modalities) + 14
    width, height = matrix + COUNT + (PANEL + GAP) * len(tasks) + 10, head + ROW * len(rows) + 40
    body = [_matrix_head(modalities, head), text(matrix + COUNT - 8, head - 8, "samples", "label", "end")]
    body += [_pattern_dots(row, modalities, head + ROW * i, matrix, width) for i, row in enumerate(rows)]
    most = max((row.n or 0 for row in rows), default=0)
    body += [_count_bar(row, most, matrix, head + ROW * i) for i, row in enumerate(rows)]
    for k, task in enumerate(tasks):
        body.append(_rate_panel(atlas, rows, task, matrix + COUNT + (PANEL + GAP) * k, head))
    return svg(
        width,
        height,
        "Number of samples and outcome rate by observation pattern: " + ", ".join(tasks),
        join(body),
        "chart wide",
    )


def _matrix_head(modalities: Sequence[str], head: int) -> Markup:
    names = []
    for m, name in enumerate(modalities):
        x = 12 + CELL * m
        names.append(text(x + 3, head - 8, name, "tick", "start", f"-60 {x + 3} {head - 8}"))
    return join(names)


def _pattern_dots(row: PatternRow, modalities: Sequence[str], y: int, matrix: int, width: int) -> Markup:
    middle = y + ROW / 2
    parts = [Markup('<path class="grid" d="M0 {}H{}"/>').format(y + ROW, width)]
    if row.present is None:
        parts.append(text(8, middle + 3.5, "others, each rare" if matrix > 110 else "others", "tick"))
    for m, name in enumerate(modalities if row.present is not None else ()):
        css = "here" if name in (row.present or ()) else "gone"
        words = f"{name}: {'present' if css == 'here' else 'absent'}"
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="5"><title>{}</title></circle>').format(
                css, 12 + CELL * m, middle, words
            )
        )
    return join(parts)


def _count_bar(row: PatternRow, most: int, matrix: int, y: int) -> Markup:
    """How many samples have the pattern: a bar to the left of its number."""
    middle, room = y + ROW / 2, COUNT - 62
    label = text(matrix + COUNT - 8, middle + 3.5, count(row.n), "value", "end")
    if row.n is None:
        return label
    length = room * row.n / max(most, 1)
    bar = Markup('<rect x="{}" y="{}" width="{}" height="12" fill="{}"/>').format(
        f"{matrix + room - length:.1f}", middle - 6, f"{length:.1f}", MUTED
    )
    return join([bar, label])


def _rate_panel(atlas: Atlas, rows: Sequence[PatternRow], task: str, left: int, head: int) -> Markup:
    overall = atlas.outcomes[task].rate
    highs = [v for r in [*rows] for v in (r.outcomes[task].rate.high,) if v is not None]
    limit = min(1.0, nice_ticks(0, max([*highs, overall.high or 0.1]), 4)[-1])
    bottom = head + ROW * len(rows)
    axes = Axes((0.0, limit), (0.0, 1.0), left + PANEL, 0, left, 0, 0, 0)
    parts = [text(left, head - 22 if len(task) > 26 else head - 8, task, "heading")]
    ticks = nice_ticks(0, limit, 4)
    for t in (t for t in ticks if t <= limit + 1e-9):
        x = f"{axes.px(t):.1f}"
        parts.append(Markup('<path class="grid" d="M{} {}V{}"/>').format(x, head, bottom))
        parts.append(
            text(axes.px(t), bottom + 15, f"{tick_words(100 * t, [100 * v for v in ticks])} %", "tick", "middle")
        )
    if overall.value is not None:
        x = f"{axes.px(overall.value):.1f}"
        parts.append(Markup('<path class="reference" d="M{} {}V{}"/>').format(x, head, bottom))
    parts += [_rate_bar(axes, row, task, head + ROW * i) for i, row in enumerate(rows)]
    return join(parts)


def _rate_bar(axes: Axes, row: PatternRow, task: str, y: int) -> Markup:
    outcome, left, middle = row.outcomes[task], axes.left, y + ROW / 2
    e = outcome.rate
    if e.value is None or e.low is None or e.high is None:
        return text(left + 4, middle + 3.5, briefly(e.reason), "refusal")
    words = f"{row.label}: {percent_interval(e)}, {count(outcome.n)} asked, {count(outcome.events)} with the outcome"
    return Markup(
        '<g><title>{}</title><rect class="bar" x="{}" y="{}" width="{}" height="12" fill="{}"/>'
        '<path class="whisker ink" d="M{} {}H{}"/><path class="whisker ink" d="M{} {}v6M{} {}v6"/></g>'
    ).format(
        words,
        left,
        middle - 6,
        f"{axes.px(e.value) - left:.1f}",
        BLUE,
        f"{axes.px(e.low):.1f}",
        middle,
        f"{axes.px(e.high):.1f}",
        f"{axes.px(e.low):.1f}",
        middle - 3,
        f"{axes.px(e.high):.1f}",
        middle - 3,
    )
