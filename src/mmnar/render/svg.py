"""Axes, ticks and texts as inline SVG: no script, no font, no file from elsewhere. Every text goes through markupsafe.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; lines also differ by dash for grey prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from mmnar.evaluation.result import Estimate
from mmnar.render.wording import number, percent

BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
MUTED: Final = "#9aa3ad"
PALETTE: Final = (BLUE, ORANGE, "#009E73", "#CC79A7", "#B8860B", "#56B4E9")
DASHES: Final = ("", "7 3", "2 2.5", "9 3 2 3", "4 4", "12 4")


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

    @property
    def floor(self) -> int:
        """Pixel of the lower edge."""
        return self.height - self.bottom

    @property
    def wall(self) -> int:
        """Pixel of the right edge."""
        return self.width - self.right

    def px(self, value: float) -> float:
        return self.left + (value - self.x[0]) / _span(self.x) * (self.wall - self.left)

    def py(self, value: float) -> float:
        return self.floor - (value - self.y[0]) / _span(self.y) * (self.floor - self.top)

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        return " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _span(limits: tuple[float, float]) -> float:
    return (limits[1] - limits[0]) or 1.0


def shared_limits(estimates: Iterable[Estimate], include: Sequence[float] = ()) -> tuple[float, float]:
    """Limits that hold every interval, so that marks in one table can be compared."""
    values = [v for e in estimates for v in (e.value, e.low, e.high) if v is not None]
    values += include if values else [0.0, 1.0]
    margin = 0.04 * (max(values) - min(values) or 1.0)
    return min(values) - margin, max(values) + margin


def ends(estimate: Estimate) -> tuple[float, float]:
    """Its interval; its value twice where it has none."""
    value = estimate.value or 0.0
    return value if estimate.low is None else estimate.low, value if estimate.high is None else estimate.high


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


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """A tick's number with as many digits as its axis needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    digits += abs(round(step, digits) - step) > 1e-9
    return number(value, digits)


def join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def svg(width: int, height: int, label: str, body: Iterable[Markup], css: str = "chart") -> Markup:
    """A picture; ``label`` is what those who do not see it are told."""
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>'
    ).format(css, label, width, height, width, height, join(body))


def text(x: float, y: float, shown: str, css: str = "", anchor: str = "start", rotate: str = "") -> Markup:
    """A text in a chart; ``rotate``: angle, and the point to turn about."""
    turn = Markup(' transform="rotate({})"').format(rotate) if rotate else Markup("")
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}"{}>{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", css, anchor, turn, shown
    )


def titled(title: str) -> Markup:
    """What a browser shows when pointed at."""
    return Markup("<title>{}</title>").format(title)


def path(css: str, d: str, title: str = "") -> Markup:
    """A line of one of the style sheet's kinds."""
    return Markup('<path class="{}" d="{}">{}</path>').format(css, d, titled(title) if title else "")


def whisker(d: str, colour: str) -> Markup:
    """The line of an interval."""
    return Markup('<path class="whisker" stroke="{}" d="{}"/>').format(colour, d)


def dot(x: float, y: float, colour: str, radius: float = 3.5, title: str = "") -> Markup:
    return Markup('<circle cx="{}" cy="{}" r="{}" fill="{}">{}</circle>').format(
        f"{x:.1f}", f"{y:.1f}", radius, colour, titled(title) if title else ""
    )


def levels(axes: Axes, target: int = 5) -> list[Markup]:
    """Horizontal lines at round values of y, their numbers at the left."""
    ticks = nice_ticks(*axes.y, target)
    parts = []
    for t in _within(ticks, axes.y):
        parts.append(path("grid", f"M{axes.left} {axes.py(t):.1f}H{axes.wall}"))
        parts.append(text(axes.left - 6, axes.py(t) + 3.5, tick_label(t, ticks), "tick", "end"))
    return parts


def uprights(axes: Axes, target: int = 5, of_hundred: bool = False) -> list[Markup]:
    """Vertical lines at round values of x, their numbers beneath, in percent if ``of_hundred``."""
    ticks = nice_ticks(*axes.x, target)
    parts = []
    for t in _within(ticks, axes.x):
        shown = f"{tick_label(100 * t, [100 * v for v in ticks])} %" if of_hundred else tick_label(t, ticks)
        parts.append(path("grid", f"M{axes.px(t):.1f} {axes.top}V{axes.floor}"))
        parts.append(text(axes.px(t), axes.floor + 16, shown, "tick", "middle"))
    return parts


def grid(axes: Axes, xlabel: str, ylabel: str) -> list[Markup]:
    """Levels, a floor with ticks, and the names of both axes."""
    parts, ticks = levels(axes), nice_ticks(*axes.x)
    for t in _within(ticks, axes.x):
        parts.append(path("axis", f"M{axes.px(t):.1f} {axes.floor}v4"))
        parts.append(text(axes.px(t), axes.floor + 16, tick_label(t, ticks), "tick", "middle"))
    middle = (axes.top + axes.floor) / 2
    parts.append(path("axis", f"M{axes.left} {axes.floor}H{axes.wall}"))
    parts.append(text((axes.left + axes.wall) / 2, axes.height - 6, xlabel, "label", "middle"))
    parts.append(text(12, middle, ylabel, "label", "middle", f"-90 12 {middle:.1f}"))
    return parts


def _within(ticks: Sequence[float], limits: tuple[float, float]) -> list[float]:
    return [t for t in ticks if limits[0] - 1e-9 <= t <= limits[1] + 1e-9]


def share_bar(share: float) -> Markup:
    """A horizontal bar of a share of one."""
    shown = percent(share)
    bar = Markup('<rect class="track" width="150" height="12"/><rect width="{}" height="12" fill="{}"/>').format(
        f"{150 * min(max(share, 0.0), 1.0):.1f}", BLUE
    )
    return svg(150, 12, shown, [titled(shown), bar], "mark")
