"""Films of the CareBench world: around the window in which the benchmark looks, and of people without a unit stay.

The latest AP film from 24 h before to 48 h after unit admission shows the content that outcomes are made of; earlier
ones show it as it was, less clearly. Whoever has no such film may have others: 25 h before, 49 h after, or PA films.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmnar.simulation.carebench.law import FILM, film_contents
from mmnar.simulation.carebench.stays import Admitted
from mmnar.simulation.files import Ids, Minutes, Times, duration, minutes, shuffled_ids
from mmnar.simulation.mimic_iv.cxr import Films, dicom_ids
from mmnar.simulation.mimic_iv.stays import DAY
from mmnar.simulation.population import Float

SIDE: Final = 64
"""Pixels of an image's side unless another is asked for."""

_EDGES: Final = {"out before": -25, "in before": -23, "in after": 47, "out after": 49}
"""Hours from unit admission on both sides of both ends of the window."""
_WAS: Final = 1.0
"""How far the content of an earlier film lies from the present one, in spreads."""
_DYING: Final = 2.5


@dataclass(frozen=True)
class _Study:
    """Studies of one kind: whose row, subject, when, what they show, AP or PA, and whether a question uses the film."""

    row: Ids
    subject_id: Ids
    time: Times
    shows: Float
    view: str
    used: bool = False


def take_films(admitted: Admitted, rng: np.random.Generator) -> tuple[Films, NDArray[np.str_], NDArray[np.str_]]:
    """
    Returns:
        The films; "AP" or "PA" of each; and (N,) dicom_id of the film that each stay's questions see, "" = none.
    """
    studies = [*_in_the_window(admitted, rng), *_around_it(admitted, rng), *_without_a_stay(admitted, rng)]
    row, subject, time, shows = (
        np.concatenate([getattr(study, name) for study in studies]) for name in ("row", "subject_id", "time", "shows")
    )
    front = np.concatenate([np.full(len(study.row), study.view) for study in studies])
    used = np.concatenate([np.full(len(study.row), study.used) for study in studies])
    order = np.lexsort((time, subject))
    row, subject, time, shows, front, used = (a[order] for a in (row, subject, time, shows, front, used))
    study_id = shuffled_ids(rng, len(row), 50_000_000)
    # of some AP studies a PA or a lateral film, a minute later
    more = rng.choice(["", "PA", "LATERAL"], len(row), p=[0.65, 0.2, 0.15])
    more = np.where(front == "AP", more, "")
    sides = 1 + (more != "")
    at = np.repeat(np.arange(len(row)), sides)
    second = np.arange(len(at)) - np.repeat(np.cumsum(sides) - sides, sides)
    view = np.where(second > 0, more[at], front[at])
    time = time[at] + second * np.timedelta64(1, "m")
    names = dicom_ids(len(at), rng)
    lateral = (view == "LATERAL").astype(np.int64)
    films = Films(subject[at], study_id[at], names, time, shows[at], lateral)
    shown = np.full(len(admitted), "", dtype="<U44")
    is_used = used[at] & (second == 0)
    shown[row[at][is_used]] = np.array(names)[is_used]
    return films, np.where(view == "PA", "PA", "AP"), shown


def _hours(n: int, hours: float) -> Minutes:
    return duration(np.full(n, 60 * hours))


def _in_the_window(admitted: Admitted, rng: np.random.Generator) -> list[_Study]:
    """Of those who have the modality: the film that counts, for some an hour before the window ends or after it begins;
    and for half an earlier one, for some an hour before the window begins."""
    stays = admitted.stays
    rows = np.flatnonzero(stays.present(FILM))
    n = len(rows)
    kind = rng.choice(3, n, p=[0.25, 0.15, 0.6])
    last = np.select(
        [kind == 0, kind == 1],
        [_hours(n, _EDGES["in after"]), _hours(n, _EDGES["in before"])],
        minutes(rng, n, -20 * 60, 46 * 60),
    )
    ago = np.where(rng.random(n) < 0.5, _hours(n, _EDGES["out before"]), last - minutes(rng, n, 2 * 60, 20 * 60))
    time = stays.intime[rows]
    content = stays.severity(FILM)[rows]
    was = content + _WAS * rng.standard_normal(content.shape)
    some = rng.random(n) < 0.5
    return [
        _Study(rows, stays.subject_id[rows], time + last, content, "AP", used=True),
        _Study(rows[some], stays.subject_id[rows[some]], (time + ago)[some], was[some], "AP"),
    ]


def _around_it(admitted: Admitted, rng: np.random.Generator) -> list[_Study]:
    """What no question may see: films an hour after the window, which tell who dies; of those without the modality,
    films an hour before it and PA films within it, as telling as an AP film would be."""
    stays = admitted.stays
    n = len(stays)
    have = stays.present(FILM)
    content = stays.severity(FILM)
    die = rng.random(n)
    after = np.flatnonzero(rng.random(n) < 0.3)
    before = np.flatnonzero(~have & (die < 0.3))
    posterior = np.flatnonzero(~have & (die > 0.85))
    telling = content[after] + _DYING * stays.died[after, None]
    from_behind = stays.intime[posterior] + minutes(rng, len(posterior), -20 * 60, 46 * 60)
    return [
        _Study(
            after, stays.subject_id[after], stays.intime[after] + _hours(len(after), _EDGES["out after"]), telling, "AP"
        ),
        _Study(
            before,
            stays.subject_id[before],
            stays.intime[before] + _hours(len(before), _EDGES["out before"]),
            content[before],
            "AP",
        ),
        _Study(posterior, stays.subject_id[posterior], from_behind, content[posterior], "PA"),
    ]


def _without_a_stay(admitted: Admitted, rng: np.random.Generator) -> list[_Study]:
    """One or two films of everyone who has no unit stay: for training an encoder on films alone."""
    outsiders = admitted.people.subject_id[admitted.people.patients :]
    subject = np.repeat(outsiders, rng.integers(1, 3, len(outsiders)))
    n = len(subject)
    time = np.datetime64("2110-01-01", "us") + minutes(rng, n, 0, 85 * 365 * DAY)
    nobody, shows, front = np.full(n, -1), film_contents(n, rng), rng.random(n) < 0.7
    kinds = (("AP", front), ("PA", ~front))
    return [_Study(nobody[at], subject[at], time[at], shows[at], view) for view, at in kinds]
