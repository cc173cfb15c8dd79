"""A run on a table and one on MEDS behind HTTP, for the tests that ask them: trained once a session."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar import cli
from mmnar.workflow import Run, train_run

TOKEN = "a token of some length"
NOTE = "short of breath since noon, better after oxygen. " * 3
PLAN = """
person: {codes: [GENDER//*], history: true}
labs:
  features:
    lactate: {codes: [LAB//lactate], unit: mmol/L, low: 0, high: 30}
vitals: {kind: series, codes: [VITALS//*]}
notes: {kind: text, codes: [NOTE//ADMISSION]}
"""


@dataclass(frozen=True)
class Served:
    run: Run
    port: int
    log: Path

    def ask(self, body: Any, token: str = TOKEN, path: str = "/predict") -> tuple[int, dict[str, Any]]:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        line.request("POST", path, sent, {"Authorization": f"Bearer {token}"})
        answer = line.getresponse()
        found = answer.status, json.loads(answer.read())
        line.close()
        return found

    def patients(self, body: Any) -> list[dict[str, Any]]:
        status, answer = self.ask(body)
        assert status == 200, answer
        return list(answer["patients"])

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def serving(run: Run, place: Path, **limits: Any) -> Iterator[Served]:
    uvicorn = pytest.importorskip("uvicorn")
    from mmnar.workflow.service.answers import scorer_of
    from mmnar.workflow.service.audit import AuditLog
    from mmnar.workflow.service.http import SERVER, Limits, application, bound

    log = place / "audit.jsonl"
    app = application(scorer_of(run, place), TOKEN, AuditLog(log, "the run"), Limits(**limits))
    with bound("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, **SERVER))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield Served(run, listening.getsockname()[1], log)
        server.should_exit = True
        thread.join()


def serving_a_table(place: Path) -> Iterator[Served]:
    """A rule of its spec leaves out who moved away."""
    from tests.test_predict import put, visits

    gone = [{"name": "moved away", "column": "left", "values": ["yes"]}]
    spec = put(place, visits().with_columns(left=pl.lit("no")), exclude=gone)
    cli.prepare.table(str(spec), out=place / "store")
    run = train_run(place / "store", "logistic-pattern", place / "run", ("fits=2",))
    with serving(run, place, body=200_000) as served:
        yield served


def events_of(patients: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events in MEDS' order, and labels: half have a lactate, a third a note; who has one of both is more often ill,
    which the rectifier has to correct."""
    rng, rows, labels = np.random.default_rng(5), [], []
    for subject in range(1, patients + 1):
        ill, begin = rng.normal(), datetime(2150, 1, 1) + timedelta(days=int(rng.integers(0, 900)))
        rows.append((subject, None, f"GENDER//{'FM'[subject % 2]}", None, None, None))
        rows.append((subject, begin - timedelta(days=9000), "MEDS_BIRTH", None, None, None))
        for hour in range(4):
            at = begin + timedelta(hours=hour)
            rows.append((subject, at, "VITALS//HR", round(80 + 9 * ill + rng.normal(), 1), None, None))
            if subject % 2 and hour < 3:
                known = at + timedelta(hours=12 * hour)  # the third is known only after the question
                rows.append((subject, at, "LAB//lactate", round(4 + ill + rng.normal() / 9, 2), None, known))
        if subject % 3 == 0:
            rows.append((subject, begin + timedelta(hours=5), "NOTE//ADMISSION", None, NOTE * (1 + (ill > 0)), None))
        odd = 2 * ((subject % 2 == 1) != (subject % 3 == 0)) - 1
        labels.append((subject, begin + timedelta(hours=20), bool(ill + rng.normal() + odd > 0.5)))
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
        "text_value": pl.String,
        "available_time": pl.Datetime("us"),
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row").sort("subject_id", "time", maintain_order=True)
    return frame, pl.DataFrame(labels, schema=["subject_id", "prediction_time", "boolean_value"], orient="row")


def written(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """As a client writes it."""
    plain = frame.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S"))
    return [{name: cell for name, cell in row.items() if cell is not None} for row in plain.iter_rows(named=True)]


def serving_meds(place: Path) -> Iterator[Served]:
    """Aggregates with a range and a unit, a series, notes."""
    frame, labels = events_of(160)
    (place / "meds" / "data").mkdir(parents=True)
    (place / "labels").mkdir()
    frame.write_parquet(place / "meds" / "data" / "0.parquet")
    labels.write_parquet(place / "labels" / "death.parquet")
    (place / "plan.yaml").write_text(PLAN)
    cli.prepare.meds(
        root=place / "meds",
        labels=place / "labels",
        modalities=place / "plan.yaml",
        notes_encoder="hashing",
        out=place / "store",
    )
    run = train_run(place / "store", "logistic-pattern", place / "run", ("fits=2",))
    with serving(run, place) as served:
        yield served
