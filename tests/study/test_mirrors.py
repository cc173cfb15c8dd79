"""What TensorBoard and MLflow themselves read back from a mirrored study."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmnar.dataset.store import write_store
from mmnar.errors import ConfigError
from mmnar.simulation.planted import planted
from mmnar.study.driver import Done, run_study
from mmnar.study.mirrors import COST, Mirrored, MLflow, TensorBoard, curves, mirror_of
from mmnar.study.plan import Job
from mmnar.study.progress import Quiet
from mmnar.workflow import open_run
from tests.study.test_run import Inline, spec_of

ROWS = {
    "pattern-only": {},
    "small/net": {"model": "zero-fill", "set": {"train.max_epochs": 2, "train.min_steps": 0, "model.width": 8}},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("mirrored")
    spec = spec_of(write_store(folder / "store", planted("single", 300)), rows=ROWS, set={"fits": 2})
    return run_study(spec, folder / "s", Inline(), Quiet())


def net(done: Done) -> Job:
    return next(job for job in done.plan.jobs.values() if "small/net" in job.label)


def expected(job: Job) -> dict[tuple[str, int], float]:
    """Every number that should be shown, by name and place."""
    run = open_run(job.folder)
    losses = {(name, step): value for name, step, value in curves(run.history())}
    return losses | {(f"cost/{key}", 0): run.record[key] for key in COST}


def test_tensorboard_reads_the_losses_and_costs_and_nothing_else(done: Done, tmp_path: Path) -> None:
    job, mirror = net(done), TensorBoard(tmp_path)
    (tmp_path / "planted" / "small-net" / "default" / "fold 0" / f".{job.id}").mkdir(parents=True)  # left by a kill
    mirror.show(job)
    (events,) = tmp_path.rglob("events.*")
    assert events.parent.name == f"seed 0 ({job.id})"
    assert events.parent.parent.relative_to(tmp_path).parts == ("planted", "small-net", "default", "fold 0")
    read = EventAccumulator(str(events.parent)).Reload()
    shown = {(tag, e.step): e.value for tag in read.Tags()["scalars"] for e in read.Scalars(tag)}
    assert shown == pytest.approx(expected(job), rel=1e-6)
    assert {name.split("/")[0] for name, _ in shown} == {"fit1", "fit2", "cost"}
    before = events.read_bytes()
    mirror.show(job)
    assert [e.read_bytes() for e in tmp_path.rglob("events.*")] == [before]


def test_mlflow_reads_the_same_once(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    job = net(done)
    mirror = MLflow(address, "Two controls")
    MlflowClient(address).create_run(mirror._experiment(), tags={"mmnar_run": job.id})  # left by a kill
    for _ in range(2):
        mirror.show(job)
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("Two controls")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == job.label
    assert run.data.params["model.width"] == "8"
    shown = {
        (name, m.step): m.value for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)
    }
    assert shown == pytest.approx(expected(job))


def test_a_mirror_that_fails_costs_words_and_no_run(done: Done, tmp_path: Path) -> None:
    class Broken:
        def show(self, job: Job) -> None:
            raise OSError("no such server")

    class Heard(Quiet):
        words: tuple[str, ...] = ()

        def say(self, words: str) -> None:
            self.words += (words,)

    heard = Heard()
    progress = Mirrored(heard, [Broken()])
    again = run_study(done.spec, tmp_path / "s", Inline(), progress)
    assert not again.failures
    assert len(heard.words) == len(again.plan.jobs) == 4
    assert "no such server" in heard.words[0]
    shown: list[str] = []

    class Kept:
        def show(self, job: Job) -> None:
            shown.append(job.id)

    progress = Mirrored(heard, [Kept()])
    for job in [*again.plan.jobs.values()] * 2:
        progress.show(job)
    assert shown == list(again.plan.jobs)


def test_another_mirror_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        mirror_of("tensorbord", str(tmp_path), "title")
