"""Where jobs run. An engine starts jobs and says when they are over; what came of a job is in its folder alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mmnar.study.plan import Job

Ended = Callable[[Job], None]
"""Called once a job is over, whatever came of it."""


class Engine(Protocol):
    """A way to run jobs. Every process sees the study's folder and the stores at the same paths."""

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        """Run all of them; return when all are over."""


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
