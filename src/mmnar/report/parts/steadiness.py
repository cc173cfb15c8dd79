"""Whether risks are steady, and what they lean on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.decided import Hidden, Spread
from mmnar.evaluation.result import Result
from mmnar.render.blocks import Block, Cell, Fold, Paragraph, Table, named, table_of
from mmnar.render.cells import share_cell, short, value_cell, with_mark
from mmnar.render.marks import interval_mark, marks_head
from mmnar.render.svg import shared_limits
from mmnar.render.wording import threshold_text
from mmnar.report.parts.decided import alone, decided_of, headed

STEADY: Final = (
    "The model's own fits, each learned from other patients, give one patient different risks; they share most of "
    "their patients, so models of two hospitals would differ more. And the same patients with one modality hidden from "
    "the model: this says what the model leans on, and nothing of causes or of what measuring does to a patient."
)


def has_probes(result: Result) -> bool:
    """Whether any model was scored again."""
    return any(of.spread or of.hidden for task in alone(result) for of in decided_of(result, task).values())


def steadiness(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """How far the fits behind a model agree, and what changes with a modality hidden."""
    yield Paragraph(STEADY)
    for task in alone(result):
        yield from headed(result, manifest, task)
        decided = decided_of(result, task)
        main = threshold_text(result.decisions[task].main)
        spreads = {name: of.spread for name, of in decided.items() if of.spread is not None}
        if spreads:
            yield spread_table(task, main, spreads)
        hidden = [(name, of.hidden) for name, of in decided.items() if of.hidden]
        for i, (name, rows) in enumerate(hidden):
            table = hidden_table(name, task, main, rows)
            yield Fold(f"{name}: each modality hidden", (table,), open=i == 0, look="" if i == 0 else "long")


def spread_table(task: str, main: str, spreads: Mapping[str, Spread]) -> Table:
    body = [
        [
            named(name),
            Cell(str(of.fits)),
            short(value_cell(of.mean, 3), of.mean),
            short(value_cell(of.ninth, 3), of.ninth),
            short(share_cell(of.divided), of.divided),
            short(share_cell(of.otherwise), of.otherwise),
        ]
        for name, of in spreads.items()
    ]
    head = (
        "Model",
        "Fits",
        "Mean SD of a patient's risk",
        "90 % of patients below",
        f"Patients whose alert at {main} depends on the fit",
        "A fit decides otherwise than the model",
    )
    return table_of(f"{task}: how far the fits behind a model lie apart. Lower is steadier.", head, body)


def hidden_table(name: str, task: str, main: str, rows: Sequence[Hidden]) -> Table:
    limits = shared_limits((h.auroc for h in rows), (0.0,))
    body = [
        [
            named(h.modality),
            with_mark(short(value_cell(h.auroc, 3), h.auroc), interval_mark(h.auroc, limits, 3, 0)),
            short(value_cell(h.moved, 3), h.moved),
            short(share_cell(h.flipped), h.flipped),
        ]
        for h in rows
    ]
    head = (
        "Hidden",
        "Change of AUROC",
        "Mean change of risk, of those who have it",
        f"Alert at {main} changes, of those who have it",
    )
    caption = f"{name} on {task} with one modality hidden. Left of zero: the model ranks worse without it."
    return table_of(caption, head, body, {1: marks_head("95 % interval", limits, "", 0, "no change")})
