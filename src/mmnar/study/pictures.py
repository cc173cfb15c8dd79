"""A study's charts as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from mmnar.evaluation.ranks import Ranks
from mmnar.evaluation.result import Estimate
from mmnar.report.figures import BLUE, ORANGE, Axes, join, nice_ticks, shared_limits, svg, text, tick_words
from mmnar.report.wording import interval, number

ROW: Final = 20
HEAD: Final = 20
LETTER: Final = 6.1
"""Width of a letter of a chart, on average."""


def forest(
    title: str,
    rows: Mapping[str, Estimate],
    published: Mapping[str, float],
    exact: float | None,
    controls: Sequence[str] = (),
) -> Markup:
    """A dot with its interval for each row; a hollow mark where a figure was published, a line at the exact risks."""
    left = _room(rows)
    marks = [value for name, value in published.items() if name in rows]
    limits = shared_limits(rows.values(), [*marks, *([] if exact is None else [exact])])
    bottom = HEAD + ROW * len(rows)
    axes = Axes(limits, (0.0, 1.0), left + 430, bottom + 40, left, 14, HEAD, 40)
    body = [_scale(axes, bottom, title)]
    if exact is not None:
        words = f"exact risks: {number(exact, 3)}"
        body.append(_line(axes, exact, HEAD - 4, bottom, words))
        body.append(text(axes.px(exact), HEAD - 8, "exact risks", "tick", "middle"))
    for i, (name, estimate) in enumerate(rows.items()):
        y = HEAD + ROW * i + ROW / 2
        body.append(text(left - 10, y + 3.5, name, "", "end"))
        if name in published:
            body.append(_hollow(axes.px(published[name]), y, f"{name}, published: {number(published[name], 3)}"))
        body.append(_whisker(axes, estimate, y, name, ORANGE if name in controls else BLUE))
    return svg(axes.width, axes.height, f"{title} of each row with 95 % interval", join(body), "chart wide")


def critical_difference(metric: str, ranks: Ranks) -> Markup:
    """Demšar's picture: average ranks on an axis, best on the left; bars join methods that are not told apart."""
    k, groups = len(ranks.names), ranks.groups()
    side, head = _room(ranks.names), 46
    axes = Axes((1.0, float(max(k, 2))), (0.0, 1.0), 2 * side + 420, 0, side, side, 0, 0)
    first_name = head + 14 + 9 * len(groups) + 12
    levels = (k + 1) // 2
    height = first_name + 17 * levels
    body = [_rank_axis(axes, k, head)]
    if ranks.critical_difference is not None:
        body.append(_critical_bar(axes, ranks.critical_difference))
    for i, (name, average) in enumerate(zip(ranks.names, ranks.average, strict=True)):
        on_left = i < levels
        y = first_name + 17 * (i if on_left else k - 1 - i)
        end = side - 8 if on_left else axes.width - side + 8
        words = f"{name}: {number(average)}"
        body.append(
            Markup('<path class="axis rank" d="M{} {}V{}H{}"><title>{}</title></path>').format(
                f"{axes.px(average):.1f}", head, y, end, words
            )
        )
        body.append(text(end - 4 if on_left else end + 4, y + 3.5, words, "", "end" if on_left else "start"))
    for j, (first, last) in enumerate(groups):
        ends = (f"{axes.px(ranks.average[place]):.1f}" for place in (first, last))
        words = f"not told apart: {', '.join(ranks.names[first : last + 1])}"
        body.append(
            Markup('<path class="joined" d="M{} {y}H{}"><title>{}</title></path>').format(
                *ends, words, y=head + 12 + 9 * j
            )
        )
    return svg(axes.width, height, f"Average ranks by {metric}", join(body), "chart wide")


def parameter(
    name: str, tried: Mapping[str, Estimate], default: Estimate | None, limits: tuple[float, float]
) -> Markup:
    """The metric at each value of one parameter; dotted, the default settings."""
    step = max(44, 8 + round(LETTER * max(len(label) for label in tried)))
    axes = Axes((-0.5, len(tried) - 0.5), limits, 62 + max(step * len(tried), 130), 190, 50, 12, 12, 40)
    right, floor = axes.width - axes.right, axes.height - axes.bottom
    ticks = [t for t in nice_ticks(*limits, 4) if limits[0] <= t <= limits[1]]
    body = []
    for t in ticks:
        body.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(axes.left, f"{axes.py(t):.1f}", right))
        body.append(text(axes.left - 6, axes.py(t) + 3.5, tick_words(t, ticks), "tick", "end"))
    if default is not None and default.value is not None:
        y, words = f"{axes.py(default.value):.1f}", f"default: {interval(default, 3)}"
        line = '<path class="reference" d="M{} {}H{}"><title>{}</title></path>'
        body.append(Markup(line).format(axes.left, y, right, words))
    known = [(i, e.value) for i, e in enumerate(tried.values()) if e.value is not None]
    points = axes.points((i for i, _ in known), (value for _, value in known))
    body.append(Markup('<polyline stroke="{}" points="{}"/>').format(BLUE, points))
    for i, (label, estimate) in enumerate(tried.items()):
        body.append(text(axes.px(i), floor + 16, label, "tick", "middle"))
        body.append(_upright(axes, i, estimate, f"{name} = {label}"))
    body.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(axes.left, floor, right))
    return svg(axes.width, axes.height, f"AUROC by {name}", join(body))


def _room(names: Sequence[str] | Mapping[str, Estimate]) -> int:
    """Pixels that the longest name takes."""
    return 24 + round(LETTER * max(len(name) + 4 for name in names))


def _scale(axes: Axes, bottom: int, title: str) -> Markup:
    ticks = nice_ticks(*axes.x)
    shown = [t for t in ticks if axes.x[0] <= t <= axes.x[1]]
    parts = []
    for t in shown:
        parts.append(Markup('<path class="grid" d="M{} {}V{}"/>').format(f"{axes.px(t):.1f}", HEAD, bottom))
        parts.append(text(axes.px(t), bottom + 16, tick_words(t, ticks), "tick", "middle"))
    middle = (axes.left + axes.width - axes.right) / 2
    return join([*parts, text(middle, bottom + 34, title, "label", "middle")])


def _line(axes: Axes, value: float, top: float, bottom: float, words: str) -> Markup:
    return Markup('<path class="reference" d="M{} {}V{}"><title>{}</title></path>').format(
        f"{axes.px(value):.1f}", top, bottom, words
    )


def _hollow(x: float, y: float, words: str) -> Markup:
    return Markup('<circle class="hollow" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
        f"{x:.1f}", y, words
    )


def _whisker(axes: Axes, estimate: Estimate, y: float, name: str, colour: str) -> Markup:
    if estimate.value is None:
        return text(axes.left + 6, y + 3.5, estimate.reason, "refusal")
    low, high = _ends(estimate)
    return Markup(
        '<g><title>{}</title><path class="whisker" stroke="{}" d="M{} {y}H{}"/>'
        '<circle cx="{}" cy="{y}" r="3.5" fill="{}"/></g>'
    ).format(
        f"{name}: {interval(estimate, 3)}",
        colour,
        *(f"{axes.px(v):.1f}" for v in (low, high, estimate.value)),
        colour,
        y=y,
    )


def _upright(axes: Axes, place: float, estimate: Estimate, name: str) -> Markup:
    if estimate.value is None:
        return Markup("")
    low, high = _ends(estimate)
    return Markup(
        '<g><title>{}</title><path class="whisker" stroke="{}" d="M{x} {}V{}"/>'
        '<circle cx="{x}" cy="{}" r="3.5" fill="{}"/></g>'
    ).format(
        f"{name}: {interval(estimate, 3)}",
        BLUE,
        *(f"{axes.py(v):.1f}" for v in (low, high, estimate.value)),
        BLUE,
        x=f"{axes.px(place):.1f}",
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    value = estimate.value or 0.0
    return (
        value if estimate.low is None else estimate.low,
        value if estimate.high is None else estimate.high,
    )


def _rank_axis(axes: Axes, k: int, y: int) -> Markup:
    parts = [Markup('<path class="axis" d="M{} {}H{}"/>').format(axes.left, y, axes.width - axes.right)]
    for rank in range(1, max(k, 2) + 1):
        parts.append(Markup('<path class="axis" d="M{} {}v-5"/>').format(f"{axes.px(rank):.1f}", y))
        parts.append(text(axes.px(rank), y - 9, str(rank), "tick", "middle"))
    return join(parts)


def _critical_bar(axes: Axes, difference: float) -> Markup:
    """How far apart two averages must be, as a length on the axis' scale."""
    end = axes.px(1.0 + difference)
    words = f"critical difference {number(difference)}"
    bar = Markup('<path class="whisker ink critical" d="M{} 14H{}"/>').format(axes.left, f"{end:.1f}")
    return join([bar, text(axes.left - 6, 17.5, words, "tick", "end")])
