"""A store described: what is there, what is missing, and whether that matters. As text, and as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmnar.dataset.store import PatientDataset, open_store
from mmnar.evaluation.atlas import Atlas, Breakdown, OutcomeRate, availability, pooled_flows
from mmnar.evaluation.informative import Informativeness, TaskSignal, informativeness
from mmnar.evaluation.result import Estimate, Result
from mmnar.privacy import SMALL_CELL, briefly, counted
from mmnar.progress import say
from mmnar.report.inputs import ATLAS, ReportInputs
from mmnar.report.render import render_report
from mmnar.report.wording import CANNOT_TELL, p_value, signal_verdict

IN_TEXT = ("unit", "site")
"""Attributes whose breakdown the terminal shows; the page shows all."""


def describe(store: Path, out: Path | None = None) -> tuple[str, Path | None]:
    """Text for the terminal and, where ``out`` is given, the path of describe.html with describe.json beside it.

    Raises:
        StoreError: Not a store, or ``out`` cannot be written.
    """
    data = open_store(store)
    say("describing: who has which modalities, and whether missingness is informative")
    atlas, signal = availability(data), informativeness(data)
    text = describe_text(atlas, data, signal)
    if out is None:
        return text, None
    source = " ".join(str(data.manifest[key]) for key in ("source", "source_version") if data.manifest.get(key))
    title = f"Availability atlas: {source or 'unnamed source'}"
    inputs = ReportInputs(title, data.manifest, atlas, Result({}, {}), informative=signal, kind=ATLAS)
    return text, render_report(inputs, out, name="describe")


def describe_text(atlas: Atlas, dataset: PatientDataset, signal: Informativeness | None = None, top: int = 12) -> str:
    """The atlas and the manifest as aligned plain text, for a terminal.

    "few" hides a cell of fewer than ten patients, or one that would give such a cell away.

    Args:
        signal: Whether missingness is informative, where that was asked.
        top: How many patterns to list.
    """
    manifest = dataset.manifest
    source = " ".join(str(manifest[key]) for key in ("source", "source_version") if manifest.get(key))
    blocks = [
        f"{source or 'unnamed source'}: {atlas.samples:,} samples of {atlas.patients:,} patients"
        f"\nfingerprint {dataset.fingerprint or 'none (not stored)'}"
    ]
    for flow, steps in pooled_flows(manifest).items():
        blocks.append(_section(f"Attrition: {flow}", ("rule", "kept", "patients", ""), _attrition_cells(steps)))
    blocks.append(_section("Modalities", ("modality", "features", "present", "values missing"), _modality_cells(atlas)))
    blocks += [_breakdown_text(b, dataset) for b in atlas.breakdowns if b.over_time or b.name in IN_TEXT]
    title = "Outcome by pattern (rate, 95 % interval)"
    if len(atlas.patterns) > top:
        title += f"; the {top} most frequent of {len(atlas.patterns)} rows"
    blocks.append(_section(title, ("pattern", "samples", *dataset.schema.task_names), _pattern_cells(atlas, top)))
    if signal is not None:
        blocks.append(_signal_text(signal))
    if warnings := manifest.get("warnings"):
        blocks.append("\n".join(["Warnings", *(f"  - {w}" for w in warnings)]))
    return "\n\n".join(blocks)


def _breakdown_text(breakdown: Breakdown, dataset: PatientDataset) -> str:
    names = dataset.schema.modality_names
    rows = [
        (r.group, f"<{SMALL_CELL}" if r.n is None else f"{r.n:,}", *(_cell(r.present[m]) for m in names))
        for r in breakdown.rows
    ]
    what = "over time" if breakdown.over_time else f"by {breakdown.name.replace('_', ' ')}"
    return _section(f"Availability {what} (share of samples)", (breakdown.name, "samples", *names), rows)


def _cell(share: Estimate) -> str:
    return "few" if share.value is None else f"{share.value:.0%}"


def _signal_text(signal: Informativeness) -> str:
    header = ("task", "AUROC of the pattern alone", "p", f"beyond {' + '.join(signal.always) or 'x0'}", "gain, bits")
    rows = [(task, *_signal_cells(answer)) for task, answer in signal.tasks.items()]
    lines = [_section("Is missingness informative?", header, rows)]
    lines += [f"  {signal_verdict(task, answer)}" for task, answer in signal.tasks.items()]
    if signal.subjects_used < signal.subjects:
        lines.append(f"  Tested on {signal.subjects_used:,} of {counted(signal.subjects)} patients, drawn at random.")
    lines.append(f"  {CANNOT_TELL}")
    return "\n".join(lines)


def _signal_cells(answer: TaskSignal) -> tuple[str, ...]:
    e, c = answer.pattern_auroc, answer.conditional
    auroc = briefly(e.reason) if e.value is None else f"{e.value:.2f}"
    if e.value is not None and e.low is not None and e.high is not None:
        auroc += f" ({e.low:.2f} to {e.high:.2f})"
    p = p_value(answer.pattern_p_holm) if answer.pattern_p_holm is not None else "n/a"
    if c is None:
        return auroc, p, "not tested", "n/a"
    bits = "n/a" if c.bits is None else f"{c.bits:.4f}"
    return auroc, p, f"chi2 {c.statistic:.1f}, df {c.df}, p {p_value(c.p_holm)}", bits


def _attrition_cells(steps: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (s["rule"], f"{s['kept']:,}", f"{s['subjects']:,}", "uses hindsight" if s.get("hindsight") else "")
        for s in steps
    ]


def _modality_cells(atlas: Atlas) -> list[tuple[str, ...]]:
    return [
        (m.name, m.kind or str(m.features), _share_words(m.present), "" if m.kind else _share_words(m.missing))
        for m in atlas.modalities
    ]


def _pattern_cells(atlas: Atlas, top: int) -> list[tuple[str, ...]]:
    overall = ("everyone", f"{atlas.samples:,}", *(_rate_words(o) for o in atlas.outcomes.values()))
    rows = [
        (p.label, f"<{SMALL_CELL}" if p.n is None else f"{p.n:,}", *(_rate_words(o) for o in p.outcomes.values()))
        for p in atlas.patterns[:top]
    ]
    return [overall, *rows]


def _share_words(share: Estimate, digits: int = 1) -> str:
    return briefly(share.reason) if share.value is None else f"{share.value:.{digits}%}"


def _rate_words(outcome: OutcomeRate) -> str:
    e = outcome.rate
    if e.value is None or e.low is None or e.high is None:
        return briefly(e.reason)
    return f"{e.value:.1%} ({e.low:.1%} to {e.high:.1%})"


def _section(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the first flush left, numbers flush right."""
    table = [header, *rows]
    widths = [max(len(row[c]) for row in table) for c in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])
