"""A folder of the challenge → one extract."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl

from mmnar.privacy import counted
from mmnar.sources.events import Extract
from mmnar.sources.physionet2012.codes import rules
from mmnar.sources.physionet2012.events import ChallengeEvents
from mmnar.sources.physionet2012.files import ChallengeFolder
from mmnar.sources.physionet2012.outcomes import OUTCOMES, read_outcomes
from mmnar.sources.physionet2012.rows import StayReader
from mmnar.sources.physionet2012.stays import ATTRIBUTES, outcome_rows, stays_of, unmatched


def read_physionet2012(root: str | Path, *, answered: bool = True) -> Extract:
    """Read the challenge's sets into one extract.

    Memory grows with the rows, about 13 bytes each (40 MB for sets a and b); text is held 500 stays at a time, events
    1,000 stays at a time.

    Args:
        root: Folder with ``set-a.tar.gz`` or ``set-a/`` and ``Outcomes-a.txt``; so for b and c. Never written to.
        answered: False = outcomes are not read, and need not be there.

    Returns:
        Events, stays and rules. Rows that cannot be used and files that are passed over are counted by reason in
        ``warnings``.

    Raises:
        SourceError: No set, a set without outcomes, a damaged archive or file, or a RecordID twice.
    """
    folder = ChallengeFolder(Path(root))
    contradicted: Counter[str] = Counter()
    told = [read_outcomes(folder.outcomes(letter), contradicted) for letter in folder.sets] if answered else []
    outcomes = pl.concat([pl.DataFrame(schema=OUTCOMES), *told])
    reader = StayReader(folder)
    rows = pl.concat([block for letter in folder.sets for block in reader.blocks(letter)])
    stays = stays_of(reader.sets, rows, outcomes)
    notes = [
        "entry times are not told by the challenge: every value counts as known at the time it is charted",
        *folder.notes,
        *reader.notes,
        *(f"{counted(n)} {reason}" for reason, n in contradicted.items() if n),
        *(unmatched(stays, outcomes) if answered else ()),
    ]
    return Extract(
        name="physionet2012",
        version="1.0.0",
        events=ChallengeEvents(rows),
        stays=stays.select("subject_id", "hadm_id", "stay_id", "intime", "outtime", *ATTRIBUTES),
        rules=rules(),
        attributes=ATTRIBUTES,
        fingerprint=reader.fingerprint(outcomes),
        warnings=tuple(notes),
        details={"sets": list(folder.sets)},
        outcomes=ChallengeEvents(outcome_rows(stays)),
    )
