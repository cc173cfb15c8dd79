"""What an atlas answers with: who is there, what is missing, how often outcomes occur, whether missingness tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmnar.evaluation.atlas import Atlas, ModalityRow
from mmnar.evaluation.informative import Informativeness
from mmnar.render.blocks import Block, Listing, Paragraph
from mmnar.render.wording import UNFOLDED, count, listed, percent, percent_interval, some
from mmnar.report.parts.cohort import attrition_steps
from mmnar.report.parts.missingness import CANNOT_TELL, verdicts


def atlas_answers(manifest: Mapping[str, Any], atlas: Atlas, signal: Informativeness | None) -> Iterator[Block]:
    """Sentences that follow from the numbers by rule."""
    who = f"{count(atlas.samples)} samples of {count(atlas.patients)} patients"
    yield Listing((f"{who}.", *_present(atlas), *_outcomes(atlas), *_mind(manifest)))
    if signal is not None:
        yield Paragraph("Does what is missing tell anything of the outcome?", "finding")
        yield from verdicts(signal)
        yield Paragraph(CANNOT_TELL, "note")


def _present(atlas: Atlas) -> Iterator[str]:
    """Modalities by how many samples have them, the rarest first."""
    told = [(m, m.present.value) for m in atlas.modalities if m.present.value is not None]
    if told:
        rising = [m for m, _ in sorted(told, key=lambda pair: pair[1])]
        yield f"Samples that have each modality, the rarest first: {', '.join(map(_share, rising))}."
    if hidden := [m.name for m in atlas.modalities if m.present.value is None]:
        yield f"How many have {listed(hidden)} is withheld: nearly all, or few."


def _share(of: ModalityRow) -> str:
    return f"{of.name} {percent(of.present.value or 0.0)}"


def _outcomes(atlas: Atlas) -> Iterator[str]:
    for task in list(atlas.outcomes)[:UNFOLDED]:
        rate = atlas.outcomes[task].rate
        words = f"withheld: {rate.reason}" if rate.value is None else f"{percent_interval(rate)} of those asked"
        yield f"{task}: {words}."
    if len(atlas.outcomes) > UNFOLDED:
        yield f"{len(atlas.outcomes) - UNFOLDED} more outcomes stand below."


def _mind(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What a reader should look at before anything is made of the numbers."""
    steps = [step for flow in attrition_steps(manifest).values() for step in flow]
    rules = list(dict.fromkeys(step["rule"] for step in steps if step.get("hindsight")))
    if rules:
        yield f"Chosen by hindsight, which nobody has at the bedside: {'; '.join(rules)}."
    if warnings := manifest.get("warnings"):
        yield f"{some(len(warnings), 'warning')} of the preparation: see the last section."
