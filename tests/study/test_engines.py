"""The same table on a real Ray cluster of two workers and through submitit gives the same numbers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmnar.dataset.store import write_store
from mmnar.errors import ConfigError, RequirementError
from mmnar.simulation.planted import planted
from mmnar.study.driver import Done, run_study
from mmnar.study.engines.local import LocalEngine
from mmnar.study.engines.registry import engine_of
from mmnar.study.progress import Quiet
from mmnar.study.result import judge
from mmnar.study.spec import StudySpec, study_of

RAY = str(Path(sys.executable).with_name("ray"))


def spec(folder: Path, **changes: object) -> StudySpec:
    store = write_store(folder / "store", planted("single", 300))
    raw = {
        "title": "Two controls",
        "data": {"planted": {"store": str(store)}},
        "rows": {"pattern-only": {}, "logistic-pattern": {}},
        "folds": 2,
        "set": {"rectifier.rule": "none"},
        "resamples": 20,
    }
    return study_of({**raw, **changes})


def aurocs(done: Done) -> dict[str, float | None]:
    return {row: n.metrics["auroc"].value for row, n in judge(done).tables[0].tasks["outcome"].items()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A head and a second worker node, on loopback, with one processor each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "RAY_ENABLE_MULTI_TENANCY": "1", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
    common = ["--num-cpus=1", "--object-store-memory=80000000", "--block"]
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false", *common]
    nodes = [subprocess.Popen([RAY, "start", *head], env=environment, stdout=subprocess.DEVNULL)]
    wait_for(port)
    worker = [f"--address=127.0.0.1:{port}", "--node-ip-address=127.0.0.1", *common]
    nodes.append(subprocess.Popen([RAY, "start", *worker], env=environment, stdout=subprocess.DEVNULL))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        import ray

        ray.shutdown()
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
            node.wait(30)


def wait_for(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the Ray head did not come up")


def test_a_real_ray_cluster_of_two_workers_gives_the_same_numbers(cluster: str, tmp_path: Path) -> None:
    engine = engine_of("ray", 1, tmp_path, {"address": cluster})
    import ray

    end = time.monotonic() + 60
    while len([n for n in ray.nodes() if n["Alive"]]) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    assert ray.cluster_resources()["CPU"] == 2
    done = run_study(spec(tmp_path), tmp_path / "ray", engine, Quiet())
    assert not done.failures
    local = run_study(spec(tmp_path), tmp_path / "local", LocalEngine(1), Quiet())
    assert aurocs(done) == aurocs(local)

    # a worker that is killed: its run is taken up again
    long = {"fits": 2, "train.min_steps": 600, "model.width": 16, "train.patience": 999}
    asked = spec(tmp_path, rows={"zero-fill": {"set": long}}, folds=1)
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            if list(tmp_path.glob("killed/runs/*/identity.json")):
                found = subprocess.run(["pgrep", "-f", "ray::do"], capture_output=True, text=True).stdout.split()
                for pid in found[:1]:
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(int(pid))
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = run_study(asked, tmp_path / "killed", engine, Quiet())
    assert killed
    assert not done.failures


def test_submitit_gives_the_same_numbers(tmp_path: Path) -> None:
    """Its executor for this machine stands in for the cluster; what is submitted and waited for is the same."""
    engine = engine_of("slurm", 1, tmp_path, {"cluster": "local", "cpus_per_task": "1"})
    done = run_study(spec(tmp_path), tmp_path / "slurm-study", engine, Quiet())
    assert not done.failures
    local = run_study(spec(tmp_path), tmp_path / "local", LocalEngine(1), Quiet())
    assert aurocs(done) == aurocs(local)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    import ray

    ray.shutdown()
    with pytest.raises(RequirementError, match="a Slurm cluster"):
        engine_of("slurm", 1, tmp_path, {})
    with pytest.raises(ConfigError, match="did you mean 'address'"):
        engine_of("ray", 1, tmp_path, {"adress": "x"})
    with pytest.raises(RequirementError, match="ray start --head"):
        engine_of("ray", 1, tmp_path, {"address": "127.0.0.1:1"})
