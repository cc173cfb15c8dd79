"""Rebuilding a fitted correction from what ``to_dict`` wrote."""

from __future__ import annotations

from typing import Any

from mmnar.errors import ConfigError, nearest
from mmnar.posthoc.base import FittedCorrection
from mmnar.posthoc.platt import FittedPlatt
from mmnar.posthoc.rectify import FittedLattice, FittedThreshold


def restore(data: dict[str, Any]) -> FittedCorrection:
    """The fitted correction that ``to_dict`` wrote.

    Raises:
        ConfigError: An unknown kind.
    """
    kinds = {"platt": FittedPlatt, "threshold": FittedThreshold, "lattice": FittedLattice}
    kind = str(data.get("kind"))
    if kind not in kinds:
        raise ConfigError("correction.kind", "a known kind", f"'{kind}'", nearest(kind, kinds))
    return kinds[kind].from_dict(data)  # type: ignore[attr-defined,no-any-return]
