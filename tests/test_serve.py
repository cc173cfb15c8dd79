"""The service answers what ``mmnar predict`` writes, to the bit, over HTTP; bad requests are 4xx with one line."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmnar import cli
from mmnar.workflow import Run, train_run
from mmnar.workflow.predict import predict
from tests.test_predict import put, visits

uvicorn = pytest.importorskip("uvicorn")
TOKEN = "a token of some length"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("serve")
    cli.prepare.table(str(put(place, visits())), out=place / "store")
    return train_run(place / "store", "logistic-pattern", place / "run", ("fits=2",))


@pytest.fixture(scope="module")
def served(run: Run) -> Iterator[tuple[int, Path]]:
    from mmnar.workflow.service.answers import Scorer
    from mmnar.workflow.service.audit import AuditLog
    from mmnar.workflow.service.http import Limits, application

    log = run.folder.parent / "audit.jsonl"
    app = application(Scorer(run), TOKEN, AuditLog(log), Limits(body=200_000))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1], log
        server.should_exit = True
        thread.join()


def ask(port: int, body: bytes, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    line.request("POST", "/predict", body, {"Authorization": f"Bearer {token}"})
    answer = line.getresponse()
    found = answer.status, json.loads(answer.read())
    line.close()
    return found


def test_numbers_are_those_of_predict_to_the_bit(run: Run, served: tuple[int, Path], tmp_path: Path) -> None:
    port, log = served
    new = visits().drop("died", "sex").slice(0, 40)
    new.write_csv(tmp_path / "new.csv")
    frame = predict(run, table=tmp_path / "new.csv").frame
    status, answer = ask(port, json.dumps({"rows": new.to_dicts()}).encode())
    assert status == 200, answer
    for row, patient in zip(frame.iter_rows(named=True), answer["patients"], strict=True):
        told = patient["tasks"]["death"]
        assert (patient["sample"], told["risk"]) == (row["sample"], row["death.risk"])
        assert told["rectified"] == row["death.rectified"]
        assert told["spread"] == [row["death.low"], row["death.high"]]
        assert (patient["pattern"], patient["training_patients"]) == (row["pattern"], row["training_patients"])
    assert "5000" not in log.read_text()
    assert json.loads(log.read_text().splitlines()[-1])["status"] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[" * 100_000, 422),
        (b"\xff", 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [{}]}', 422),
        (b'{"rows": [{"age": NaN}]}', 422),
        (b'{"rows": [{"age": [1]}]}', 422),
        (b'{"rows": [{"person": 1, "visit": 2, "age": "secret"}]}', 422),
        (b'{"rows": [{"age": "\\ud800"}]}', 422),
        (b'{"events": []}', 422),
        (b" " * 200_001, 413),
    ],
)
def test_bad_requests_are_one_line(served: tuple[int, Path], body: bytes, status: int) -> None:
    found, answer = ask(served[0], body)
    assert found == status, answer
    assert "\n" not in answer["error"]
    assert "secret" not in answer["error"]


def test_a_wrong_token_is_refused(served: tuple[int, Path]) -> None:
    assert ask(served[0], b"{}", "another")[0] == 401
