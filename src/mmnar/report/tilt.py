"""What becomes of risks and decisions if the pattern means something else, as text and as a page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from markupsafe import Markup

from mmnar.evaluation.result import Curve, Estimate
from mmnar.evaluation.tilt import OMEGAS, Advice, TaskTilt, TiltPoint
from mmnar.files import write_text
from mmnar.render.blocks import Block, Cell, Figure, Listing, Page, Paragraph, Picture, Section, table_of
from mmnar.render.cells import refused_cell, short, value_cell
from mmnar.render.charts import Line, along
from mmnar.render.page import html_of
from mmnar.render.svg import BLUE, ends, shared_limits
from mmnar.render.text import section_lines
from mmnar.render.wording import interval, metric_text, number, percent, threshold_text
from mmnar.report.parts.panels import under
from mmnar.report.written import writing
from mmnar.workflow.tilt import Tilt

HOW: Final = (
    "Omega (ω) mixes two risks of the same patient on the logit scale: that of a model that knows which modalities are "
    "there (ω = 1), and that of one that cannot tell (ω = 0). Below 0 the pattern means the reverse. Changes are "
    "against ω = 1, paired on patients, with 95 % intervals."
)
NOT_KNOWN: Final = (
    "Which ω will hold after ordering changes, no data of this site can tell. Its records are explained as well by "
    "clinicians who order for whom they worry about (another policy undoes that: ω falls) as by an effect of being "
    "measured on the outcome (which stays: ω remains near 1). What would tell: a modality whose ordering was left to "
    "chance, to a shift or to a weekday, or outcomes of the other site. The ω that does best on the outcomes below was "
    "chosen by them and flatters itself."
)
TOO_FAR: Final = (
    "If being measured changes outcomes, too, it goes too far: among simulated patients it then did worse than ω = 1."
)
METRICS: Final = ("auroc", "log_loss")
NONE: Final = Cell("–", "muted")
"""At ω = 1, against which all else is held."""


def tilt_text(found: Tilt) -> str:
    """For the terminal."""
    lines = [line for section in tilt_page(found).sections for line in (*section_lines(section), "")]
    return "\n".join(lines).rstrip()


def write_tilt(found: Tilt, out: Path) -> Path:
    """``OUT/tilt.html``, and ``OUT/tilt.json`` with all that it shows.

    Raises:
        StoreError: The folder cannot be written.
    """
    with writing(out):
        write_text(out / "tilt.json", json.dumps(asdict(found), indent=1, ensure_ascii=False))
        write_text(out / "tilt.html", html_of(tilt_page(found)))
    return out / "tilt.html"


def tilt_page(found: Tilt) -> Page:
    """What would change first, then task by task."""
    sections = (
        Section("How much hangs on the pattern?", tuple(said(found)), True),
        Section("Task by task", tuple(each_task(found)), True),
    )
    return Page("Tilt", "If the pattern meant something else", sections, f"{found.aware} and {found.blind}")


def said(found: Tilt) -> Iterator[Block]:
    """In sentences, and what nobody can know."""
    advice = [] if found.advice is None else [advice_text(found.advice)]
    yield Listing((*verdicts(found), *advice))
    yield Paragraph(f"{found.aware} knows the pattern, {found.blind} does not; {found.judged}.")
    yield Paragraph(HOW, "note")
    yield Paragraph(NOT_KNOWN)


def each_task(found: Tilt) -> Iterator[Block]:
    """Curves and tables."""
    for task, of in found.tasks.items():
        yield from under(task, _task(task, of))


def verdicts(found: Tilt) -> Iterator[str]:
    """Of each task, how much hangs on what the pattern means."""
    for task, of in found.tasks.items():
        if of.band.value is None:
            yield f"{task}: not given ({of.band.reason})."
            continue
        words = f"{task}: over the band (ω from {number(OMEGAS[0], 1)} to 1) a risk moves by {number(of.band.value, 3)}"
        words += (
            "" if of.widest.value is None else f" on average, by more than {number(of.widest.value)} for one in ten"
        )
        gone = _at(of, 0.0)
        share = dict(gone.flips)[of.main]
        if share.value is None:
            words += f"; decisions at {threshold_text(of.main)}: {share.reason}"
        else:
            words += f"; were the pattern to mean nothing (ω = 0), {percent(share.value, 0)} of decisions"
            words += f" at {threshold_text(of.main)} would change"
        yield f"{words}."


def advice_text(advice: Advice) -> str:
    """What the other store's ordering speaks for."""
    if advice.omega is None:
        return f"Which ω the other store's ordering speaks for cannot be told: {advice.reason}."
    rho = f"rho {interval(advice.rho)}, in the first store {number(advice.rho_source.value or 0.0)}"
    if not advice.shown:
        return f"ω = 1, the run as it is: it was not shown that the other store chooses other patients ({rho})."
    told = f"ω = {number(advice.omega)} is what the other store's ordering speaks for ({rho})"
    return f"{told}, if patterns stand for whom clinicians worry about alone. {TOO_FAR}"


def _at(of: TaskTilt, omega: float) -> TiltPoint:
    return next(p for p in of.points if p.omega == omega)


def _task(task: str, of: TaskTilt) -> Iterator[Block]:
    if of.band.value is None:
        yield Paragraph(f"Not given: {of.band.reason}.", "note")
        return
    yield Figure(
        f"{task}, judged at each ω: AUROC (higher is better) and log loss (lower is better), with 95 % intervals.",
        tuple(Picture(_drawn(task, of, metric)) for metric in METRICS),
        "small",
    )
    at = [f"Changed at {threshold_text(t)}" for t, _ in of.points[0].flips]
    rows = [[_omega(p), *_moves(p)] for p in reversed(of.points)]
    yield table_of(f"{task}: risks and decisions, against those at ω = 1.", ("ω", "Mean change of risk", *at), rows)
    yield Paragraph(f"Changed: decisions at that threshold that are others. Thresholds: {of.source}.", "note")
    head = ["ω"]
    for metric in METRICS:
        head += [metric_text(metric).label, f"Change of {metric_text(metric).label}"]
    rows = [[_omega(p), *_scores(p)] for p in reversed(of.points)]
    yield table_of(f"{task}: scores at each ω.", head, rows)


def _omega(p: TiltPoint) -> Cell:
    return Cell(number(p.omega), "name")


def _moves(p: TiltPoint) -> Iterator[Cell]:
    yield NONE if p.omega == 1 else _cell(p.moved, 3)
    for _, share in p.flips:
        yield NONE if p.omega == 1 else short(_percent(share), share)


def _scores(p: TiltPoint) -> Iterator[Cell]:
    for score, change, digits in ((p.auroc, p.auroc_change, 3), (p.log_loss, p.log_loss_change, 4)):
        yield _cell(score, 3)
        yield NONE if p.omega == 1 else _cell(change, digits)


def _percent(share: Estimate) -> Cell:
    return refused_cell(share.reason) if share.value is None else Cell(percent(share.value, 0))


def _cell(estimate: Estimate, digits: int) -> Cell:
    return short(value_cell(estimate, digits), estimate)


def _drawn(task: str, of: TaskTilt, metric: str) -> Markup:
    known = [(p.omega, e) for p in of.points if (e := getattr(p, metric)).value is not None]
    low, high = zip(*(ends(e) for _, e in known), strict=True)
    curve = Curve(tuple(x for x, _ in known), tuple(e.value or 0.0 for _, e in known), low, high)
    label = metric_text(metric).label
    line = Line(label, curve, BLUE, band=True)
    return along(
        f"{label} of {task} over omega", ("ω", label), [line], (OMEGAS[0], 1.0), shared_limits([e for _, e in known])
    )
