"""Processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Final, cast

from mmnar.study.engines.base import Ended
from mmnar.study.plan import Job
from mmnar.study.work import do

_PRELOADED: Final = ["mmnar.workflow", "mmnar.training.loop", "lightning.fabric", "sklearn.ensemble"]


class LocalEngine:
    """Processes of this machine, one per job, so that a job that dies takes nothing else with it.

    They are forked from a server that has imported the heavy libraries once. Each computes in one thread: sums split
    among threads depend on how many there are, and a run's numbers must not depend on how many jobs go at a time.

    Args:
        jobs: At the same time.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def run(self, jobs: Sequence[Job], ended: Ended) -> None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
            os.environ.setdefault(name, "1")  # read when the server starts
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        waiting, running = list(jobs), dict[int, tuple[BaseProcess, Job]]()
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    job = waiting.pop(0)
                    process = context.Process(target=_do, args=(job,), name=job.label)
                    process.start()
                    running[process.sentinel] = (process, job)
                for sentinel in wait(list(running)):
                    over, job = running.pop(cast(int, sentinel))
                    over.join()
                    ended(job)
        finally:
            for left, _ in running.values():  # an interrupt: what they did so far stays
                left.terminate()
                left.join()


def _do(job: Job) -> None:
    """``do``, but not beyond the driver's life: a killed one must leave nobody writing where the next one will."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    threading.Thread(target=_end_with, args=(driver.sentinel,), daemon=True).start()
    do(job)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
