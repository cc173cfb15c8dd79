"""Finished runs shown elsewhere: TensorBoard, MLflow. Nothing is read back from there.

What goes there: settings, cost and the losses of every epoch. Scores on test folds do not go: where curves of many runs
lie side by side, somebody chooses by them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from mmnar.errors import ConfigError, nearest
from mmnar.extras import lacking
from mmnar.study.plan import Job
from mmnar.study.progress import Progress
from mmnar.workflow import Run, open_run

COST: Final = ("seconds", "cpu_seconds", "peak_memory_mb", "latency_ms", "parameters")
_BATCH: Final = 1000
"""Numbers that MLflow takes at once."""

Point = tuple[str, int, float]
"""Name of a curve, place on it, value."""


class Mirror(Protocol):
    """A place that shows runs. Showing one again changes nothing."""

    def show(self, job: Job) -> None:
        """A finished run."""


class Mirrored:
    """Progress that also shows every finished run in the mirrors. One that fails costs a message, never a run."""

    def __init__(self, inner: Progress, mirrors: Sequence[Mirror]) -> None:
        self.inner, self.mirrors = inner, mirrors
        self._shown: set[str] = set()

    def begin(self, total: int, finished: int) -> None:
        self.inner.begin(total, finished)

    def ended(self, job: Job) -> None:
        self.inner.ended(job)
        self.show(job)

    def say(self, message: str) -> None:
        self.inner.say(message)

    def end(self) -> None:
        self.inner.end()

    def show(self, job: Job) -> None:
        """In all mirrors, unless that was done or it is no finished run."""
        if job.kind != "run" or not job.finished or job.id in self._shown:
            return
        try:
            for mirror in self.mirrors:
                mirror.show(job)
        except Exception as error:  # whatever a server or a disk far away may say
            self.say(f"not mirrored: {job.label}: {error}; the run itself is whole, start the study again to mirror it")
            return
        self._shown.add(job.id)


def mirror_of(kind: str, where: str, title: str) -> Mirror:
    """
    Args:
        kind: ``tensorboard`` or ``mlflow``.
        where: A folder, or the address of a tracking server or data base.
        title: Of the study.

    Raises:
        ConfigError: No such kind.
        RequirementError: Its extra is not installed.
    """
    if kind == "tensorboard":
        return TensorBoard(Path(where))
    if kind == "mlflow":
        return MLflow(where, title)
    known = ("tensorboard", "mlflow")
    raise ConfigError(f"--mirror '{kind}'", "tensorboard=FOLDER or mlflow=ADDRESS", "another", nearest(kind, known))


class TensorBoard:
    """One folder of events per run, written whole or not at all.

    Raises:
        RequirementError: The extra ``tensorboard`` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise lacking("--mirror tensorboard", "tensorboard", "tensorboard") from None
        self.folder, self._writer = folder, SummaryWriter

    def show(self, job: Job) -> None:
        parts = [part.replace("/", "-") for part in job.label.split(" · ")]
        place = self.folder.joinpath(*parts[:-1], f"{parts[-1]} ({job.id})")
        if place.exists():
            return
        run, begun = open_run(job.folder), place.with_name(f".{job.id}")
        shutil.rmtree(begun, ignore_errors=True)
        with self._writer(str(begun)) as writer:
            writer.add_text("settings", f"```\n{json.dumps(settings_of(run), indent=1)}\n```")
            for name, step, value in (*curves(run.history()), *costs(run)):
                writer.add_scalar(name, value, step)
        os.replace(begun, place)


class MLflow:
    """One MLflow run per run, found again by its hash; the experiment has the study's title.

    Raises:
        RequirementError: The extra ``mlflow`` is not installed.
    """

    def __init__(self, address: str, title: str) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise lacking("--mirror mlflow", "mlflow-skinny", "mlflow") from None
        self._client, self._title = MlflowClient(address), title

    def show(self, job: Job) -> None:
        client, experiment = self._client, self._experiment()
        for found in client.search_runs([experiment], f"tags.mmnar_run = '{job.id}'"):
            if found.info.status == "FINISHED":
                return
            client.delete_run(found.info.run_id)  # cut off half-way
        run, now = open_run(job.folder), int(1000 * time.time())
        shown = client.create_run(experiment, run_name=job.label, tags={"mmnar_run": job.id}).info.run_id
        for key, value in settings_of(run).items():
            client.log_param(shown, key, value)
        points = [*curves(run.history()), *costs(run)]
        for first in range(0, len(points), _BATCH):
            client.log_batch(shown, metrics=[self._metric(point, now) for point in points[first : first + _BATCH]])
        client.set_terminated(shown)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._title)
        return str(found.experiment_id if found else self._client.create_experiment(self._title))

    @staticmethod
    def _metric(point: Point, now: int) -> Any:
        from mlflow.entities import Metric

        name, step, value = point
        return Metric(name, value, now, step)


def settings_of(run: Run) -> dict[str, Any]:
    """What a run was told, flat: ``model.width``, ``config.train.lr``."""
    kept = {key: run.record[key] for key in ("name", "data", "model", "config")}
    return dict(_flat(kept))


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def costs(run: Run) -> list[Point]:
    """Time, memory, latency, size; what was not recorded is left out."""
    return [(f"cost/{key}", 0, float(run.record[key])) for key in COST if run.record.get(key) is not None]


def curves(history: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Losses by epoch. A run's fits are numbered in their order.

    >>> record = {"fit": "net", "phase": "joint", "epoch": 1, "train": {"task": 0.5}, "tune": {"task": 0.6}}
    >>> curves([record, {**record, "epoch": 2}, record])[::2]
    [('fit1/joint/train_task', 1, 0.5), ('fit1/joint/train_task', 2, 0.5), ('fit2/joint/train_task', 1, 0.5)]
    """
    points: list[Point] = []
    fit = 1
    seen: set[tuple[str, int]] = set()
    for before, record in zip([None, *history], history, strict=False):
        place = (record["phase"], record["epoch"])
        if before is not None and (record["fit"] != before["fit"] or place in seen):
            fit, seen = fit + 1, set()
        seen.add(place)
        named = {f"{part}_{name}": value for part in ("train", "tune") for name, value in record[part].items()}
        points += [(f"fit{fit}/{record['phase']}/{name}", record["epoch"], value) for name, value in named.items()]
    return points
