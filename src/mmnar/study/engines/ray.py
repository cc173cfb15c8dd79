"""An existing Ray cluster: the same table, a task a job."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mmnar.errors import ConfigError, RequirementError, nearest
from mmnar.extras import lacking
from mmnar.study.engines.base import Ended
from mmnar.study.plan import Job
from mmnar.study.work import do


class RayEngine:
    """Tasks of a Ray cluster, each in a process of its own.

    Args:
        options: ``address`` of the cluster's head (default ``auto``: the one of this machine), ``cpus`` and ``gpus``
            that a job takes.

    Raises:
        ConfigError: Another option.
        RequirementError: The extra ``ray`` is not installed, or no cluster answers.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        try:
            import ray
        except ImportError:
            raise lacking("engine 'ray'", "ray", "ray") from None
        for key in options:
            if key not in ("address", "cpus", "gpus"):
                hint = nearest(key, ("address", "cpus", "gpus"))
                raise ConfigError(f"engine option '{key}'", "a known option", "an unknown one", hint)
        self.threads = int(options.get("cpus", "1"))
        self.gpus = float(options.get("gpus", "0"))
        address = options.get("address", "auto")
        if ray.is_initialized():  # a caller's own connection
            return
        try:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except OSError:
            raise RequirementError(
                "engine 'ray'", f"a Ray cluster at '{address}'", "no answer", "start one with `ray start --head`"
            ) from None

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        import ray

        # a process serves one job, so that memory is counted job by job; what failed is tried again by the study
        remote: Any = ray.remote(max_calls=1, max_retries=0, num_cpus=self.threads, num_gpus=self.gpus)(do)
        pending: dict[Any, Job] = {remote.remote(job, threads=self.threads): job for job in jobs}
        while pending:
            ready, _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(ready[0])
            with suppress(ray.exceptions.RayError):  # its process died: the job's folder has no result
                ray.get(ready[0])
            ended(job)


def _knock(address: str) -> None:
    """Whether anybody answers at HOST:PORT: Ray itself asks for half a minute, then ends the process.

    Raises:
        OSError: Nobody does.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=5):
            return
