"""The figure of observation patterns: who has what, how many they are, and how often the outcome occurs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from mmnar.evaluation.atlas import Atlas, PatternRow
from mmnar.privacy import briefly
from mmnar.render.svg import BLUE, MUTED, Axes, join, nice_ticks, path, svg, text, titled, uprights
from mmnar.render.wording import count, percent_interval

ROW: Final = 22
CELL: Final = 18
PANEL: Final = 190
GAP: Final = 48
COUNT: Final = 132
MAX_PATTERNS: Final = 24


def pattern_figure(atlas: Atlas, modalities: Sequence[str], tasks: Sequence[str]) -> Markup:
    """Patterns as rows of dots (filled = present), outcome rate with interval beside them for each task."""
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
    label = "Number of samples and outcome rate by observation pattern: " + ", ".join(tasks)
    return svg(width, height, label, body, "chart wide")


def _matrix_head(modalities: Sequence[str], head: int) -> Markup:
    places = [(name, 15 + CELL * m) for m, name in enumerate(modalities)]
    return join(text(x, head - 8, name, "tick", "start", f"-60 {x} {head - 8}") for name, x in places)


def _pattern_dots(row: PatternRow, modalities: Sequence[str], y: int, matrix: int, width: int) -> Markup:
    middle = y + ROW / 2
    parts = [path("grid", f"M0 {y + ROW}H{width}")]
    if row.present is None:
        parts.append(text(8, middle + 3.5, "others, each rare" if matrix > 110 else "others", "tick"))
    for m, name in enumerate(modalities if row.present is not None else ()):
        here = name in (row.present or ())
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="5">{}</circle>').format(
                "here" if here else "gone",
                12 + CELL * m,
                middle,
                titled(f"{name}: {'present' if here else 'absent'}"),
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
    highs = [r.outcomes[task].rate.high for r in rows]
    top = max([*(v for v in highs if v is not None), overall.high or 0.1])
    limit = min(1.0, nice_ticks(0, top, 4)[-1])
    axes = Axes((0.0, limit), (0.0, 1.0), left + PANEL, head + ROW * len(rows), left, 0, head, 0)
    parts = [text(left, head - 22 if len(task) > 26 else head - 8, task, "heading"), *uprights(axes, 4, True)]
    if overall.value is not None:
        parts.append(path("reference", f"M{axes.px(overall.value):.1f} {head}V{axes.floor}"))
    return join([*parts, *(_rate_bar(axes, row, task, head + ROW * i) for i, row in enumerate(rows))])


def _rate_bar(axes: Axes, row: PatternRow, task: str, y: int) -> Markup:
    outcome, left, middle = row.outcomes[task], axes.left, y + ROW / 2
    e = outcome.rate
    if e.value is None or e.low is None or e.high is None:
        return text(left + 4, middle + 3.5, briefly(e.reason), "refusal")
    low, high = axes.px(e.low), axes.px(e.high)
    asked = f"{count(outcome.n)} asked, {count(outcome.events)} with the outcome"
    bar = Markup('<rect class="bar" x="{}" y="{}" width="{}" height="12" fill="{}"/>').format(
        left, middle - 6, f"{axes.px(e.value) - left:.1f}", BLUE
    )
    return Markup("<g>{}{}{}{}</g>").format(
        titled(f"{row.label}: {percent_interval(e)}, {asked}"),
        bar,
        path("whisker ink", f"M{low:.1f} {middle}H{high:.1f}"),
        path("whisker ink", f"M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6"),
    )
