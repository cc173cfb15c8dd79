"""The audit: every leak planted by hand is found, and clean data raise no alarm."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar import cli
from mmnar.dataset.content import ItemArrays, SeriesArrays
from mmnar.dataset.store import PatientDataset, make_dataset, write_store
from mmnar.errors import ConfigError, SourceError
from mmnar.evaluation.audit import Audit, TableColumns, audit, audit_meds, audit_store, audit_table, audit_text
from mmnar.evaluation.audit import store as store_audit
from mmnar.evaluation.audit.columns import auroc_limits, category_rates, row_keys
from mmnar.evaluation.audit.store import _hours
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from mmnar.simulation.population import simulate
from tests.populations import mixed_population, population
from tests.records import open_data


def found(result: Audit, severity: str, check: str) -> set[str]:
    return {f.where for f in result.findings if (f.severity, f.check) == (severity, check)}


def with_values(data: PatientDataset, modality: str, column: int, values: np.ndarray) -> PatientDataset:
    changed = np.array(data.values[modality])
    changed[:, column] = values
    return replace(data, values={**data.values, modality: changed})


def audited(data: PatientDataset, folder: Path) -> Audit:
    return audit_store(write_store(folder / "store", data))


# --- stores -----------------------------------------------------------------------------------------------------------


def test_a_clean_store_has_no_leak(tmp_path: Path) -> None:
    result = audited(population(800, seed=1), tmp_path)
    assert result.leaks == 0
    assert result.findings == ()
    assert any("events" in words for words in result.not_looked_at)


@pytest.mark.parametrize("seed", range(8))
def test_the_simulator_raises_no_alarm(seed: int, tmp_path: Path) -> None:
    """η = 2: the pattern itself moves the outcome, strongly, and is still no leak."""
    s = simulate(1500, 4, seed, gamma=2.0, eta=2.0)
    schema = Schema(
        tuple(ModalitySpec(f"m{m}", tuple(Feature(f"x{j}") for j in range(5))) for m in range(4)),
        tuple(Task(t, "at once", t) for t in ("first", "second", "third")),
    )
    ids = np.arange(1500)
    values = {f"m{m}": s.observed_content()[:, m].astype(np.float32) for m in range(4)}
    data = make_dataset(schema, values, s.labels, np.ones((1500, 3), dtype=bool), ids, ids, ids, ids, {}, {})
    assert audited(data, tmp_path).leaks == 0


def test_a_feature_that_copies_a_label_is_found(tmp_path: Path) -> None:
    data = population(600, seed=2)
    noisy = data.labels[:, 0] + np.random.default_rng(0).normal(0, 0.05, 600)
    result = audited(with_values(data, "vitals", 1, np.where(data.present[:, 0], noisy, np.nan)), tmp_path)
    assert found(result, "leak", "copies a label") == {"vitals.map"}
    # ranked perfectly, the other way round, and not correlated enough to be called the same column
    wide = -(data.labels[:, 0] + 0.95 * np.random.default_rng(0).random(600))
    mirrored = with_values(data, "vitals", 2, np.where(data.present[:, 0], wide, np.nan))
    assert found(audited(mirrored, tmp_path / "b"), "leak", "copies a label") == {"vitals.temp"}


def test_a_category_that_copies_a_label_is_found(tmp_path: Path) -> None:
    data = population(600, seed=2)
    kind = np.where(data.present[:, 2], np.where(data.labels[:, 1], 2, np.arange(600) % 2), np.nan)
    result = audited(with_values(data, "unit", 0, kind), tmp_path)
    assert "unit.kind" in found(result, "leak", "copies a label")


def test_missingness_that_gives_a_label_away_is_found(tmp_path: Path) -> None:
    data = population(600, seed=3)
    cell = np.array(data.values["vitals"][:, 0])
    told = np.where(data.labels[:, 0], np.nan, np.where(np.isnan(cell), 1.0, cell))
    result = audited(with_values(data, "vitals", 0, np.where(data.present[:, 0], told, np.nan)), tmp_path)
    assert "vitals.hr" in found(result, "leak", "missingness gives a label away")


def test_a_modality_known_only_in_hindsight_is_found(tmp_path: Path) -> None:
    data = population(600, seed=4)
    values = {m: np.array(v) for m, v in data.values.items()}
    values["labs"] = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    values["labs"][~data.labels[:, 1]] = np.nan
    rest = (data.subject_id, data.hadm_id, data.stay_id, data.prediction_time, data.attributes, data.manifest)
    planted = make_dataset(data.schema, values, data.labels, data.label_mask, *rest)
    result = audited(planted, tmp_path)
    assert found(result, "leak", "missingness gives a label away") == {"labs"}


def test_hindsight_rules_are_named_without_small_counts(tmp_path: Path) -> None:
    steps = [
        {"rule": "all", "kept": 606, "subjects": 606},
        {"rule": "stay of 12 h", "kept": 603, "subjects": 603, "hindsight": True},
        {"rule": "adult", "kept": 600, "subjects": 600},
    ]
    data = population(600, seed=5)
    result = audited(replace(data, manifest={**data.manifest, "attrition": {"cohort": steps}}), tmp_path)
    assert found(result, "suspect", "hindsight in the cohort") == {"cohort"}
    assert "fewer than 10" in audit_text(result)
    assert result.leaks == 0


def test_repeated_patients_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    schema = Schema((ModalitySpec("labs", tuple(Feature(f"x{j}") for j in range(12))),), (Task("t", "now", "t"),))
    x = rng.normal(size=(300, 12)).astype(np.float32)
    x[200:225] = x[:25]
    x[:, 5] = np.nan
    ids = np.arange(300)

    def dataset(subject: np.ndarray) -> PatientDataset:
        y = rng.random((300, 1)) < 0.3
        return make_dataset(schema, {"labs": x}, y, np.ones((300, 1), dtype=bool), subject, ids, ids, ids, {}, {})

    result = audited(dataset(ids), tmp_path)
    assert "50 patients" in next(f.words for f in result.findings if f.check == "repeated patients")
    same = ids.copy()
    same[200:225] = same[:25]  # the same patients under the same identifiers
    assert not found(audited(dataset(same), tmp_path / "b"), "suspect", "repeated patients")


def test_entries_after_the_prediction_time_are_found() -> None:
    data = mixed_population(100)
    assert list(_hours(data)) == []
    note = data.values["note"]
    assert isinstance(note, ItemArrays)
    hours = note.hours.copy()
    hours[3] = 2.0
    late = replace(data, values={**data.values, "note": replace(note, hours=hours)})
    assert [(f.severity, f.where) for f in _hours(late)] == [("leak", "note")]


def test_a_series_that_copies_a_label_is_found(tmp_path: Path) -> None:
    data = mixed_population(600, seed=1)
    course = data.values["course"]
    assert isinstance(course, SeriesArrays)
    clean = audited(data, tmp_path)
    assert clean.leaks == 0
    assert {"what is in note: only whether it is present"} <= set(clean.not_looked_at)
    who = np.repeat(np.arange(600), course.counts)
    told = np.where(course.feature == 1, data.labels[who, 0], course.values).astype(np.float32)
    planted = replace(data, values={**data.values, "course": replace(course, values=told)})
    leaks = found(audited(planted, tmp_path / "b"), "leak", "copies a label")
    assert {"course.urine last", "course.urine mean"} <= leaks
    assert not any("course.hr" in where for where in leaks)


def test_a_torn_split_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = population(300, subjects=100)
    assert list(store_audit._folds(data)) == []

    class ByRow:
        def __init__(self, **_: Any) -> None: ...

        def roles(self, subject_id: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(subject_id)) % 2 == 0, "train", "test")

    monkeypatch.setattr(store_audit, "Split", ByRow)
    assert [f.check for f in store_audit._folds(data)] == ["subjects across folds"]


# --- tables -----------------------------------------------------------------------------------------------------------

COLUMNS = TableColumns("subject_id", "prediction_time", ("y",), "_time", {}, "split")


def rows(n: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    table = []
    for i in rng.permutation(n).tolist():
        asked = datetime(2020, 1, 1) + timedelta(hours=int(rng.integers(0, 5000)))
        y = int(rng.random() < 0.3)
        table.append(
            {
                "subject_id": f"p{i // 2}",
                "prediction_time": asked.strftime("%Y-%m-%d %H:%M:%S"),
                "split": "train" if i // 2 % 3 else "test",
                "lactate": f"{1 + y + rng.normal():.3f}" if rng.random() < 0.7 else "",
                "lactate_time": (asked - timedelta(hours=float(rng.random()) * 20)).strftime("%Y-%m-%d %H:%M:%S"),
                "ward": rng.choice(["A", "B", "C"]),
                "y": y,
            }
        )
    return table


def written(table: list[dict[str, Any]], path: Path) -> Path:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def test_a_clean_table_has_no_finding(tmp_path: Path) -> None:
    for name in ("clean.csv", "clean.csv.gz"):
        result = audit_table(written(rows(), tmp_path / name), COLUMNS)
        assert result.findings == ()
        assert result.not_looked_at == ()


def test_inputs_from_the_future_are_found(tmp_path: Path) -> None:
    table = rows()
    for row in table[:3]:
        row["lactate"] = "3.0"
        row["lactate_time"] = "2031-01-01 00:00:00"
    result = audit_table(written(table, tmp_path / "t.csv"), COLUMNS)
    assert found(result, "leak", "inputs after the prediction time") == {"lactate"}
    assert "fewer than 10" in audit_text(result)
    for row in table:
        row["lactate_time"] = row["prediction_time"]
        row["discharge"] = "2031-01-01" if row["y"] else "2019-01-01"
    late = audit_table(written(table, tmp_path / "u.csv"), COLUMNS)
    assert found(late, "leak", "inputs after the prediction time") == {"discharge"}
    ignored = audit_table(tmp_path / "u.csv", replace(COLUMNS, ignore=("discharge",)))
    assert ignored.leaks == 0


def test_a_value_that_is_missing_cannot_be_late(tmp_path: Path) -> None:
    table = rows()
    for row in table:
        if row["lactate"] == "":
            row["lactate_time"] = "2031-01-01 00:00:00"
    assert audit_table(written(table, tmp_path / "t.csv"), COLUMNS).leaks == 0


def test_numbers_may_be_times(tmp_path: Path) -> None:
    frame = pl.DataFrame(rows()).with_columns(asked=pl.lit(24.0), known=pl.int_range(pl.len()) % 30)
    frame.write_parquet(tmp_path / "t.parquet")
    columns = TableColumns(time="asked", feature_times={"ward": "known"}, ignore=("lactate_time", "prediction_time"))
    assert found(audit_table(tmp_path / "t.parquet", columns), "leak", "inputs after the prediction time") == {"ward"}


def test_copies_of_the_label_are_found(tmp_path: Path) -> None:
    table = rows()
    rng = np.random.default_rng(1)
    for row in table:
        row["code"] = "expired" if row["y"] else str(rng.choice(["home", "nursing"]))
        row["score"] = row["y"] + rng.normal(0, 0.05)
        row["autopsy"] = "1.5" if row["y"] and rng.random() < 0.97 else ""
        row["flag"] = bool(row["y"])
    result = audit_table(written(table, tmp_path / "t.csv"), COLUMNS)
    assert found(result, "leak", "copies a label") == {"code", "score", "flag"}
    assert found(result, "leak", "missingness gives a label away") == {"autopsy"}


def test_subjects_across_parts_are_found(tmp_path: Path) -> None:
    table = rows()
    for i, row in enumerate(table):
        row["split"] = "train" if i % 2 else "test"
    assert found(audit_table(written(table, tmp_path / "t.csv"), COLUMNS), "leak", "subjects across folds") == {"split"}


def test_row_numbers_constants_and_order_are_noted(tmp_path: Path) -> None:
    table = sorted(rows(), key=lambda r: r["y"])
    for i, row in enumerate(table):
        row |= {"row": i, "unit": "ICU", "note_id": f"n{i * 7919 % 400}"}
    result = audit_table(written(table, tmp_path / "t.csv"), COLUMNS)
    assert found(result, "suspect", "row numbers") == {"row", "note_id"}
    assert found(result, "note", "constant columns") == {"unit"}
    assert found(result, "suspect", "order of rows") == {"rows"}
    assert found(result, "leak", "copies a label") == {"row"}


def test_a_label_may_be_a_value(tmp_path: Path) -> None:
    table = rows()
    for row in table:
        row["outcome"] = "<30" if row.pop("y") else "NO"
        row["copy"] = row["outcome"] == "<30"
    path = written(table, tmp_path / "t.csv")
    columns = replace(COLUMNS, labels=("outcome=<30",))
    assert found(audit_table(path, columns), "leak", "copies a label") == {"copy"}
    with pytest.raises(ConfigError, match="--label outcome=VALUE"):
        audit_table(path, replace(COLUMNS, labels=("outcome",)))


def test_no_identifier_and_no_small_count_is_printed(tmp_path: Path) -> None:
    table = rows()
    for row in table[:3]:
        row["split"] = "test" if row["split"] == "train" else "train"
        row["lactate"], row["lactate_time"] = "7.77", "2031-05-05 05:05:05"
    result = audit_table(written(table, tmp_path / "t.csv"), COLUMNS)
    assert result.leaks == 2
    text = audit_text(result) + json.dumps(result.to_dict())
    for hidden in ("p1", "7.77", "2031", " 3 "):
        assert hidden not in text


def test_mistakes_in_the_table_are_named(tmp_path: Path) -> None:
    path = written(rows(), tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="did you mean 'lactate'"):
        audit_table(path, TableColumns(feature_times={"lactat": "lactate_time"}))
    with pytest.raises(ConfigError, match="text"):
        audit_table(path, TableColumns(time="ward"))
    with pytest.raises(ConfigError, match="--label or --time"):
        audit(path)
    with pytest.raises(SourceError, match="a store, a MEDS folder"):
        audit(tmp_path)
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(SourceError, match="at least one row"):
        audit_table(tmp_path / "empty.csv", TableColumns(subject="a"))
    few = written([{**r, "y": int(i < 4)} for i, r in enumerate(rows())], tmp_path / "few.csv")
    assert found(audit_table(few, COLUMNS), "note", "copies a label") == {"y"}


def test_diabetes_130_raises_no_alarm() -> None:
    path = open_data("diabetes130") / "diabetic_data.csv.gz"
    columns = TableColumns(subject="patient_nbr", labels=("readmitted=<30",), ignore=("encounter_id",))
    result = audit_table(path, columns)
    assert result.leaks == 0
    assert "discharge_disposition_id" not in found(result, "suspect", "copies a label")


# --- MEDS -------------------------------------------------------------------------------------------------------------


def meds(folder: Path, known: bool = True) -> tuple[Path, pl.DataFrame]:
    """Forty subjects in two shards: born, seen twice, every fourth dies."""
    born, table = datetime(1960, 1, 1), []
    for i in range(40):
        seen = datetime(2020, 1, 1) + timedelta(days=i)
        table.append((i, born, "MEDS_BIRTH"))
        table += [(i, seen + timedelta(hours=h), "LAB//LACTATE") for h in (1, 5)]
        if i % 4 == 0:
            table.append((i, seen + timedelta(days=3), "MEDS_DEATH"))
    frame = pl.DataFrame(
        table, schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}, orient="row"
    )
    if known:
        frame = frame.with_columns(available_time=pl.col("time") + timedelta(minutes=30))
    for name, part in (
        ("train", frame.filter(pl.col("subject_id") < 30)),
        ("held_out", frame.filter(pl.col("subject_id") >= 30)),
    ):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        part.write_parquet(folder / "data" / name / "0.parquet")
    (folder / "metadata").mkdir(exist_ok=True)
    splits = pl.DataFrame({"subject_id": range(40), "split": ["train" if i < 30 else "held_out" for i in range(40)]})
    splits.write_parquet(folder / "metadata" / "subject_splits.parquet")
    (folder / "labels").mkdir(exist_ok=True)
    asked = [datetime(2020, 1, 1, 6) + timedelta(days=i) for i in range(40)]
    labels = pl.DataFrame(
        {"subject_id": range(40), "prediction_time": asked, "boolean_value": [i % 4 == 0 for i in range(40)]}
    )
    labels.write_parquet(folder / "labels" / "0.parquet")
    return folder, frame


def test_a_clean_meds_folder_has_no_finding(tmp_path: Path) -> None:
    result = audit(meds(tmp_path)[0])
    assert result.findings == ()
    assert "MEDS folder" in result.subject


def test_events_that_do_not_say_when_they_were_known_are_suspect(tmp_path: Path) -> None:
    result = audit_meds(meds(tmp_path, known=False)[0])
    assert found(result, "suspect", "when events were known") == {"available_time"}
    folder, frame = meds(tmp_path / "b")
    early = frame.with_columns(available_time=pl.col("time") - timedelta(hours=1))
    early.filter(pl.col("subject_id") < 30).write_parquet(folder / "data" / "train" / "0.parquet")
    assert found(audit_meds(folder), "suspect", "when events were known") == {"available_time"}


def test_lives_and_splits_that_do_not_hold_together_are_found(tmp_path: Path) -> None:
    folder, frame = meds(tmp_path)
    strange = frame.filter(pl.col("subject_id").is_in([0, 1])).with_columns(
        time=pl.when(pl.col("code") == "LAB//LACTATE").then(pl.col("time") + timedelta(days=40)).otherwise("time")
    )
    strange.write_parquet(folder / "data" / "held_out" / "1.parquet")
    result = audit_meds(folder)
    assert found(result, "leak", "subjects across folds") == {"data"}
    assert found(result, "suspect", "events outside a life") == {"event"}
    labels = pl.read_parquet(folder / "labels" / "0.parquet")
    shifted = labels.with_columns(pl.col("prediction_time") - timedelta(days=40_000))
    pl.concat([shifted, labels.with_columns(~pl.col("boolean_value")), labels]).write_parquet(
        folder / "labels" / "0.parquet"
    )
    result = audit_meds(folder)
    assert found(result, "suspect", "prediction times outside a life") == {"prediction"}
    assert found(result, "suspect", "contradicting labels") == {"labels"}
    pl.DataFrame({"subject_id": [1, 1], "split": ["train", "tuning"]}).write_parquet(
        folder / "metadata" / "subject_splits.parquet"
    )
    assert "metadata/subject_splits.parquet" in found(audit_meds(folder), "leak", "subjects across folds")


def test_a_store_beside_events_is_checked_against_lives(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", population(40, seed=1))  # asked in 1970, born in 1960
    meds(store / "events" / "meds")
    result = audit_store(store)
    assert not found(result, "suspect", "prediction times outside a life")
    late = population(40, seed=1)
    century = np.int64(100 * 365 * 86_400_000_000)
    store = write_store(store, replace(late, prediction_time=late.prediction_time + century))
    assert found(audit_store(store), "suspect", "prediction times outside a life") == {"prediction"}
    assert not any("no events" in words for words in audit_store(store).not_looked_at)


# --- arithmetic and the command ---------------------------------------------------------------------------------------


def test_the_interval_covers_a_known_auroc() -> None:
    """Normal scores one apart: AUROC Φ(1/√2) = .760. Also near one, where Wald's interval collapses."""
    rng = np.random.default_rng(9)
    for shift, truth in ((1.0, 0.7602), (3.5, 0.9933)):
        covered = 0
        for _ in range(300):
            a, b = rng.normal(shift, 1, 25), rng.normal(0, 1, 80)
            low, high = auroc_limits(float((a[:, None] > b[None]).mean()), 25, 80)
            covered += low <= truth <= high
        assert covered >= 270


def test_ten_patients_ranked_perfectly_by_chance_are_no_proof() -> None:
    assert auroc_limits(1.0, 10, 10)[0] < 0.9
    assert auroc_limits(1.0, 300, 300)[0] > 0.98


def test_rare_categories_share_a_rate() -> None:
    codes = np.r_[np.zeros(20), np.ones(20), np.arange(2, 8), [-1]].astype(np.int64)
    y = np.r_[np.arange(20) < 5, np.arange(20) < 10, np.arange(6) < 3, [True]]
    rates = category_rates(codes, y, np.arange(len(codes)))
    np.testing.assert_allclose(rates[:46], np.r_[np.full(20, 0.25), np.full(20, 0.5), np.full(6, 0.5)])
    assert np.isnan(rates[46])


def test_row_keys_tell_rows_apart() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (5000, 8)).astype(np.float32)
    x[x == 2] = np.nan
    keys, rich = row_keys(iter(x.T), len(x))
    assert len(np.unique(keys)) == len(np.unique(np.nan_to_num(x, nan=7.0), axis=0))
    assert (rich == 0).all()


def test_the_command_ends_with_status_1_on_a_leak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows()
    path = written(table, tmp_path / "t.csv")
    words = ["audit", str(path), "--subject", "subject_id", "--time", "prediction_time", "--label", "y"]
    words += ["--feature-time", "lactate=lactate_time", "--split", "split", "--json", str(tmp_path / "a.json")]
    with pytest.raises(SystemExit) as done:
        cli.main(words)
    assert done.value.code in (0, None)
    assert json.loads((tmp_path / "a.json").read_text())["leaks"] == 0
    for row in table:
        row["copy"] = row["y"]
    written(table, path)
    with pytest.raises(SystemExit) as done:
        cli.main(words)
    assert done.value.code == 1
    assert "LEAK" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["findings"][0]["where"] == "copy"
