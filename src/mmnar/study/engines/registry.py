"""Engines by name, imported on demand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmnar.study.engines.base import Engine


def engine_of(name: str, jobs: int, out: Path, options: Mapping[str, str]) -> Engine:
    """The engine of a name, imported on demand.

    Args:
        name: ``local``, ``slurm`` or ``ray``.
        jobs: At the same time, for ``local``.
        out: The study's folder, where an engine keeps what it must write.
        options: The engine's own, e.g. ``{"partition": "gpu"}``.

    Raises:
        ConfigError: An option that the engine does not have.
        RequirementError: The extra it needs is not installed.
    """
    if name == "slurm":
        from mmnar.study.engines.slurm import SlurmEngine

        return SlurmEngine(out / "slurm", options)
    if name == "ray":
        from mmnar.study.engines.ray import RayEngine

        return RayEngine(options)
    from mmnar.study.engines.local import LocalEngine

    return LocalEngine(jobs)
