"""Two stores held against each other, as text and as a page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import StoreError
from mmnar.evaluation.shift import LEVEL, RARE, UNLIKE, ModalityShift, Shift, pattern_share, shift
from mmnar.files import write_text
from mmnar.progress import say
from mmnar.render.blocks import Block, Cell, Listing, Page, Paragraph, Section, named, table_of
from mmnar.render.cells import share_cell, short, value_cell
from mmnar.render.page import html_of
from mmnar.render.text import section_lines
from mmnar.render.wording import listed, number, p_value, percent
from mmnar.report.parts.cohort import source_of
from mmnar.report.written import writing
from mmnar.workflow import Run, open_run

HOW: Final = (
    "No outcome is looked at. Rates may differ because patients do. Selection asks of like patients: a regression of "
    "who gets a modality in the first store, on what is always observed, is held against the second. Rho about 1: "
    "patients are chosen as there; 0: what made clinicians order there does not count here; below 0: they choose the "
    "other way round. Alpha above 0: ordered more often, of like patients. p permutes patients between the stores, "
    "corrected over modalities."
)
WHAT_NOW: Final = (
    "A model that reads the pattern carries the first store's habits along. Weights on patients do not repair that, "
    "for the meaning of a pattern changed, not how often it occurs. Judge the model on outcomes of the second store "
    "(mmnar evaluate RUN --on STORE) before it is used there."
)


def compare_stores(
    source: Path, target: Path, run: Path | None = None, out: Path | None = None
) -> tuple[str, Path | None]:
    """Text for the terminal and, where ``out`` is given, the path of shift.html with shift.json beside it.

    Args:
        run: Also say how many of the second store's samples have a pattern that few of its training patients had.

    Raises:
        StoreError: Not a store or run, or ``out`` cannot be written.
        SchemaError: Stores of different modalities.
    """
    ours, theirs = open_store(source), open_store(target)
    opened = None if run is None else open_run(run)
    say("comparing who has which modality in the two stores")
    found = shift(ours, theirs).disclosed()
    page = shift_page(found, ours, theirs, None if opened is None else unlearned(opened, theirs))
    lines = [line for section in page.sections if section.terminal for line in (*section_lines(section), "")]
    return "\n".join(lines).rstrip(), None if out is None else _written(page, found, out)


def _written(page: Page, found: Shift, out: Path) -> Path:
    with writing(out):
        write_text(out / "shift.json", json.dumps(asdict(found), indent=1, ensure_ascii=False))
        write_text(out / "shift.html", html_of(page))
    return out / "shift.html"


def unlearned(run: Run, target: PatientDataset) -> str:
    """How many samples have a pattern that the run hardly knows.

    Raises:
        StoreError: A run on other modalities.
    """
    names = target.schema.modality_names
    if tuple(run.test.modalities) != names:
        expected = f"a run on these modalities ({', '.join(names)})"
        raise StoreError("--run", expected, ", ".join(run.test.modalities), "leave it out, or name another")
    known = {pattern for pattern, patients in run.record["patterns"].items() if patients >= RARE}
    share = pattern_share(target, lambda pattern: pattern not in known)
    if share.value is None:
        return f"Patterns that fewer than {RARE} of the run's training patients had: {share.reason}."
    of = f"have a pattern that fewer than {RARE} of the run's training patients had"
    return f"{percent(share.value)} of the second store's samples {of}."


def shift_page(found: Shift, source: PatientDataset, target: PatientDataset, rare_in_run: str | None = None) -> Page:
    """The whole page, with what a reader must know first."""
    names = [source_of(data.manifest) for data in (source, target)]
    first: list[Block] = [Listing((*verdicts(found), *([] if rare_in_run is None else [rare_in_run])))]
    first += [Paragraph(WHAT_NOW)] if found.shown else []
    body = [
        [named(f"{word} store"), Cell(name, ""), Cell(f"{patients:,}"), Cell(data.fingerprint, "")]
        for word, name, patients, data in zip(("First", "Second"), names, found.patients, (source, target), strict=True)
    ]
    compared = table_of("To the nearest ten patients.", ("", "Source", "Patients looked at", "Fingerprint"), body)
    sections = (
        Section("Do clinicians order otherwise?", tuple(first), True),
        Section("Modality by modality", tuple(_modalities(found)), True),
        Section("What was compared", (compared,)),
    )
    return Page("Shift", "Ordering practice: two stores", sections, f"{names[0]} and {names[1]}", target.fingerprint)


def verdicts(found: Shift) -> Iterator[str]:
    """In sentences."""
    p = f"p {p_value(found.variation_p)}"
    if "law" in found.shown:
        changed = [m.modality for m in found.modalities if m.p_holm is not None and m.p_holm < LEVEL]
        more = f"; by themselves differ {listed(changed)}" if changed else ""
        size = f"total variation {number(found.variation, 2)}"
        yield f"Patterns of what is there differ between the stores ({size}, {p}){more}."
    else:
        yield f"No difference between the laws of patterns was shown ({p}). That does not show that there is none."
    yield from _selection(found)
    what = f"a pattern that fewer than {RARE} patients of the first have"
    if found.rare.value is None:
        yield f"How many samples of the second store have {what}: {found.rare.reason}."
    else:
        yield f"{percent(found.rare.value)} of the second store's samples have {what}."


def _selection(found: Shift) -> Iterator[str]:
    rho, p = found.rho, found.rho_p
    if rho.value is None or p is None:
        yield f"Whether like patients are chosen alike cannot be told: {rho.reason}."
        return
    here = number(found.rho_source.value or 0.0, 2)
    said = f"rho {number(rho.value, 2)}, in the first store {here}, p {p_value(p)}"
    if "selection" not in found.shown:
        yield f"It was not shown that other patients are chosen ({said}). That does not show that none are."
    elif rho.high is not None and rho.high < 0:
        yield f"Of like patients those get the modalities who would not get them in the first store ({said})."
    elif rho.low is not None and rho.high is not None and (rho.high < UNLIKE[0] or rho.low > UNLIKE[1]):
        yield f"Like patients are chosen otherwise than in the first store ({said})."
    else:
        yield f"Like patients are chosen a little otherwise than in the first store ({said})."


def _modalities(found: Shift) -> Iterator[Block]:
    yield Paragraph(HOW, "note")
    head = ("Modality", "First store", "Second store", "Difference", "p (Holm)", "Alpha", "Rho", "Rho, first store")
    yield table_of("Share of samples with each modality, and who is chosen.", head, [_row(m) for m in found.modalities])
    words = f"Always observed: {listed(found.always)} ({found.rule})" if found.always else found.rule
    yield Paragraph(f"{words}.", "note")


def _row(m: ModalityShift) -> list[Cell]:
    sure = m.p_holm is not None and m.p_holm < LEVEL
    p = Cell("", "muted") if m.p_holm is None else Cell(p_value(m.p_holm), "sure" if sure else "num")
    shares = [short(share_cell(e), e) for e in (m.source, m.target, m.difference)]
    return [named(m.modality), *shares, p, *(short(value_cell(e), e) for e in (m.alpha, m.rho, m.rho_source))]
