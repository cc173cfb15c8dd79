"""``mmnar monitor``: from lines that the service wrote, and from lines that somebody spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from mmnar import cli
from mmnar.errors import SourceError
from mmnar.files import sha256_of
from mmnar.report.monitor import monitor_text
from mmnar.workflow import Run, train_run
from mmnar.workflow.monitor import Monitored, monitor
from mmnar.workflow.service.answers import scorer_of
from mmnar.workflow.service.audit import AuditLog
from tests.test_predict import put, visits

NOW = datetime(2026, 5, 10, tzinfo=UTC)
CHANGED = 3


def month(m: int) -> pl.DataFrame:
    """Those asked about in a month; in the third half of the laboratory's values are no longer there."""
    frame = visits(120, seed=m, first=10_000 * m)
    keep = (pl.col("visit") % 2 == 0) if m == CHANGED else pl.lit(True)
    return frame.with_columns(pl.when(keep).then(pl.col(name)).alias(name) for name in ("lactate", "crp"))


@dataclass(frozen=True)
class Kept:
    run: Run
    log: Path
    labels: Path

    def monitored(self, log: Path | None = None, **options: object) -> Monitored:
        return monitor(log or self.log, self.run, now=NOW, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    place = tmp_path_factory.mktemp("monitor")
    cli.prepare.table(str(put(place, visits(900))), out=place / "store")
    run = train_run(place / "store", "logistic-pattern", place / "run", ("fits=2",))
    log = AuditLog(place / "audit.jsonl", sha256_of(run.folder / "run.json"))
    scorer, lines = scorer_of(run, place), []
    for m in range(1, 5):
        rows = {"rows": month(m).drop("died", "sex").to_dicts()}
        log.write(200, json.dumps(rows).encode(), scorer.answer(rows))
        log.write(401)
        here = (place / "audit.jsonl").read_text().splitlines()[len(lines) :]
        lines += [json.dumps(json.loads(line) | {"time": f"2026-0{m}-15T12:00:00.000+00:00"}) for line in here]
    (place / "audit.jsonl").write_text("\n".join(lines) + "\n")
    outcomes = pl.concat([month(m) for m in range(1, 5)]).select(subject="person", sample="visit", death="died")
    outcomes.write_csv(place / "labels.csv")
    return Kept(run, place / "audit.jsonl", place / "labels.csv")


def test_the_month_in_which_practice_changed_is_found(kept: Kept) -> None:
    found = kept.monitored()
    assert [bool(period.alarms) for period in found.periods] == [False, False, True, False]
    assert "labs" in found.periods[CHANGED - 1].alarms
    assert [period.patients for period in found.periods] == [120] * 4
    share = month(CHANGED)["lactate"].is_not_null().mean()
    assert found.periods[CHANGED - 1].rates["labs"].value == pytest.approx(share, abs=0.005)
    said = monitor_text(found)
    assert "2026-03: changed. labs" in said
    assert "a log cannot tell which" in said
    assert not kept.monitored(seed=1).notes


def test_without_a_run_nothing_is_judged(kept: Kept) -> None:
    found = monitor(kept.log, now=NOW)
    assert not any(period.p or period.alarms for period in found.periods)
    assert "nothing is judged" in monitor_text(found)
    assert [e.value for e in found.periods[0].rates.values()] == [
        e.value for e in kept.monitored().periods[0].rates.values()
    ]


def test_outcomes_are_joined_by_the_keys_of_the_log_alone(kept: Kept, tmp_path: Path) -> None:
    every = kept.monitored(labels=kept.labels).came_true
    (whole,) = [of for of in every if (of.period, of.which) == ("all", "risk")]
    risks = [p["tasks"]["death"]["risk"] for line in lines(kept.log) for p in line.get("patients", ())]
    died = sum(month(m)["died"].sum() for m in range(1, 5))
    assert whole.o_to_e.value == pytest.approx(died / sum(risks), abs=0.005)
    assert whole.patients == 480
    part = pl.read_csv(kept.labels).slice(0, 100).with_columns(pl.col("death").cast(pl.Boolean))
    strangers = part.slice(0, 20).with_columns(pl.col("subject") + 500_000)
    pl.concat([part, strangers]).write_csv(tmp_path / "some.csv")
    found = kept.monitored(labels=tmp_path / "some.csv")
    assert found.came_true[0].patients == 100
    assert found.notes == ("Left out: 20 rows of the labels, of no question in the log.",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.rename({"death": "dead"}), "a column of death"),
        (lambda frame: frame.drop("subject"), "a column subject or subject_id"),
        (lambda frame: frame.with_columns(pl.col("sample") + 7), "rows of questions in the log"),
        (lambda frame: pl.concat([frame, frame]), "each question once"),
        (lambda frame: frame.with_columns(death=pl.lit("perhaps")), "0, 1, true, false"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    kept: Kept, tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], said: str
) -> None:
    change(pl.read_csv(kept.labels)).write_csv(tmp_path / "labels.csv")
    with pytest.raises(SourceError, match=said) as refused:
        kept.monitored(labels=tmp_path / "labels.csv")
    assert "perhaps" not in str(refused.value)


def lines(log: Path) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_lines_that_cannot_be_read_are_counted_and_left_out(kept: Kept, tmp_path: Path) -> None:
    good = kept.log.read_bytes()
    line = good.splitlines()[0]
    spoilt = [
        line[: len(line) // 2],
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"7",
        line.replace(b'"risk": 0.', b'"risk": 7.', 1),
        line.replace(b'"risk": 0.', b'"risk": NaN, "x": 0.', 1),
        line.replace(b'"pattern": "1', b'"pattern": "x', 1),
        line.replace(b"2026-01-15T12:00:00.000+00:00", b"2026-01-15T12:00:00.000"),
        line.replace(b"2026-01-15", b"9026-01-15"),
        line.replace(b'"status": 200', b'"status": "200"'),
    ]
    other = [line.replace(b'"log_version": 1', b'"log_version": 2')] * 12
    elsewhere = [json.dumps(json.loads(line) | {"run": "another"}).encode()] * 12
    (tmp_path / "log").write_bytes(b"\n".join([*spoilt, *other, *elsewhere, b"", good, line[:99]]))
    found = kept.monitored(tmp_path / "log")
    assert found.notes == (
        "Left out: 12 lines that cannot be read (cut, or not of mmnar serve).",
        "Left out: 12 lines that are of another version of the log.",
        "Left out: 12 lines that are of requests to another run.",
    )
    assert found.periods == kept.monitored().periods
    assert found.requests == kept.monitored().requests
    with pytest.raises(SourceError, match="say which with --run"):
        monitor(tmp_path / "log", now=NOW)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"a log\n", b'{"log_version": 2}\n'])
def test_a_log_without_a_line_of_ours_is_refused(kept: Kept, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(SourceError, match="lines that mmnar serve wrote"):
        kept.monitored(tmp_path / "log")


def test_a_log_of_refusals_alone_is_shown(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(kept.log.read_bytes().splitlines()[1] + b"\n")
    assert "Requests" in monitor_text(kept.monitored(tmp_path / "log"))
    assert "nothing is judged" in monitor_text(monitor(tmp_path / "log", now=NOW))


def test_a_log_that_ends_within_a_line_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    AuditLog(path, "a run").write(401)
    path.write_bytes(path.read_bytes() + b'{"log_ver')
    AuditLog(path, "a run").write(401)
    found = monitor(path)
    assert found.notes == ("Left out: fewer than 10 lines that cannot be read (cut, or not of mmnar serve).",)
    assert len(path.read_text().splitlines()) == 3


def test_the_command_says_it_and_writes_a_page(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(kept.log), "--run", str(kept.run.folder), "--labels", str(kept.labels), "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        cli.main(["monitor", *words, "--every", "quarter"])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "2026-Q1" in said
    assert "Did the risks come true?" in said
    record = json.loads((tmp_path / "monitor.json").read_text())
    assert [period["period"] for period in record["periods"]] == ["2026-Q1", "2026-Q2"]
    assert "at most one year in twenty" in (tmp_path / "monitor.html").read_text()
