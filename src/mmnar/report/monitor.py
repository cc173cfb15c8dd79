"""What a service's log says over time, as text and as a page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from markupsafe import Markup

from mmnar.evaluation.monitor.judged import CHOSEN, PATTERNS, RARITY, RISKS, Chosen
from mmnar.evaluation.monitor.labelled import RECTIFIED, CameTrue
from mmnar.evaluation.monitor.watch import Watched
from mmnar.evaluation.result import Curve, Estimate
from mmnar.evaluation.shift import LEVEL, RARE
from mmnar.files import write_text
from mmnar.privacy import FEW, SMALL_CELL, briefly
from mmnar.render.blocks import Block, Cell, Figure, Listing, Page, Paragraph, Picture, Section, Table, named, table_of
from mmnar.render.cells import refused_cell, share_cell, short, value_cell
from mmnar.render.charts import Line, along
from mmnar.render.page import html_of
from mmnar.render.svg import BLUE, MUTED, ends
from mmnar.render.text import section_lines
from mmnar.render.wording import listed, number, p_value, percent, some
from mmnar.report.written import writing
from mmnar.workflow.monitor import Monitored

HOW: Final = (
    "A patient counts once, by the first answer about them, and is held against the first sample of each patient that "
    "the run learned from; risks and rare patterns against its test fold. Who is chosen is told by risks alone: mean "
    "risk of who has a modality less that of who has not. A period is judged once, when it is "
    "over, by tests that are exact for any number of patients. Their p values are corrected over all tests of the "
    "period (Holm) and over the periods of a year: where nothing changes, at most one year in twenty has any alarm, "
    "however often the log is read."
)
NOT_CORRECTED: Final = (
    "Not corrected: the 95 % intervals, of which one in twenty misses; another kind of period chosen after looking; "
    "several logs or runs. A slow change may stay below what one period can show: longer periods see smaller changes."
)
WHAT_NOW: Final = (
    "Other patients are asked about than the run learned from, or clinicians order otherwise: a log cannot tell which. "
    "A model that reads the pattern carries its old habits along. Judge it on outcomes of these periods (--labels), "
    "and hold a store of them against the old one (mmnar shift), before it is used on."
)
CAME_TRUE: Final = (
    "O:E: events over the sum of risks, 1 where risks are right on average. Slope: below 1 risks are too far apart, "
    "above 1 too close. Outcomes that are not known yet are left out: if they differ, these figures will move. "
    "Intervals resample patients; none is corrected for repeated looks, and no alarm is drawn from them."
)


def monitor_text(found: Monitored) -> str:
    """For the terminal."""
    lines = [line for s in monitor_page(found).sections if s.terminal for line in (*section_lines(s), "")]
    return "\n".join(lines).rstrip()


def write_monitor(found: Monitored, out: Path) -> Path:
    """``OUT/monitor.html``, and ``OUT/monitor.json`` with all that it shows.

    Raises:
        StoreError: The folder cannot be written.
    """
    with writing(out):
        write_text(out / "monitor.json", json.dumps(asdict(found), indent=1, ensure_ascii=False))
        write_text(out / "monitor.html", html_of(monitor_page(found)))
    return out / "monitor.html"


def monitor_page(found: Monitored) -> Page:
    """The whole page, with what a reader must know first."""
    first: list[Block] = [Listing((*verdicts(found), *found.notes))]
    first += [Paragraph(WHAT_NOW)] if any(p.alarms for p in found.periods) else []
    sections = [
        Section("Is it still asked about such patients?", tuple(first), True),
        Section("Period by period", (_periods(found),), True),
        Section("Modalities", tuple(_modalities(found)), True),
        Section("Risks", tuple(_risks(found)), True),
        Section("Requests", tuple(_requests(found)), True),
    ]
    if found.came_true:
        sections.append(Section("Did the risks come true?", tuple(_came_true(found)), True))
    if found.run:
        sections.append(Section("How this is judged", (Paragraph(HOW), Paragraph(NOT_CORRECTED))))
    span = f"{found.periods[0].period} to {found.periods[-1].period}"
    return Page(
        "Monitor", f"What was asked of {found.run or 'a service'}", tuple(sections), f"{span}, by {found.every}"
    )


def verdicts(found: Monitored) -> Iterator[str]:
    """In sentences."""
    if not found.run:
        yield "No run was named (--run): the log is shown, and nothing is judged."
        return
    for period in found.periods:
        if period.alarms:
            yield f"{period.period}: changed. {'; '.join(_alarm(found, period, name) for name in period.alarms)}."
    judged = [p for p in found.periods if p.p]
    if judged and not any(p.alarms for p in judged):
        yield f"No change was shown in {some(len(judged), 'period')} judged. That does not show that there is none."
    thin = sum(p.over and not p.p for p in found.periods)
    if thin:
        yield f"Not judged for {FEW}: {some(thin, 'period')}."
    for period in found.periods:
        if not period.over:
            yield f"{period.period} is not over and not judged yet."


def _alarm(found: Monitored, period: Watched, name: str) -> str:
    if name == PATTERNS:
        if period.variation.value is None or period.chance is None:
            return "other patterns"
        said, chance = number(period.variation.value, 2), number(period.chance, 2)
        return f"other patterns (total variation {said}, by chance up to {chance})"
    if name == RARITY:
        return f"patterns that fewer than {RARE} of who it learned from had: {_plain(period.rare)}"
    if name == CHOSEN and period.chosen is not None:
        return _chosen(period.chosen)
    if name.startswith(RISKS):
        task = name.removeprefix(RISKS)
        return f"other {name} (mean {_plain(period.risk[task])}, test fold {_plain(found.risks_before[task])})"
    return f"{name} {_plain(period.rates[name])} (learned from: {_plain(found.before[name])})"


def _chosen(of: Chosen) -> str:
    now, before = (_points(e) for e in (of.now, of.before))
    whose = f"other patients have {of.modality}, as far as risks of {of.task} tell"
    return f"{whose} (mean risk of who has it less that of who has not: {now}, test fold {before})"


def _points(gap: Estimate) -> str:
    return "withheld" if gap.value is None else f"{number(100 * gap.value, 1)} points"


def _plain(share: Estimate) -> str:
    return f"share withheld, {share.reason}" if share.value is None else percent(share.value)


def _periods(found: Monitored) -> Table:
    head = ("Period", "Requests", "Patients", "Total variation", "By chance up to", "Rare patterns", "Changed")
    asked = {r.period: r.requests for r in found.requests}
    body = [
        [
            named(p.period, "" if p.over else "not over"),
            *(Cell(_count(n)) for n in (asked[p.period], p.patients)),
            short(value_cell(p.variation), p.variation),
            Cell("" if p.chance is None else number(p.chance, 2), "muted"),
            short(share_cell(p.rare), p.rare),
            Cell(listed(p.alarms), "sure") if p.alarms else Cell("not shown" if p.p else "", "muted"),
        ]
        for p in found.periods
    ]
    caption = (
        "Counts to the nearest ten. Total variation of the law of patterns, and what 19 of 20 periods without a change "
        f"stay below. Rare: fewer than {RARE} of who the run learned from had the pattern, or none."
    )
    return table_of(caption, head, body)


def _modalities(found: Monitored) -> Iterator[Block]:
    names = tuple(found.periods[0].rates)
    pictures = tuple(Picture(_drawn(found, name), name) for name in names)
    yield Figure("Share with each modality, with 95 % band; dashed: of who the run learned from.", pictures, "small")
    body = [[named("learned from"), *(_share(found.before[n], False) for n in names)]] if found.before else []
    for p in found.periods:
        body.append([named(p.period), *(_share(p.rates[n], n in p.alarms) for n in names)])
    caption = f"Share of patients with each modality; marked: changed, at {LEVEL:g} over a year."
    yield table_of(caption, ("Period", *names), body, look="grid" if len(names) > 6 else "")


def _share(e: Estimate, changed: bool) -> Cell:
    if e.value is None:
        return Cell(briefly(e.reason), "sure" if changed else "refused", full=e.reason)
    return Cell(share_cell(e, 0).text, "sure" if changed else "num")


def _drawn(found: Monitored, name: str) -> Markup:
    points = [(i + 1.0, p.rates[name]) for i, p in enumerate(found.periods) if p.rates[name].value is not None]
    low, high = zip(*(ends(e) for _, e in points), strict=True) if points else ((), ())
    curve = Curve(tuple(x for x, _ in points), tuple(e.value or 0.0 for _, e in points), low, high)
    last = max(float(len(found.periods)), 2.0)
    lines = [Line(name, curve, BLUE, band=True)] if points else []
    before = found.before.get(name)
    if before is not None and before.value is not None:
        lines.append(Line("learned from", Curve((1.0, last), (before.value, before.value)), MUTED, "7 3"))
    first = f"{found.every.capitalize()}, 1 = {found.periods[0].period}"
    return along(f"Share with {name}", (first, "Share"), lines, (1.0, last), (0.0, 1.0))


def _risks(found: Monitored) -> Iterator[Block]:
    for task in found.periods[0].risk:
        head = ("Period", "Mean risk", "Lowest fifth", "2", "3", "4", "Highest fifth", "p (year)")
        body = []
        if task in found.risks_before:
            body.append([named("test fold"), share_cell(found.risks_before[task]), *[Cell("20 %")] * 5, Cell("")])
        body += [[named(p.period), *_risk_cells(p, task)] for p in found.periods]
        yield table_of(f"{task}: shares between the quintiles of the test fold's risks.", head, body)


def _risk_cells(p: Watched, task: str) -> list[Cell]:
    fifths = p.fifths.get(task, (None,) * 5)
    shares = [refused_cell(FEW) if s is None else Cell(percent(s, 0)) for s in fifths]
    q = p.p.get(RISKS + task)
    last = Cell("", "muted") if q is None else Cell(p_value(q), "sure" if RISKS + task in p.alarms else "num")
    return [short(share_cell(p.risk[task]), p.risk[task]), *(Cell(c.brief or c.text, c.kind) for c in shares), last]


def _requests(found: Monitored) -> Iterator[Block]:
    became = tuple(found.requests[0].became)
    body = [[named(r.period), *(_withheld(r.became[name]) for name in became)] for r in found.requests]
    yield table_of(
        f"Requests and what became of them; counts under {SMALL_CELL} are withheld.", ("Period", *became), body
    )
    told = [(r.period, why, n) for r in found.requests for why, n in r.refused.items() if n != 0]
    if told:
        body = [[named(period), Cell(why, ""), _withheld(n)] for period, why, n in told]
        yield table_of("Patients of whom a task was refused, and why.", ("Period", "Reason", "Patients"), body)


def _came_true(found: Monitored) -> Iterator[Block]:
    yield Paragraph(CAME_TRUE, "note")
    for task in dict.fromkeys(of.task for of in found.came_true):
        rows = [_came_true_row(of) for of in found.came_true if of.task == task]
        yield table_of(f"{task}: answers whose outcome is known.", ("Period", "Risk", "Patients", "O:E", "Slope"), rows)


def _came_true_row(of: CameTrue) -> list[Cell]:
    figures = (short(value_cell(e), e) for e in (of.o_to_e, of.slope))
    what = "rectified" if of.which == RECTIFIED else "as modelled"
    return [named(of.period), Cell(what, ""), Cell(_count(of.patients)), *figures]


def _count(n: int | None) -> str:
    return f"<{SMALL_CELL}" if n is None else f"{n:,}"


def _withheld(n: int | None) -> Cell:
    return Cell("withheld", "refused") if n is None else Cell(f"{n:,}")
