"""What risks are worth as decisions, drawn: net benefit over thresholds, smooth calibration, where the risks lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from mmnar.evaluation.decided import RiskBin
from mmnar.evaluation.result import Curve, Estimate
from mmnar.render.charts import Line
from mmnar.render.svg import (
    BLUE,
    MUTED,
    ORANGE,
    Axes,
    dot,
    grid,
    join,
    levels,
    nice_ticks,
    path,
    svg,
    text,
    titled,
)
from mmnar.render.wording import interval, percent, threshold_text

BETTER: Final = "higher is better ↑"


def net_benefit(task: str, lines: Sequence[Line], everyone: Curve, size: tuple[int, int] = (430, 300)) -> Markup:
    """Net benefit of each model over the threshold; dotted: alert everyone, and at 0, nobody.

    A line joins the thresholds whose figures are shown, each of them a dot.

    Args:
        size: Width and height.
    """
    values = [v for line in lines for v in line.curve.y]
    ticks = nice_ticks(min([0.0, *values]), max([*values, *everyone.y[:1], 0.001]))
    xs = [*everyone.x, *(x for line in lines for x in line.curve.x)]
    axes = Axes((0.0, nice_ticks(0, max(xs))[-1]), (ticks[0] - (ticks[1] - ticks[0]) / 2, ticks[-1]), *size)
    body = grid(axes, "Threshold: alert from this risk on", "Net benefit")
    body.append(text(axes.wall, axes.top + 10, BETTER, "tick", "end"))
    body.append(_reference(axes, "alert nobody", (axes.x[0], axes.x[1]), (0.0, 0.0)))
    inside = _down_to(everyone, axes.y[0])
    body.append(_reference(axes, "alert everyone", inside.x, inside.y))
    body.append(text(axes.wall, axes.py(0.0) - 4, "nobody", "tick", "end"))
    body.append(text(axes.px(inside.x[-1]) + 4, axes.py(inside.y[-1]) - 2, "everyone", "tick"))
    body += [_benefit(axes, line) for line in lines]
    return svg(axes.width, axes.height, f"Decision curves for {task}", body)


def _benefit(axes: Axes, line: Line) -> Markup:
    c = line.curve
    drawn = Markup('<polyline stroke="{}" stroke-dasharray="{}" points="{}">{}</polyline>').format(
        line.colour, line.dash, axes.points(c.x, c.y), titled(line.name)
    )
    dots = [
        dot(
            axes.px(x),
            axes.py(y),
            line.colour,
            2.6,
            f"{line.name}, alerts from {threshold_text(x)} on: net benefit {shown}",
        )
        for x, y, shown in ((x, y, interval(_ends(c, i), 3)) for i, (x, y) in enumerate(zip(c.x, c.y, strict=True)))
    ]
    return join([drawn, *dots])


def _ends(curve: Curve, i: int) -> Estimate:
    return Estimate(curve.y[i], curve.low[i], curve.high[i]) if curve.low else Estimate(curve.y[i])


def _reference(axes: Axes, name: str, xs: Sequence[float], ys: Sequence[float]) -> Markup:
    return Markup('<polyline class="reference" points="{}">{}</polyline>').format(axes.points(xs, ys), titled(name))


def _down_to(curve: Curve, floor: float) -> Curve:
    """The part of a falling curve above a floor, with the point where it meets it."""
    xs, ys = list(curve.x), list(curve.y)
    for i, y in enumerate(ys):
        if y < floor and i:
            share = (ys[i - 1] - floor) / (ys[i - 1] - y)
            return Curve((*xs[:i], xs[i - 1] + share * (xs[i] - xs[i - 1])), (*ys[:i], floor))
    return curve


def smooth_calibration(task: str, model: str, lines: Sequence[Line], top: float) -> Markup:
    """The smooth curve with its band; on the dotted diagonal risks mean what they say, above it they are too low."""
    limit = min(1.0, nice_ticks(0, top)[-1])
    axes = Axes((0.0, limit), (0.0, limit), 250, 235)
    body = grid(axes, "Predicted risk", "Observed rate")
    body.append(_reference(axes, "risks mean what they say", axes.x, axes.y))
    body.append(text(axes.left + 6, axes.top + 10, "risks too low ↖", "tick"))
    body.append(text(axes.wall - 4, axes.floor - 8, "↘ risks too high", "tick", "end"))
    for line in lines:
        c = line.curve
        edge = axes.points([*c.x, *reversed(c.x)], [min(v, limit) for v in (*c.low, *reversed(c.high))])
        body.append(Markup('<polygon class="band" fill="{}" points="{}"/>').format(line.colour, edge))
        points = axes.points(c.x, [min(v, limit) for v in c.y])
        body.append(
            Markup('<polyline stroke="{}" stroke-dasharray="{}" points="{}">{}</polyline>').format(
                line.colour, line.dash, points, titled(line.name)
            )
        )
    return svg(axes.width, axes.height, f"Smooth calibration of {model} for {task}", body)


def risk_bars(task: str, model: str, bins: Sequence[RiskBin]) -> Markup:
    """Shares of those with (orange) and without the event (grey) whose risk lies between two edges."""
    top = nice_ticks(0, max(max(b.with_event, b.without) for b in bins))[-1]
    axes = Axes((0.0, float(len(bins))), (0.0, top), max(250, 60 + 44 * len(bins)), 235)
    body = levels(axes)
    for i, b in enumerate(bins):
        span = f"risk {threshold_text(b.low)} to {threshold_text(b.high)}"
        for at, share, colour, who in ((0.12, b.without, MUTED, "without"), (0.5, b.with_event, ORANGE, "with")):
            body.append(_bar(axes, i + at, 0.38, share, colour, f"{span}: {percent(share)} of those {who} the event"))
    for i, edge in enumerate([*(b.low for b in bins), bins[-1].high]):
        body.append(path("axis", f"M{axes.px(i):.1f} {axes.floor}v4"))
        body.append(text(axes.px(i), axes.floor + 16, threshold_text(edge).removesuffix(" %"), "tick", "middle"))
    middle = (axes.top + axes.floor) / 2
    body.append(path("axis", f"M{axes.left} {axes.floor}H{axes.wall}"))
    body.append(
        text((axes.left + axes.wall) / 2, axes.height - 6, "Predicted risk, from … to … (%)", "label", "middle")
    )
    body.append(text(12, middle, "Share of patients", "label", "middle", f"-90 12 {middle:.1f}"))
    return svg(axes.width, axes.height, f"Risks of {model} for {task}", body)


def _bar(axes: Axes, x: float, width: float, share: float, colour: str, title: str) -> Markup:
    left, right, upper = axes.px(x), axes.px(x + width), axes.py(share)
    return Markup('<rect class="pillar" x="{}" y="{}" width="{}" height="{}" fill="{}">{}</rect>').format(
        f"{left:.1f}", f"{upper:.1f}", f"{right - left:.1f}", f"{axes.floor - upper:.1f}", colour, titled(title)
    )


RISK_LEGEND: Final = Markup(
    '<ul class="legend"><li><svg class="swatch" viewBox="0 0 14 10" width="14" height="10" aria-hidden="true">'
    '<rect width="14" height="10" fill="{}"/></svg>with the event</li>'
    '<li><svg class="swatch" viewBox="0 0 14 10" width="14" height="10" aria-hidden="true">'
    '<rect width="14" height="10" fill="{}"/></svg>without it</li></ul>'
).format(ORANGE, MUTED)
MODEL: Final = BLUE
