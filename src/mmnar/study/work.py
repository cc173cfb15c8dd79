"""What one process does for a study. Afterwards its folder holds a result or ``failed.json``."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmnar.faults import told
from mmnar.files import read_sealed, write_text
from mmnar.study.plan import Job


def do(job: Job, threads: int = 1) -> None:
    """Make a job's result. Never raises: an exception becomes ``failed.json``, told as ``faults`` tells it.

    Args:
        threads: For torch; BLAS and OpenMP take theirs from the environment the process was started with.
    """
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failed.json").unlink(missing_ok=True)
    started = time.time()
    try:
        import torch

        torch.set_num_threads(threads)
        _WORK[job.kind](job.task, folder)
    except Exception as error:
        line, places = told(error)
        record = {
            "error": f"{type(error).__name__}: {line}",
            "traceback": places,
            "seconds": round(time.time() - started, 1),
        }
        with suppress(OSError):  # a full disk: the driver says that there is no word
            write_text(folder / "failed.json", json.dumps(record, indent=1))


def _run(task: dict[str, Any], folder: Path) -> None:
    from mmnar.workflow import is_finished, train_run

    if not is_finished(folder):
        _forget_another_versions(folder)
    train_run(Path(task["store"]), task["model"], folder, task["overrides"], resume=True)


def _forget_another_versions(folder: Path) -> None:
    """What another version of the package began and did not finish is begun anew: a checkpoint goes on by the code that
    wrote it alone."""
    begun = folder / "identity.json"
    if begun.is_file() and read_sealed(begun, "a run of the study", "remove it").get("mmnar") != version("mmnar"):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


def _search(task: dict[str, Any], folder: Path) -> None:
    from mmnar.study.search import search

    search(task, folder)


_WORK = {"run": _run, "search": _search}
