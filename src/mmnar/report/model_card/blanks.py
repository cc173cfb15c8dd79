"""What no run can know, and who does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mmnar.render.blocks import Cell, Table, named, table_of

DEVELOPERS: Final = "the developers"
OWNERS: Final = "the owners of the data"
HOSPITAL: Final = "the hospital"
ETHICS: Final = "the developers, from their ethics committee"


@dataclass(frozen=True)
class Blank:
    """Something to be filled.

    >>> str(Blank(OWNERS, "the dates"))
    'To be filled by the owners of the data: the dates.'
    """

    who: str
    what: str

    def __str__(self) -> str:
        return f"To be filled by {self.who}: {self.what}."


Answer = str | Blank | tuple[str, Blank]
"""What the run says, what it leaves blank, or first the one and then the other."""

USE: Final = (
    ("Purpose", Blank(HOSPITAL, "what decision the risk is to help with, and where in care")),
    ("Users", Blank(HOSPITAL, "who sees the risk, and what they must know to read it")),
    ("Patients it is meant for", Blank(HOSPITAL, "whom it may be asked about; the population below is who was there")),
    ("What it is not to be used for", Blank(DEVELOPERS, "settings and decisions it must be kept from")),
    ("What somebody does about a high risk", Blank(HOSPITAL, "the action, and what a false alarm costs")),
    ("Risk of harm", Blank(HOSPITAL, "what a wrong risk can do to a patient, and how grave that is")),
)

MAINTENANCE: Final = (
    ("Who answers for it", Blank(DEVELOPERS, "name and contact")),
    ("Watching inputs", Blank(HOSPITAL, "who compares how often each modality is there with this card, and how often")),
    (
        "Watching risks",
        Blank(HOSPITAL, "who compares risks with outcomes, how often, and when it acts"),
    ),
    ("Watching groups", Blank(HOSPITAL, "who looks for gaps between groups, and in which groups")),
    ("Renewal", Blank(DEVELOPERS, "when and on what it is trained again, and who is told")),
    ("Faults", Blank(HOSPITAL, "where users report, and who may switch it off")),
    ("End", Blank(HOSPITAL, "when it is no longer to be used")),
)


def words(answer: Answer) -> str:
    """An answer in one text.

    >>> words(("The source.", Blank(OWNERS, "its dates")))
    'The source. To be filled by the owners of the data: its dates.'
    """
    return f"{answer[0]} {answer[1]}" if isinstance(answer, tuple) else str(answer)


def answer_cells(answer: Answer) -> tuple[Cell, Cell]:
    """What the run says, and what is to be filled by whom."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    said = next((part for part in parts if isinstance(part, str)), "")
    blank = next((str(part) for part in parts if isinstance(part, Blank)), "")
    return Cell(said or "–", "" if said else "muted"), Cell(blank or "–", "refused" if blank else "muted")


def blank_table(caption: str, rows: Sequence[tuple[str, Blank]]) -> Table:
    """Questions that are all blank."""
    return table_of(caption, ("", "To be filled"), [[named(what), Cell(str(blank), "refused")] for what, blank in rows])
