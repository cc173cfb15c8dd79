"""What each method must find in the scene, and what it cannot by its construction.

A method is added by one line in ``TELLS``. See its spread over seeds of world and fit and over instruction sets before
(``python -m tests.fingerprints.spread NAME``): a bar stands at least three spreads away from it.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Final

import pytest

from mmnar.models.registry import model_class
from tests.fingerprints.scene import Found, found

SMALL: Final = {
    "image": ("model.image.backbone=tiny",),
    "series": ("model.series.encoder=lstm", "model.series.hours=24", "model.series.step=3"),
}
"""Settings of the shared encoders, where a method has them."""

FOUND: Final = 0.6
"""Least share of what there is to find that counts as found."""
CHANCE: Final = 0.2
"""A share that a coin may show on the test patients."""

EVERYTHING: Final = ("record", "film", "product", "order")
TELLS: Final[dict[str, tuple[str, ...]]] = {
    "daft": EVERYTHING,
    "drfuse": ("record", "film", "order"),
    "flex-moe": EVERYTHING,
    "late-fusion": ("record", "film", "order"),
    "lstm": ("record", "order"),
    "m3care": EVERYTHING,
    "resnet": ("film",),
    "shaspec": EVERYTHING,
    "smil": EVERYTHING,
    "transformer": ("record", "order"),
    "utde": EVERYTHING,
    "zero-fill": EVERYTHING,
}
"""Method → outcomes that it must find; the others must stay at chance. Outcomes of a product, of the order of two
episodes: additive methods never find the first, methods without sequence never the second."""

MAY: Final[dict[str, tuple[str, ...]]] = {
    "drfuse": ("product",),  # from a quarter to all of it by seed: the pooled vector is a mean of what each says
}
"""Outcomes of which nothing is promised, with the reason beside."""

OWN: Final[dict[str, tuple[str, ...]]] = {
    "lstm": ("model.hours=24", "model.step=3"),
    "transformer": ("model.hours=24", "model.step=3"),
    "utde": ("model.hours=24", "model.step=3"),
}
"""Settings of a method's own."""


@cache
def fitted(name: str, seed: int = 0) -> Found:
    """One fit tells all four outcomes."""
    fields = {f.name for f in dataclasses.fields(model_class(name).Config)}
    shared = [word for key, words in SMALL.items() if key in fields for word in words]
    return found(name, "model.width=32", *shared, *OWN.get(name, ()), seed=seed)


CASES: Final = [(name, outcome) for name in TELLS for outcome in EVERYTHING if outcome not in MAY.get(name, ())]


@pytest.mark.parametrize(("name", "outcome"), CASES)
def test_what_it_finds(name: str, outcome: str) -> None:
    share = fitted(name).share(outcome)
    if outcome in TELLS[name]:
        assert share >= FOUND
    else:
        assert abs(share) <= CHANCE


@pytest.mark.parametrize("name", TELLS)
def test_without_a_film_nothing_tells_of_it(name: str) -> None:
    without = fitted(name).filmless
    assert abs(without["film"] - 0.5) < 0.1
    assert abs(without["product"] - 0.5) < 0.1
