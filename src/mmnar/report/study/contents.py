"""Which parts a study's page has, in order, by its layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mmnar.render.blocks import Block, Section
from mmnar.report.study.account import chosen, origin, what_was_run
from mmnar.report.study.gaps import gaps
from mmnar.report.study.layouts import availability, by_pattern, cost, curve, embedding, sensitivity
from mmnar.report.study.paired import against_controls, ladder
from mmnar.report.study.parts import parts
from mmnar.report.study.performance import performance, ranks
from mmnar.study.result import StudyResult, Table


def contents(result: StudyResult) -> tuple[Section, ...]:
    """Every section that has something in it."""
    sections = [Section("What was run", tuple(what_was_run(result)))]
    if result.study["layout"] == "curve":
        sections += _curves(result)
    for table in result.tables if result.study["layout"] != "curve" else ():
        where = _where(result, table)
        for title, blocks, terminal in _parts(result, table):
            sections.append(Section(f"{title}{where}", tuple(blocks), terminal))
    sections.append(Section("Settings that were chosen", tuple(chosen(result))))
    sections.append(Section("Versions and settings", tuple(origin(result))))
    return tuple(section for section in sections if section.blocks)


def _curves(result: StudyResult) -> list[Section]:
    """One for each data set: of every setting and value a page of its own would be hundreds of tables."""
    by_data: dict[str, list[Table]] = {}
    for table in result.tables:
        by_data.setdefault(table.data, []).append(table)
    several = len(result.study["data"]) > 1
    return [
        Section(f"Curves: {data}" if several else "Curves", tuple(curve(result, tables)), True)
        for data, tables in by_data.items()
    ]


def _where(result: StudyResult, table: Table) -> str:
    """Data set and setting, as far as there are several."""
    parts = [table.data] if len(result.study["data"]) > 1 else []
    parts += [table.setting] if len(result.study["settings"]) > 1 and table.setting else []
    return f": {', '.join(parts)}" if parts else ""


def _parts(result: StudyResult, table: Table) -> Iterator[tuple[str, Iterator[Block], bool]]:
    """(title, blocks, whether a terminal shows them): what the layout is about comes first."""
    layout = result.study["layout"]
    if layout == "availability":
        if table.atlas is not None:
            yield "Availability and outcomes", availability(table.atlas), True
        return
    first: dict[str, tuple[str, Callable[[], Iterator[Block]]]] = {
        "ladder": ("Step by step", lambda: ladder(result, table)),
        "sensitivity": ("Sensitivity to settings", lambda: sensitivity(result, table)),
        "cost": ("Cost", lambda: cost(result, table)),
        "gaps": ("Gaps between groups", lambda: gaps(result, table)),
        "kinds": ("By kind of outcome", lambda: parts(result, table)),
        "groups": (f"By {result.study.get('by', '').replace('_', ' ')}", lambda: parts(result, table)),
        "embedding": ("What the representation knows of the pattern", lambda: embedding(table)),
    }
    if layout in first and table.tasks:
        title, blocks = first[layout]
        yield title, blocks(), True
    yield "Performance", performance(result, table), layout in ("comparison", "configurations")
    if layout == "configurations":
        yield "By pattern of the patient", by_pattern(table), True
    if layout != "sensitivity":
        yield "Against controls", against_controls(result, table), True
    if layout in ("comparison", "cost"):
        yield "Average ranks", ranks(table), False
    if layout != "cost":
        yield "Cost", cost(result, table), False
