"""A Slurm cluster, through submitit: one array of jobs a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mmnar.errors import RequirementError
from mmnar.extras import lacking
from mmnar.study.engines.base import Ended
from mmnar.study.plan import Job
from mmnar.study.work import do

_DEFAULTS: Final[dict[str, Any]] = {"timeout_min": 240, "cpus_per_task": 2, "mem_gb": 4, "name": "mmnar"}


class SlurmEngine:
    """Jobs of one array.

    Args:
        folder: For what Slurm and submitit write.
        options: Of submitit's executor, e.g. ``slurm_partition``, ``timeout_min``, ``gpus_per_node``,
            ``slurm_array_parallelism``; and ``cluster``: ``slurm``, or ``local`` for processes of this machine.

    Raises:
        RequirementError: The extra ``slurm`` is not installed.
    """

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        try:
            import submitit
        except ImportError:
            raise lacking("engine 'slurm'", "submitit", "slurm") from None
        own = {**_DEFAULTS, **{key: _plain(value) for key, value in options.items()}}
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=str(own.pop("cluster", "slurm")))
        except RuntimeError as error:
            raise RequirementError("engine 'slurm'", "a Slurm cluster", str(error), "use --engine local") from None
        self.threads = int(own["cpus_per_task"])
        self.executor.update_parameters(**own)

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        from submitit.helpers import as_completed

        if not jobs:
            return
        submitted = self.executor.map_array(do, list(jobs), [self.threads] * len(jobs))
        of = {handle.job_id: job for handle, job in zip(submitted, jobs, strict=True)}
        for handle in as_completed(submitted, poll_frequency=2):
            ended(of[handle.job_id])


def _plain(value: str) -> Any:
    """A whole number where the word is one."""
    return int(value) if value.isdigit() else value
