"""Whether there are enough patients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mmnar.evaluation.decided import TaskDecisions
from mmnar.evaluation.result import Result
from mmnar.render.blocks import Block, Cell, Listing, Paragraph, named, table_of
from mmnar.render.wording import count
from mmnar.report.parts.decided import alone

SIZES: Final = (
    "Sizes by the formulas of Riley and others, at the outcome rate seen here and the best model's AUROC. For judging: "
    "how well something is known, as the half width of its 95 % interval. For learning: how many coefficients a "
    "regression may have, so that it has to be shrunk by a tenth at most."
)


def has_sizes(result: Result) -> bool:
    return any(result.decisions[task].enough for task in alone(result) if task in result.decisions)


def sizes(result: Result) -> Iterator[Block]:
    """How many patients a task has, and what they suffice for."""
    yield Paragraph(SIZES)
    body = []
    for task in alone(result):
        said = result.decisions[task]
        body += [
            [
                named(task),
                Cell(e.what, ""),
                Cell(f"{e.needed:,}"),
                Cell(count(e.had)),
                Cell("enough" if e.suffices else "too few", "sure" if e.suffices else "muted"),
            ]
            for e in said.enough
        ]
    yield table_of("Samples needed, and there.", ("Task", "To know", "Needed", "There", "Enough?"), body)
    yield Listing(
        tuple(_carried(task, result.decisions[task]) for task in alone(result) if result.decisions[task].enough)
    )


def _carried(task: str, said: TaskDecisions) -> str:
    if said.coefficients is None or said.learned is None:
        return f"{task}: how many patients were learned from is not known."
    return (
        f"{task}: the {count(said.learned)} samples learned from carry a logistic regression of about "
        f"{said.coefficients:,} coefficients. Trees and networks need more for the same."
    )
