"""What ``mmnar serve`` does under load: wrong answers, waiting, memory, and requests that are not what they should be.

    python benchmarks/service.py [--patients 600] [--requests 2000] [--malformed 2000] [--model logistic-pattern]
    python benchmarks/service.py --smallest

A run on a table and one on MEDS are trained on simulated patients and served by the real command, over loopback. Every
patient's answer is compared to the bit with what ``mmnar predict`` makes of files, for one client and for eight at
once. *Bare* is the same question in this process, without HTTP, JSON, checks and log; *predictor* is the fitted model
alone, on arrays that are there already. Malformed requests have to get a 4xx with one line that does not repeat a
planted word. Exit status 1 where an answer is wrong, a status is 5xx, or a line of the log is missing. Times are those
of a wall clock: run it on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from mmnar import cli
from mmnar.cohort.build import build_cohort
from mmnar.cohort.split import Split
from mmnar.dataset.prepare import dataset_of
from mmnar.simulation.events import outcome_code, read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions
from mmnar.sources.events import Events
from mmnar.workflow import Run, train_run
from mmnar.workflow.predict import predict
from mmnar.workflow.scoring import Loaded, load
from mmnar.workflow.service.answers import NEVER_SEEN
from mmnar.workflow.service.events import of_events
from mmnar.workflow.service.requests import Question
from mmnar.workflow.service.rows import of_rows

CLIENTS = 8
LARGEST = 100_000
PLANTED = "Zebra-4711"
TOKEN = "a token for the benchmark"
Body = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A run, a request for each patient, and what ``mmnar predict`` says: (pattern, task → numbers)."""

    name: str
    run: Run
    bodies: list[Body]
    wanted: list[tuple[str, dict[str, list[float | None]]]]
    ask: Callable[[Body], Question]


# --- runs -------------------------------------------------------------------------------------------------------------


def table_case(place: Path, patients: int, model: str) -> Case:
    rng = np.random.default_rng(1)
    ill, measured = rng.normal(size=patients), rng.random(patients) < 0.6
    columns = {f"x{i}": pl.Series(np.where(measured, ill + rng.normal(size=patients), np.nan)) for i in range(8)}
    frame = pl.DataFrame(
        {
            "person": np.arange(patients) + 1000,
            "visit": np.arange(patients),
            "age": rng.integers(20, 90, patients),
            "ward": rng.choice(["surgery", "medicine", "cardiology"], patients),
            **{name: column.fill_nan(None) for name, column in columns.items()},
            "died": (ill + rng.normal(size=patients) > 0.8).astype(int),
        }
    )
    spec = {
        "name": "wards",
        "files": ["visits.csv"],
        "subject": "person",
        "sample": "visit",
        "modalities": {"basics": ["age", "ward"], "labs": list(columns)},
        "outcomes": {"death": "died"},
    }
    place.mkdir()
    frame.write_csv(place / "visits.csv")
    (place / "spec.yaml").write_text(yaml.safe_dump(spec))
    cli.prepare.table(str(place / "spec.yaml"), out=place / "store")
    run = train_run(place / "store", model, place / "run", ("fits=2",))
    found = predict(run, table=place / "visits.csv").frame
    by_visit = {row["sample"]: row for row in found.iter_rows(named=True)}
    rows = frame.drop("died").to_dicts()
    recipe = run.recipe()
    return Case(
        "table",
        run,
        [{"rows": [row]} for row in rows],
        [numbers(by_visit[str(row["visit"])], recipe.schema.task_names) for row in rows],
        lambda body: of_rows(body, recipe),
    )


def meds_case(place: Path, patients: int, model: str) -> Case:
    extract = read_synthetic(simulate(patients, seed=2))
    assert isinstance(extract.events, Events)
    data = dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))
    outcomes = [outcome_code(task) for task in data.schema.task_names]
    frame = extract.events.frame.filter(~pl.col("code").is_in(outcomes)).drop("source", "hadm_id", "stay_id")
    frame = frame.sort("subject_id", "time", maintain_order=True)
    (place / "meds" / "data").mkdir(parents=True)
    (place / "labels").mkdir()
    frame.write_parquet(place / "meds" / "data" / "0.parquet")
    at = pl.DataFrame({"subject_id": data.subject_id, "prediction_time": data.prediction_time})
    at = at.with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))
    at.write_parquet(place / "at.parquet")
    for k, task in enumerate(data.schema.task_names):
        at.with_columns(boolean_value=data.labels[:, k]).write_parquet(place / "labels" / f"{task}.parquet")
    cli.prepare.meds(root=place / "meds", labels=place / "labels", notes_encoder="hashing", out=place / "store")
    run = train_run(place / "store", model, place / "run", ("fits=2",))
    found = predict(run, events=place / "meds", at=place / "at.parquet").frame
    by_moment = {(row["subject_id"], row["prediction_time"]): row for row in found.iter_rows(named=True)}
    of_subject = {key[0]: written(part) for key, part in frame.group_by("subject_id")}
    moments, recipe = at.rows(), run.recipe()
    return Case(
        "MEDS",
        run,
        [
            {"events": of_subject[subject], "at": [{"subject_id": subject, "prediction_time": moment.isoformat()}]}
            for subject, moment in moments
        ],
        [numbers(by_moment[moment], recipe.schema.task_names) for moment in moments],
        lambda body: of_events(body, recipe),
    )


def written(frame: pl.DataFrame) -> list[Body]:
    plain = frame.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f"))
    return [{name: cell for name, cell in row.items() if cell is not None} for row in plain.iter_rows(named=True)]


def numbers(row: Body, tasks: tuple[str, ...]) -> tuple[str, dict[str, list[float | None]]]:
    kinds = ("risk", "rectified", "low", "high")
    return row["pattern"], {task: [row.get(f"{task}.{kind}") for kind in kinds] for task in tasks}


# --- the service and its clients --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    port: int
    process: int
    log: Path

    def resident(self) -> float:
        """MB."""
        line = next(w for w in Path(f"/proc/{self.process}/status").read_text().splitlines() if w.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


class Client:
    def __init__(self, port: int) -> None:
        self.line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def ask(self, body: bytes, token: str = TOKEN, path: str = "/predict") -> tuple[int, Any, float]:
        """Status, answer, seconds."""
        begun = time.perf_counter()
        self.line.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        response = self.line.getresponse()
        text = response.read()
        return response.status, json.loads(text), time.perf_counter() - begun


@contextmanager
def serving(run: Run, place: Path) -> Iterator[Served]:
    log = place / "audit.jsonl"
    words = ["-m", "mmnar", "serve", str(run.folder), "--log", str(log), "--port", "0", "--max-bytes", str(LARGEST)]
    environment = {**os.environ, "MMNAR_TOKEN": TOKEN}
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    yield Served(int(process.stdout.readline().rsplit(":", 1)[1]), process.pid, log)
    process.terminate()
    process.wait()


def is_right(case: Case, i: int, status: int, answer: Any) -> bool:
    """Whether an answer is to the bit what ``mmnar predict`` wrote, but for a pattern that nobody had in training."""
    if status != 200:
        return False
    (patient,), (pattern, wanted) = answer["patients"], case.wanted[i]
    tasks = patient["tasks"]
    if {told.get("refused") for told in tasks.values()} == {NEVER_SEEN}:
        return bool(patient["pattern"] == pattern)
    told = {name: [t["risk"], t["rectified"], *(t["spread"] or (None, None))] for name, t in tasks.items()}
    return bool((patient["pattern"], told) == (pattern, wanted))


# --- what is measured -------------------------------------------------------------------------------------------------


def overhead(case: Case, loaded: Loaded, port: int, times: int) -> tuple[float, float, float]:
    """Median seconds of a request of one client, of the bare question, and of the predictor alone, by turns."""
    place, client = case.run.folder.parent, Client(port)
    seconds: tuple[list[float], list[float], list[float]] = ([], [], [])
    for i in range(times + 3):
        body = case.bodies[i % len(case.bodies)]
        status, answer, took = client.ask(json.dumps(body).encode())
        assert is_right(case, i % len(case.bodies), status, answer), answer
        begun = time.perf_counter()
        records = case.ask(body).records
        assert records is not None
        records = records.following(loaded.recipe, place)
        cohort = records.cohort(records.extract, False)
        loaded.score(records, cohort, place)
        bare = time.perf_counter() - begun
        fold = dataset_of(records.extract, cohort).fold(Split.external(), "test")
        begun = time.perf_counter()
        loaded.predictor.predict_with_fits(fold)
        if i >= 3:
            for kept, one in zip(seconds, (took, bare, time.perf_counter() - begun), strict=True):
                kept.append(one)
    http_, bare_, predictor = map(statistics.median, seconds)
    return http_, bare_, predictor


def load_of(case: Case, served: Served, requests: int) -> tuple[list[float], float, int, Counter[int], list[float]]:
    """Seconds of each request, of all together, wrong answers, statuses, and MB after each tenth."""
    rng = random.Random(3)
    chosen = [rng.randrange(len(case.bodies)) for _ in range(requests)]
    clients = [Client(served.port) for _ in range(CLIENTS)]
    memory: list[float] = []
    begun = time.perf_counter()
    found: list[tuple[int, float, bool]] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        for part in range(10):
            own = chosen[part * requests // 10 : (part + 1) * requests // 10]
            work = [pool.submit(turns, case, clients[c], own[c::CLIENTS]) for c in range(CLIENTS)]
            found += [one for done in work for one in done.result()]
            memory.append(served.resident())
    took = time.perf_counter() - begun
    statuses = Counter(status for status, _, _ in found)
    return [s for _, s, _ in found], took, sum(not right for _, _, right in found), statuses, memory


def turns(case: Case, client: Client, chosen: list[int]) -> list[tuple[int, float, bool]]:
    done = []
    for i in chosen:
        status, answer, seconds = client.ask(json.dumps(case.bodies[i]).encode())
        done.append((status, seconds, is_right(case, i, status, answer)))
    return done


# --- malformed --------------------------------------------------------------------------------------------------------


def malformed(case: Case, rng: random.Random) -> tuple[bytes, str]:
    """A request that is not what it should be, with the planted word in it, and its token."""
    body: Body = json.loads(json.dumps(case.bodies[rng.randrange(len(case.bodies))]))
    text = json.dumps(body)
    key = rng.choice(list(body))
    row = rng.choice(body[key])
    name = rng.choice(list(row))
    kinds: list[Callable[[], Any]] = [
        lambda: bytes(rng.randrange(256) for _ in range(rng.randrange(40))) + b"\xff",
        lambda: text[: rng.randrange(len(text))].encode(),
        lambda: json.dumps([body]).encode(),
        lambda: b"[" * rng.randrange(1, LARGEST),
        lambda: f'{{"{key}": NaN, "{PLANTED}": Infinity}}'.encode(),
        lambda: f'{{"{key}": 1, "{key}": "{PLANTED}"}}'.encode(),
        lambda: text.replace("{", '{"x": "\\udcff", ', 1).encode(),
        lambda: (text + PLANTED).encode(),
        lambda: json.dumps({**body, PLANTED: 1}).encode(),
        lambda: json.dumps({k: v for k, v in body.items() if k != key}).encode(),
        lambda: json.dumps({**body, key: rng.choice(([], {}, None, 5, PLANTED, [[]], [PLANTED], [{}]))}).encode(),
        lambda: json.dumps({**body, key: body[key] * 2 if key != "events" else [PLANTED]}).encode(),
        lambda: changed(body, row, name, {PLANTED: 1}),
        lambda: changed(body, row, name, [PLANTED]),
        lambda: changed(body, row, PLANTED, 1),
        lambda: changed(body, row, PLANTED * rng.randrange(1, 900), PLANTED),
        lambda: changed(body, row, "subject_id" if case.name == "MEDS" else "person", 2 ** rng.randrange(63, 4000)),
        lambda: changed(body, row, "subject_id" if case.name == "MEDS" else "age", f"{PLANTED} mg/dL"),
        lambda: changed(body, row, "subject_id" if case.name == "MEDS" else "person", None),
        lambda: json.dumps(
            {**body, "units": rng.choice(({PLANTED: "g"}, {"age": PLANTED}, [PLANTED], PLANTED))}
        ).encode(),
        lambda: (PLANTED * (LARGEST // len(PLANTED) + 1)).encode(),
    ]
    if case.name == "MEDS":
        event, moment = rng.choice(body["events"]), body["at"][0]
        kinds += [
            lambda: changed(body, event, "time", rng.choice((PLANTED, 5, "2150-13-01", "2150-01-01T00:00:00Z", True))),
            lambda: changed(body, event, "numeric_value", rng.choice((PLANTED, 1e39, 10**400, True, [1]))),
            lambda: changed(body, event, "code", rng.choice((None, 5, [PLANTED]))),
            lambda: changed(body, moment, "subject_id", 2**62),
            lambda: changed(
                body, moment, "prediction_time", rng.choice((None, PLANTED, 0, "2150-01-01T00:00:00+01:00"))
            ),
            lambda: json.dumps({**body, "events": [{**e, "time": None} for e in body["events"]]}).encode(),
        ]
    if rng.random() < 0.05:
        return text.encode(), rng.choice(("", PLANTED, TOKEN + "x", TOKEN[:-1], "ä" * 20))
    made = rng.choice(kinds)()
    return made, TOKEN


def changed(body: Body, row: Body, name: str, value: Any) -> bytes:
    row[name] = value
    return json.dumps(body).encode()


def faults(case: Case, served: Served, requests: int) -> tuple[Counter[int], list[str]]:
    """Statuses of malformed requests, and what is not as it should be."""
    rng, client, statuses, wrong = random.Random(4), Client(served.port), Counter[int](), []
    for _ in range(requests):
        body, token = malformed(case, rng)
        status, answer, _ = client.ask(body, token)
        statuses[status] += 1
        line = str(answer.get("error", ""))
        if not 400 <= status < 500 or not line or "\n" in line or PLANTED in line or len(line) > 500:
            wrong.append(f"{status} {line[:100]!r} to {body[:300]!r}")
    return statuses, wrong


# --- all of it --------------------------------------------------------------------------------------------------------


def measure(case: Case, place: Path, requests: int, bad: int) -> bool:
    """Whether everything was right."""
    loaded = load(case.run)
    with serving(case.run, place) as served:
        single, bare, predictor = overhead(case, loaded, served.port, max(10, requests // 10))
        asked = sum(1 for _ in served.log.open())
        seconds, took, wrong, statuses, memory = load_of(case, served, requests)
        told, faulty = faults(case, served, bad)
        lines = sum(1 for _ in served.log.open()) - asked
        leaked = PLANTED in served.log.read_text()
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    half = memory[5:]
    slope = (half[-1] - half[0]) / (requests * (len(half) - 1) / 10) * 1000
    print(f"{case.name}, {len(case.bodies)} patients, {case.run.name}")
    print(
        f"  one client     median {1000 * single:.1f} ms, bare {1000 * bare:.1f} ms, predictor alone "
        f"{1000 * predictor:.2f} ms: {1000 * (single - bare):+.1f} ms over bare"
    )
    print(f"  {CLIENTS} clients      {requests} requests, {wrong} wrong, {dict(statuses)}")
    print(
        f"                 {requests / took:.0f} a second, {requests / took * bare:.2f} of bare; "
        f"median {p50 / bare:.1f} and p99 {p99 / bare:.1f} times bare"
    )
    print(f"  memory         {memory[0]:.0f} to {memory[-1]:.0f} MB; second half {slope:+.1f} MB in 1,000 requests")
    print(f"  malformed      {bad} requests, {dict(sorted(told.items()))}, {len(faulty)} not as they should be")
    print(f"  log            {lines} lines of {requests + bad} requests")
    for one in faulty[:5]:
        print(f"    {one}")
    return not wrong and not faulty and set(statuses) == {200} and lines == requests + bad and not leaked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--malformed", type=int, default=2000)
    parser.add_argument("--model", default="logistic-pattern")
    parser.add_argument("--smallest", action="store_true", help="200 patients, few requests")
    given = parser.parse_args()
    patients, requests, bad = (200, 80, 150) if given.smallest else (given.patients, given.requests, given.malformed)
    right = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("table", table_case), ("meds", meds_case)):
            with redirect_stdout(StringIO()):
                case = make(Path(folder) / name, patients, given.model)
            right.append(measure(case, Path(folder) / name, requests, bad))
    sys.exit(0 if all(right) else 1)


if __name__ == "__main__":
    main()
