"""The service answers what ``mmnar predict`` writes, to the bit, over HTTP; bad requests are 4xx with one line."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mmnar import cli
from mmnar.errors import ConfigError
from mmnar.workflow import train_run
from mmnar.workflow.predict import predict
from tests.serving import TOKEN, Served, events_of, serving, written
from tests.test_predict import SPEC, visits

pytest.importorskip("uvicorn")


@pytest.fixture
def table(served_table: Served) -> Served:
    return served_table


@pytest.fixture
def meds(served_meds: Served) -> Served:
    return served_meds


def same(patient: dict[str, Any], row: dict[str, Any], task: str) -> None:
    """An answer holds what ``predict`` wrote, to the bit."""
    told = patient["tasks"][task]
    assert told["risk"] == row[f"{task}.risk"]
    assert told["rectified"] == row.get(f"{task}.rectified")
    assert told["spread"] == [row[f"{task}.low"], row[f"{task}.high"]]
    assert (patient["pattern"], ",".join(patient["absent"])) == (row["pattern"], row["absent"])
    assert patient["training_patients"] == row["training_patients"]


def test_rows_have_the_numbers_of_predict_in_their_own_order(table: Served, tmp_path: Path) -> None:
    new = visits().drop("died", "sex").slice(0, 40).reverse().with_columns(left=pl.lit("no"))
    new.write_csv(tmp_path / "new.csv")
    rows = {row["sample"]: row for row in predict(table.run, table=tmp_path / "new.csv").frame.iter_rows(named=True)}
    together = table.patients({"rows": new.to_dicts(), "units": {"lactate": "mmol/L"}})
    assert [patient["sample"] for patient in together] == [str(visit) for visit in new["visit"]]
    for patient in together:
        same(patient, rows[patient["sample"]], "death")
    assert table.patients({"rows": new.slice(7, 1).to_dicts()}) == together[7:8]
    # columns that are not there are absent, and so are words for "not measured"
    bare = new.select("visit", "person", "age", "ward", "left").slice(7, 1).to_dicts()
    assert table.patients({"rows": bare}) == table.patients({"rows": [{**bare[0], "lactate": "NA", "crp": None}]})


def test_rows_without_an_identifier_are_told_apart_by_their_place(tmp_path: Path) -> None:
    asked = [datetime(2020, 1, 1) + timedelta(days=i) for i in range(200)]
    drawn = [at + timedelta(hours=5 if i % 7 == 0 else -2) for i, at in enumerate(asked)]
    times = {"asked": pl.Series(map(str, asked)), "drawn": pl.Series(map(str, drawn))}
    frame = visits(200).drop("visit", "density").with_columns(pl.col("person") // 2, left=pl.lit("no"), **times)
    labs = {"known_at": "drawn", "columns": ["lactate", "crp"]}
    modalities = {"basics": ["age", "ward"], "labs": labs}
    gone = [{"name": "gone", "column": "left", "values": ["yes"]}]
    spec = {name: value for name, value in SPEC.items() if name != "sample"}
    spec |= {"prediction_time": "asked", "modalities": modalities, "exclude": gone}
    frame.write_csv(tmp_path / "visits.csv")
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    cli.prepare.table(str(tmp_path / "spec.yaml"), out=tmp_path / "store")
    run = train_run(tmp_path / "store", "pattern-only", tmp_path / "run", ("fits=2",))
    found = predict(run, table=tmp_path / "visits.csv").frame
    wanted = {(row["subject"], f"{row['prediction_time']}"): row for row in found.iter_rows(named=True)}
    rows = frame.drop("died", "sex").slice(0, 30).to_dicts()
    rows[3]["left"], rows[5]["asked"] = "yes", "soon"
    with serving(run, tmp_path) as served:
        patients = served.patients({"rows": rows})
        alone = served.ask({"rows": [{k: v for k, v in rows[0].items() if k != "drawn"}]})
    assert "by its rule 'gone'" in patients[3]["tasks"]["death"]["refused"]
    assert "see the notes" in patients[5]["tasks"]["death"]["refused"]
    for i in {*range(30)} - {3, 5}:
        same(patients[i], wanted[patients[i]["subject"], patients[i]["prediction_time"]], "death")
        assert patients[i]["pattern"][1] == str(int(rows[i]["lactate"] is not None and i % 7 > 0))
    check_refused(*alone, "the column 'drawn' beside 'lactate'")


def test_events_have_the_numbers_of_predict_in_their_own_order(meds: Served, tmp_path: Path) -> None:
    frame, labels = events_of(160)
    at = labels.select("subject_id", "prediction_time").slice(20, 60)
    twice = at.with_columns(pl.col("prediction_time") - pl.duration(hours=16))  # the same patients earlier
    at = pl.concat([at, twice]).sample(fraction=1, shuffle=True, seed=1)
    at.write_parquet(tmp_path / "at.parquet")
    found = predict(meds.run, events=meds.log.parent / "meds", at=tmp_path / "at.parquet").frame
    rows = {(row["subject_id"], row["prediction_time"].isoformat()): row for row in found.iter_rows(named=True)}
    # in any order, of those asked about alone
    some = frame.filter(pl.col("subject_id").is_in(at["subject_id"].implode())).sample(fraction=1, shuffle=True, seed=2)
    together = meds.patients({"events": written(some), "at": written(at)})
    assert [(p["subject_id"], datetime.fromisoformat(p["prediction_time"])) for p in together] == at.rows()
    assert len({patient["pattern"] for patient in together}) > 2
    for patient in together:
        same(patient, rows[patient["subject_id"], patient["prediction_time"]], "death")
        known = pl.max_horizontal("time", "available_time")
        own = frame.filter(subject_id=patient["subject_id"])
        late = own.filter(known > datetime.fromisoformat(patient["prediction_time"])).height
        assert patient["ignored_later_events"] == late
    assert any(patient["ignored_later_events"] for patient in together)


def test_what_is_refused_is_a_value_with_a_reason(table: Served, meds: Served) -> None:
    good = {**visits().drop("died", "sex").slice(7, 1).to_dicts()[0], "left": "no"}
    rows = [
        {**good, "visit": 1, "left": "Yes"},
        {**good, "visit": 2, "lactate": 31},
        {**good, "visit": 3, **dict.fromkeys(("age", "ward", "lactate", "crp"))},
        {**good, "visit": 4},
    ]
    told = [patient["tasks"]["death"] for patient in table.patients({"rows": rows})]
    assert "by its rule 'moved away'" in told[0]["refused"]
    assert told[1]["refused"].startswith("'lactate' lies outside the run's plausible range, 0 to 30 mmol/L")
    assert told[2]["refused"] == "none of the training patients had this pattern of modalities"
    assert "risk" in told[3]
    alone = table.patients({"rows": rows[:1]})
    assert alone[0]["tasks"]["death"] == told[0]
    frame, labels = events_of(1)
    begin, asked = frame["time"].drop_nulls()[1], labels["prediction_time"][0]
    at = [asked, begin - timedelta(days=20_000), asked + timedelta(days=3)]
    more = [
        {"subject_id": 1, "code": "LAB//lactate", "time": begin.isoformat(), "numeric_value": 31.5},
        {"subject_id": 1, "code": "MEDS_DEATH", "time": (asked + timedelta(days=2)).isoformat()},
    ]
    body = {
        "events": written(frame) + more[1:],
        "at": [{"subject_id": 1, "prediction_time": t.isoformat()} for t in at],
    }
    told = [patient["tasks"]["death"] for patient in meds.patients(body)]
    assert "risk" in told[0]
    assert "before the patient's first event" in told[1]["refused"]
    assert "after the patient's death" in told[2]["refused"]
    (told,) = meds.patients({**body, "events": written(frame) + more, "at": body["at"][:1]})
    assert "0 to 30 mmol/L" in told["tasks"]["death"]["refused"]
    # known only later, it is no reason
    more[0]["available_time"] = (asked + timedelta(hours=1)).isoformat()
    (told,) = meds.patients({**body, "events": written(frame) + more, "at": body["at"][:1]})
    assert "risk" in told["tasks"]["death"]


GOOD = {"visit": 1, "person": 5007, "age": 70, "ward": "surgery", "left": "no"}
EVENT = {"subject_id": 1, "time": "2150-01-01T08:00:00", "code": "VITALS//HR", "numeric_value": 80}
AT = {"subject_id": 1, "prediction_time": "2150-01-02T08:00:00"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: expected one JSON object"),
        (b"[" * 100_000, "body: expected one JSON object"),
        (b"\xffsecret", "body: expected one JSON object"),
        (b"[]", "body: expected one JSON object"),
        (b'{"rows": [{"age": 1}], "rows": [{"age": 1}]}', "each key once"),
        (b'{"rows": [{"age": 1, "age": 2}]}', "each key once"),
        (b'{"rows": [{"age": NaN}]}', "body: expected one JSON object"),
        (b'{"rows": [{"age": 1e999}]}', "column 'age'"),
        (b'{"rows": [{"age": "\\ud800"}]}', "body: expected one JSON object"),
        (b'{"rows": [{"age": ' + b"9" * 5000 + b"}]}", "body: expected one JSON object"),
        ({"events": []}, "the keys rows"),
        ({"rows": []}, "a list of objects"),
        ({"rows": [{}]}, "a list of objects"),
        ({"rows": {"age": 1}}, "a list of objects"),
        ({"rows": [{**GOOD, "age": [1]}]}, "column 'age'"),
        ({"rows": [{**GOOD, "lactat": "secret"}]}, "did you mean 'lactate'?"),
        ({"rows": [{**GOOD, "secret" * 9999: 1}]}, "columns of the run's table"),
        ({"rows": [{**GOOD, "age": "secret"}]}, "'age'"),
        ({"rows": [{**GOOD, "age": 10**400}]}, "'age'"),
        ({"rows": [{**GOOD, "person": None}]}, "'person' in each"),
        ({"rows": [{**GOOD, "person": "NA"}]}, "'person' in each"),
        ({"rows": [{**GOOD, "person": 2**63}]}, "'person'"),
        ({"rows": [{k: v for k, v in GOOD.items() if k != "left"}]}, "the column 'left'"),
        ({"rows": [GOOD, GOOD]}, "'visit'"),
        ({"rows": [GOOD, {**GOOD, "visit": "1.0"}]}, "'visit'"),
        ({"rows": [GOOD], "units": {"lactate": "mg/dL secret"}}, "that of the run, mmol/L"),
        ({"rows": [GOOD], "units": {"secret": "mmol/L"}}, "names whose unit the run states"),
        ({"rows": [GOOD], "units": ["secret"]}, "an object of name: unit"),
    ],
)
def test_bad_rows_are_one_line(table: Served, body: Any, said: str) -> None:
    check_refused(*table.ask(body), said)


@pytest.mark.parametrize(
    ("events", "at", "said"),
    [
        ([], [AT], "events: expected a list"),
        ([EVENT], [], "at: expected a list"),
        ([EVENT], [AT, AT], "every subject and moment once"),
        ([EVENT], [{**AT, "subject_id": 2}], "of whom some event has a time"),
        ([{**EVENT, "time": None}], [AT], "of whom some event has a time"),
        ([{**EVENT, "time": "secret"}], [AT], "'time' of events: expected ISO 8601"),
        ([{**EVENT, "time": 5}], [AT], "'time' of events: expected ISO 8601"),
        ([{**EVENT, "time": "2150-01-01T08:00:00Z"}], [AT], "a time with a zone"),
        ([{**EVENT, "subject_id": "secret"}], [AT], "'subject_id' of events"),
        ([{**EVENT, "subject_id": True}], [AT], "'subject_id' of events"),
        ([{**EVENT, "subject_id": 2**63}], [AT], "'subject_id' of events"),
        ([{**EVENT, "code": None}], [AT], "code, subject_id"),
        ([{**EVENT, "code": ["secret"]}], [AT], "'code' of events"),
        ([{**EVENT, "numeric_value": "secret"}], [AT], "'numeric_value' of events"),
        ([{**EVENT, "numeric_value": 1e39}], [AT], "'numeric_value' of events"),
        ([{**EVENT, "numeric_value": 10**400}], [AT], "'numeric_value' of events"),
        ([{**EVENT, "unit": "secret"}], [AT], "each of events: expected no key but"),
        ([EVENT], [{**AT, "secret": 1}], "each of at: expected no key but"),
        ([EVENT] * 2000, [{**AT, "prediction_time": f"2150-01-{d:02}T{h:02}:{m:02}:00"} for d in range(2, 30)
          for h in range(20) for m in (0, 30)], "ask at fewer moments"),
    ],
)  # fmt: skip
def test_bad_events_are_one_line(meds: Served, events: Any, at: Any, said: str) -> None:
    check_refused(*meds.ask({"events": events, "at": at}), said)


def check_refused(status: int, answer: dict[str, Any], said: str) -> None:
    assert status == 422, answer
    assert set(answer) == {"error"}
    assert said in answer["error"]
    assert "\n" not in answer["error"]
    assert len(answer["error"]) < 400
    assert "secret" not in answer["error"]


def test_odd_events_are_answered(meds: Served) -> None:
    for more in (
        {"time": "0001-01-01T00:00:00"},
        {"time": "9999-12-31T23:59:59.999999"},
        {"code": "NEVER//SEEN*"},
        {"code": "", "text_value": "\x00\n"},
        {"code": "NOTE//ADMISSION", "numeric_value": None, "text_value": " "},
        {"numeric_value": -0.0, "available_time": "0001-01-01T00:00:00"},
    ):
        body = {"events": [EVENT, EVENT, {**EVENT, **more}], "at": [AT], "units": {"LAB//lactate": "mmol/L"}}
        (patient,) = meds.patients(body)
        assert {*patient["tasks"]["death"]} <= {"risk", "rectified", "spread", "refused"}


def test_other_forms_say_the_same_risks(table: Served) -> None:
    (patient,) = table.patients({"rows": [GOOD]})
    risk, before = patient["tasks"]["death"]["rectified"], len(table.lines())
    line = http.client.HTTPConnection("127.0.0.1", table.port, timeout=60)
    line.request("POST", "/predict/fhir", json.dumps({"rows": [GOOD]}), {"Authorization": f"Bearer {TOKEN}"})
    answer = line.getresponse()
    assert answer.headers["Content-Type"] == "application/fhir+json"
    resource = json.loads(answer.read())["entry"][0]["resource"]
    line.close()
    assert resource["prediction"][0]["probabilityDecimal"] == pytest.approx(100 * risk, abs=1e-5)
    status, found = table.ask({"rows": [GOOD]}, path="/predict/cds")
    assert status == 200
    assert found["cards"][0]["summary"].startswith(f"death {100 * risk:.1f} %")
    status, found = table.ask({"rows": [GOOD, {**GOOD, "visit": 2}]}, path="/predict/cds")
    assert (status, "one patient" in found["error"]) == (422, True)
    assert table.ask({"rows": [GOOD]}, "another", "/predict/fhir")[0] == 401
    lines = table.lines()[before:]
    assert [entry["status"] for entry in lines] == [200, 200, 422, 401]
    assert ["patients" in entry for entry in lines] == [True, True, False, False]


def test_the_log_holds_a_line_for_each_request_and_no_identifier(table: Served, tmp_path: Path) -> None:
    before = len(table.lines())
    rows = [{**GOOD, "visit": 8123_4567, "person": "P-99887766"}]
    assert table.ask({"rows": rows})[0] == 200
    assert table.ask({"rows": []})[0] == 422
    assert table.ask({"rows": rows}, "another")[0] == 401
    assert table.ask(b" " * 200_001)[0] == 413
    good, malformed, stranger, large = table.lines()[before:]
    assert [line["status"] for line in (good, malformed, stranger, large)] == [200, 422, 401, 413]
    assert stranger["input"] is large["input"] is None
    key = (table.log.parent / "audit.jsonl.key").read_bytes()
    assert good["input"] == hmac.digest(key, json.dumps({"rows": rows}).encode(), "sha256").hex()
    (patient,) = good["patients"]
    assert {*patient} == {"subject", "patient", "pattern", "tasks"}
    assert patient["subject"] == hmac.digest(key, b'["P-99887766"]', "sha256").hex()
    assert patient["patient"] == hmac.digest(key, b'["P-99887766", "81234567"]', "sha256").hex()
    assert 0 < patient["tasks"]["death"]["risk"] < 1
    text = table.log.read_text()
    assert not any(word in text for word in ("99887766", "81234567", "surgery"))
    assert table.log.stat().st_mode & 0o077 == 0


def test_a_log_that_cannot_be_written_fails_the_request(table: Served, tmp_path: Path) -> None:
    with serving(table.run, tmp_path) as served:
        assert served.ask({"rows": [GOOD]})[0] == 200
        served.log.unlink()
        served.log.mkdir()
        status, answer = served.ask({"rows": [GOOD]})
        assert status == 503
        assert "no answer is given" in answer["error"]


def test_a_line_that_finds_no_room_leaves_none_of_it(tmp_path: Path) -> None:
    from mmnar.workflow.service.audit import AuditLog

    log = AuditLog(tmp_path / "log", "the run")
    log.write(200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size + 40, hard))
    try:
        with pytest.raises(OSError, match="No space left"):
            log.write(422, b"{}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(401)
    assert [json.loads(line)["status"] for line in (tmp_path / "log").read_text().splitlines()] == [200, 401]


def test_a_body_that_does_not_end_is_given_up(table: Served, tmp_path: Path) -> None:
    with serving(table.run, tmp_path, seconds=0.3) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as line:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n{{"
            line.sendall(head.encode())
            assert line.recv(4096).startswith(b"HTTP/1.1 408")
        assert served.lines()[-1]["status"] == 408


def test_other_places_are_refused_in_one_line(table: Served) -> None:
    assert table.ask(b"{}", path="/elsewhere")[0] == 404
    assert table.ask(b"{}", path="/predict/")[0] == 404
    assert table.ask(b"{}", path="/health")[0] == 405


def test_a_run_of_raw_tables_is_refused_with_the_reason(table: Served, tmp_path: Path) -> None:
    from mmnar.workflow.service.answers import scorer_of

    recipe = table.run.folder / "recipe.json"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(table.run.folder / "model")
    (tmp_path / "run" / "recipe.json").write_text(recipe.read_text().replace('"door": "table"', '"door": "eicu"'))
    named = ("recipe.json", "model/predictor.json")
    files = {name: hashlib.sha256((tmp_path / "run" / name).read_bytes()).hexdigest() for name in named}
    other = replace(table.run, folder=tmp_path / "run", record={**table.run.record, "files": files})
    with pytest.raises(ConfigError, match="whose cohort and moments are read from tables"):
        scorer_of(other, tmp_path)


def test_the_command_serves_until_it_is_interrupted_and_writes_nothing_of_a_request(
    table: Served, tmp_path: Path
) -> None:
    words = ["-m", "mmnar", "serve", str(table.run.folder), "--log", str(tmp_path / "log"), "--port", "0"]
    environment = {**os.environ, "MMNAR_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    port = int(re.fullmatch(r"listening at http://127\.0\.0\.1:(\d+)\n", first)[1])  # type: ignore[index]
    served = replace(table, port=port)
    assert served.patients({"rows": [{**GOOD, "person": "P-99887766"}]})
    assert served.ask({"rows": [{**GOOD, "P-99887766": 1}]})[0] == 422
    assert served.ask({"rows": [GOOD]}, "P-99887766-and-more")[0] == 401
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(b"P-99887766\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 400")
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert out + told == ""
    assert process.returncode == 130
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 422, 401]
    assert lines[0]["run"] == hashlib.sha256((table.run.folder / "run.json").read_bytes()).hexdigest()


def test_a_short_token_is_refused(table: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMNAR_TOKEN", "short")
    with pytest.raises(ConfigError, match="16 ASCII characters or more"):
        cli.serve.serve(table.run.folder, log=tmp_path / "log")
