"""Numbers with their intervals as dots and whiskers: in a table's cell, row by row, by setting, and as ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from markupsafe import Markup

from mmnar.evaluation.ranks import Ranks
from mmnar.evaluation.result import Estimate
from mmnar.render.svg import (
    BLUE,
    ORANGE,
    Axes,
    dot,
    ends,
    levels,
    nice_ticks,
    path,
    shared_limits,
    svg,
    text,
    tick_label,
    titled,
    uprights,
    whisker,
)
from mmnar.render.wording import interval, number

ROW: Final = 20
HEAD: Final = 20
Better = Literal["higher", "lower", ""]
LETTER: Final = 6.1
"""Width of a letter of a chart, on average."""


def interval_mark(
    estimate: Estimate,
    limits: tuple[float, float],
    digits: int = 2,
    reference: float | None = None,
    colour: str = BLUE,
) -> Markup:
    """A dot with its interval, small enough for a table cell."""
    if estimate.value is None:
        return Markup("")
    axes = Axes(limits, (0.0, 1.0), 150, 18, 6, 6, 0, 0)
    shown = interval(estimate, digits)
    parts = [titled(shown), path("grid", "M6 9H144")]
    if reference is not None and limits[0] <= reference <= limits[1]:
        parts.append(path("reference", f"M{axes.px(reference):.1f} 1V17"))
    low, high, value = (axes.px(min(max(v, limits[0]), limits[1])) for v in (*ends(estimate), estimate.value))
    parts += [whisker(f"M{low:.1f} 9H{high:.1f}", colour), dot(value, 9, colour)]
    return svg(150, 18, shown, parts, "mark")


def marks_head(
    words: str, limits: tuple[float, float], better: Better = "", reference: float | None = None, middle: str = ""
) -> Markup:
    """The head of a column of marks: what they are, which side is good, and the axis they share.

    Args:
        limits: As for the marks, see ``interval_mark``.
        better: Whether higher or lower is better; "" = neither, the best is at ``reference`` or nowhere.
        middle: What stands at the reference, if neither side is good.
    """
    axes = Axes(limits, (0.0, 1.0), 150, 26, 6, 6, 0, 0)
    said = {"higher": "better →", "lower": "← better", "": middle}[better]
    at, anchor = {"higher": (144.0, "end"), "lower": (6.0, "start"), "": (75.0, "middle")}[better]
    if middle and reference is not None:
        at = min(max(axes.px(reference), 30.0), 120.0)
    ticks = [t for t in nice_ticks(*limits, 3) if limits[0] <= t <= limits[1]]
    parts = [text(at, 8, said, "tick", anchor)] if said else []
    parts.append(path("axis", "M6 24.5H144"))
    for t in ticks:
        parts.append(path("axis", f"M{axes.px(t):.1f} 24.5v-3"))
        parts.append(text(min(max(axes.px(t), 12), 138), 19.5, tick_label(t, ticks), "tick", "middle"))
    label = f"axis from {tick_label(ticks[0], ticks)} to {tick_label(ticks[-1], ticks)}" if ticks else "axis"
    return Markup("{}{}").format(words, svg(150, 26, f"{label}; {said}" if said else label, parts, "mark"))


def forest(
    title: str,
    rows: Mapping[str, Estimate],
    published: Mapping[str, float],
    exact: float | None,
    controls: Sequence[str] = (),
) -> Markup:
    """A dot with its interval for each row; a hollow mark where a figure was published, a line at the exact risks."""
    left = _room(rows)
    known = [value for name, value in published.items() if name in rows]
    limits = shared_limits(rows.values(), [*known, *([] if exact is None else [exact])])
    axes = Axes(limits, (0.0, 1.0), left + 430, HEAD + ROW * len(rows) + 40, left, 14, HEAD, 40)
    middle = (axes.left + axes.wall) / 2
    body = [*uprights(axes), text(middle, axes.floor + 34, title, "label", "middle")]
    if exact is not None:
        x = axes.px(exact)
        body.append(path("reference", f"M{x:.1f} {HEAD - 4}V{axes.floor}", f"exact risks: {number(exact, 3)}"))
        body.append(text(x, HEAD - 8, "exact risks", "tick", "middle"))
    for i, (name, estimate) in enumerate(rows.items()):
        y = HEAD + ROW * i + ROW / 2
        body.append(text(left - 10, y + 3.5, name, "", "end"))
        if name in published:
            body.append(_hollow(axes.px(published[name]), y, f"{name}, published: {number(published[name], 3)}"))
        body.append(_across(axes, estimate, y, name, ORANGE if name in controls else BLUE))
    return svg(axes.width, axes.height, f"{title} of each row with 95 % interval", body, "chart wide")


def parameter(
    name: str, tried: Mapping[str, Estimate], default: Estimate | None, limits: tuple[float, float]
) -> Markup:
    """The metric at each value of one parameter; dotted, the default settings."""
    step = max(44, 8 + round(LETTER * max(len(label) for label in tried)))
    axes = Axes((-0.5, len(tried) - 0.5), limits, 62 + max(step * len(tried), 130), 190, 50, 12, 12, 40)
    body = levels(axes, 4)
    if default is not None and default.value is not None:
        d = f"M{axes.left} {axes.py(default.value):.1f}H{axes.wall}"
        body.append(path("reference", d, f"default: {interval(default, 3)}"))
    known = [(i, e.value) for i, e in enumerate(tried.values()) if e.value is not None]
    points = axes.points((i for i, _ in known), (value for _, value in known))
    body.append(Markup('<polyline stroke="{}" points="{}"/>').format(BLUE, points))
    for i, (label, estimate) in enumerate(tried.items()):
        body.append(text(axes.px(i), axes.floor + 16, label, "tick", "middle"))
        body.append(_upright(axes, i, estimate, f"{name} = {label}"))
    body.append(path("axis", f"M{axes.left} {axes.floor}H{axes.wall}"))
    return svg(axes.width, axes.height, f"AUROC by {name}", body)


def critical_difference(metric: str, ranks: Ranks) -> Markup:
    """Demšar's picture: average ranks on an axis, best on the left; bars join methods that are not told apart."""
    k, groups = len(ranks.names), ranks.groups()
    side, head = _room(ranks.names), 46
    axes = Axes((1.0, float(max(k, 2))), (0.0, 1.0), 2 * side + 420, 0, side, side, 0, 0)
    first_name, half = head + 14 + 9 * len(groups) + 12, (k + 1) // 2
    body = _rank_axis(axes, k, head)
    if ranks.critical_difference is not None:
        body += _critical_bar(axes, ranks.critical_difference)
    for i, (name, average) in enumerate(zip(ranks.names, ranks.average, strict=True)):
        on_left = i < half
        y = first_name + 17 * (i if on_left else k - 1 - i)
        end = side - 8 if on_left else axes.width - side + 8
        shown = f"{name}: {number(average)}"
        body.append(path("axis rank", f"M{axes.px(average):.1f} {head}V{y}H{end}", shown))
        body.append(text(end - 4 if on_left else end + 4, y + 3.5, shown, "", "end" if on_left else "start"))
    for j, (first, last) in enumerate(groups):
        low, high = (axes.px(ranks.average[place]) for place in (first, last))
        title = f"not told apart: {', '.join(ranks.names[first : last + 1])}"
        body.append(path("joined", f"M{low:.1f} {head + 12 + 9 * j}H{high:.1f}", title))
    return svg(axes.width, first_name + 17 * half, f"Average ranks by {metric}", body, "chart wide")


def _room(names: Sequence[str] | Mapping[str, Estimate]) -> int:
    """Pixels that the longest name takes."""
    return 24 + round(LETTER * max(len(name) + 4 for name in names))


def _hollow(x: float, y: float, title: str) -> Markup:
    return Markup('<circle class="hollow" cx="{}" cy="{}" r="4">{}</circle>').format(f"{x:.1f}", y, titled(title))


def _across(axes: Axes, estimate: Estimate, y: float, name: str, colour: str) -> Markup:
    if estimate.value is None:
        return text(axes.left + 6, y + 3.5, estimate.reason, "refusal")
    low, high = (axes.px(v) for v in ends(estimate))
    return Markup("<g>{}{}{}</g>").format(
        titled(f"{name}: {interval(estimate, 3)}"),
        whisker(f"M{low:.1f} {y}H{high:.1f}", colour),
        dot(axes.px(estimate.value), y, colour),
    )


def _upright(axes: Axes, place: float, estimate: Estimate, name: str) -> Markup:
    if estimate.value is None:
        return Markup("")
    low, high = (axes.py(v) for v in ends(estimate))
    return Markup("<g>{}{}{}</g>").format(
        titled(f"{name}: {interval(estimate, 3)}"),
        whisker(f"M{axes.px(place):.1f} {low:.1f}V{high:.1f}", BLUE),
        dot(axes.px(place), axes.py(estimate.value), BLUE),
    )


def _rank_axis(axes: Axes, k: int, y: int) -> list[Markup]:
    parts = [path("axis", f"M{axes.left} {y}H{axes.wall}")]
    for rank in range(1, max(k, 2) + 1):
        parts.append(path("axis", f"M{axes.px(rank):.1f} {y}v-5"))
        parts.append(text(axes.px(rank), y - 9, str(rank), "tick", "middle"))
    return parts


def _critical_bar(axes: Axes, difference: float) -> list[Markup]:
    """How far apart two averages must be, as a length on the axis' scale."""
    bar = path("whisker ink critical", f"M{axes.left} 14H{axes.px(1.0 + difference):.1f}")
    return [bar, text(axes.left - 6, 17.5, f"critical difference {number(difference)}", "tick", "end")]
