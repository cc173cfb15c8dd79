"""From a run to its card: card.html, card.md and card.xml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mmnar.dataset.store import PatientDataset, open_store
from mmnar.evaluation.atlas import availability
from mmnar.files import sha256_of, write_text
from mmnar.lock import alone
from mmnar.privacy import in_tens
from mmnar.render.markdown import markdown_of
from mmnar.render.page import html_of
from mmnar.report.build import record_of
from mmnar.report.inputs import StoreFacts
from mmnar.report.model_card.chai import chai_xml
from mmnar.report.model_card.inputs import CardInputs, Judged
from mmnar.report.model_card.page import card_page
from mmnar.report.places import placeless
from mmnar.report.runs import shown_rectifier
from mmnar.report.written import writing
from mmnar.workflow import Run, evaluate_runs, store_of
from mmnar.workflow.probe import with_probes

FILES: Final = ("card.html", "card.md", "card.xml")
HASH: Final = 16
"""Hexadecimal digits that are shown of a hash."""


def build_card(
    run: Run,
    out: Path,
    *,
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> list[Path]:
    """Judge a run and write its card.

    Args:
        on: Another store of the same schema, on which the run is judged, too.
        store: Where the run's store lies now, if it has moved since training.
        thresholds: Task → risks at which its alerts are judged, the main one first.

    Returns:
        Paths of the page, of the same in Markdown, and of the Applied Model Card in XML.

    Raises:
        StoreError: The store is gone or has changed since the run was trained, or ``out`` cannot be written.
        SchemaError: The other store has another schema.
        LeakageError: Somebody of the other store was learned from.
    """
    with alone(out):
        card = card_of(run, on=on, store=store, resamples=resamples, thresholds=thresholds)
        page = card_page(card)
        texts = (html_of(page), markdown_of(page, unfolded=True), chai_xml(card))
        with writing(out):
            for name, text in zip(FILES, texts, strict=True):
                write_text(out / name, text)
    return [out / name for name in FILES]


def card_of(
    run: Run,
    *,
    on: Path | None = None,
    store: Path | None = None,
    resamples: int = 1000,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> CardInputs:
    """All that a card says, see ``build_card``."""
    home = store_of(run, store)
    # what can be refused is refused before anything long is begun
    there = None if on is None else _judged(run, open_store(on), on, store, resamples, thresholds)
    modalities = home.with_modalities(run.modalities).schema.modalities
    record = record_of(run)
    fitted = record.rectifier
    shown = None if fitted is None else {task: shown_rectifier(of) for task, of in fitted.items()}
    return CardInputs(
        replace(record, rectifier=shown),
        bool(run.record["card"]["control"]),
        _judged(run, home, None, store, resamples, thresholds),
        there,
        tuple((m.name, m.kind, m.feature_names) for m in modalities),
        _learned(run),
        tuple(map(placeless, run.told)),
        run.platt() is not None,
        _fingerprints(run),
        run.record["versions"],
    )


def _judged(
    run: Run,
    data: PatientDataset,
    on: Path | None,
    store: Path | None,
    resamples: int,
    thresholds: Mapping[str, Sequence[float]] | None,
) -> Judged:
    result = evaluate_runs([run], on=on, store=store, resamples=resamples, thresholds=thresholds)
    result = with_probes(result, [run], on, store).disclosed()
    facts = StoreFacts(data.manifest, availability(data.with_modalities(run.modalities)))
    return Judged(facts.disclosed(), result)


def _learned(run: Run) -> dict[tuple[str, ...], int]:
    """Modalities present → patients learned from. To the nearest ten: less those of the test fold and from
    everyone's, exact numbers would tell of who played neither role."""
    names = run.test.modalities
    return {
        tuple(name for name, bit in zip(names, bits, strict=True) if bit == "1"): in_tens(n)
        for bits, n in run.record["patterns"].items()
    }


def _fingerprints(run: Run) -> dict[str, str]:
    known: dict[str, Any] = {
        "data": run.record["data"],
        "model": run.record["files"]["model/predictor.json"],
        "run": sha256_of(run.folder / "run.json"),
    }
    hashes = {what: str(value)[:HASH] for what, value in known.items()}
    return {**hashes, "code": f"mmnar {run.record['mmnar']}"}
