"""Any MEDS data set in: what is read, what is refused, and that nothing is known before it was available."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from meds import CodeMetadataSchema, DataSchema, LabelSchema

from mmnar.cli.prepare import meds as prepare_meds
from mmnar.cohort.build import build_cohort
from mmnar.cohort.meds import labelled_cohort
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, SourceError, StoreError
from mmnar.evaluation.export import write_labels
from mmnar.simulation.events import read_synthetic
from mmnar.simulation.population import simulate
from mmnar.simulation.questions import synthetic_criteria, synthetic_questions
from mmnar.sources.events import EVENT_SCHEMA, Events, Extract, FeatureRule, SeriesRule, TextRule
from mmnar.sources.meds import files as meds_files
from mmnar.sources.meds import read_meds
from mmnar.sources.meds import rules as meds_rules
from mmnar.sources.meds.files import data_files
from mmnar.sources.meds.labels import read_labels
from mmnar.sources.meds.survey import survey
from mmnar.sources.reading.shards import EventWriter
from tests.records import open_data


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2020, 1, day, hour, minute)


SCHEMA = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "available_time": pl.Datetime("us"),
}
NOTE = "She says that she has been short of breath for three days. " * 3
ROWS: list[tuple[Any, ...]] = [
    (1, None, "GENDER//F", None, None, None),
    (1, datetime(1950, 1, 1), "MEDS_BIRTH", None, None, datetime(1950, 1, 1)),
    (1, at(10), "LAB//NA", 130.0, None, at(12)),
    (1, at(11), "LAB//NA", 170.0, None, at(15)),
    (1, at(11), "LAB//K", 4.0, None, at(11, 30)),
    (1, at(12), "NOTE//ADMISSION", None, NOTE, at(12, 30)),
    (2, at(9), "LAB//NA", 140.0, None, None),
    (2, at(10), "MEDICATION//ASPIRIN", None, None, at(8)),
    (7, None, "GENDER//M", None, None, None),
    (7, at(9), "LAB//K", 5.0, None, at(9)),
    (7, at(20), "MEDS_DEATH", None, None, at(20)),
]
LABELS = [(1, at(13), False), (1, at(16), True), (2, at(13), False), (7, at(13), True), (99, at(13), True)]


def table(rows: list[tuple[Any, ...]] = ROWS) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def write_meds(root: Path, frame: pl.DataFrame, first_of_second: int = 7) -> Path:
    """A data set of two files; MEDS' own schema must accept it."""
    (root / "data" / "train").mkdir(parents=True)
    second = pl.col("subject_id") >= first_of_second
    frame.filter(~second).write_parquet(root / "data" / "train" / "0.parquet")
    frame.filter(second).write_parquet(root / "data" / "train" / "1.parquet")
    return root


def write_labels_of(root: Path, rows: list[tuple[Any, ...]], task: str = "death") -> Path:
    schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
    (root / task).mkdir(parents=True)
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(root / task / "0.parquet")
    return root


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[Extract, PatientDataset]]:
    def reading(frame: pl.DataFrame | None = None, **options: Any) -> tuple[Extract, PatientDataset]:
        root = write_meds(tmp_path / "meds", table() if frame is None else frame)
        labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
        extract = read_meds(root, work=tmp_path / "work", labels=labels, **options)
        return extract, dataset_of(extract, labelled_cohort(extract, labels))

    return reading


def feature(data: PatientDataset, modality: str, name: str) -> list[float | None]:
    spec = next(m for m in data.schema.modalities if m.name == modality)
    column = np.asarray(data.values[modality])[:, spec.feature_names.index(name)]
    return [None if np.isnan(v) else float(v) for v in column]


def test_the_hand_made_data_set_is_meds() -> None:
    written = (
        table()
        .to_arrow()
        .cast(pa.schema([(f.name, pa.string() if f.name == "code" else f.type) for f in table().to_arrow().schema]))
    )
    DataSchema.validate(written)


PLAN = """
labs: {codes: [LAB//*], aggregations: [last, count]}
person: {codes: [GENDER//*], history: true}
drugs: {codes: ["MEDICATION//*"]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def test_an_event_is_an_input_from_its_available_time_on(read: Any, plan: Path) -> None:
    extract, data = read(modalities=plan)
    # subject 1 at 13:00 and 16:00, 2, 7; the 170 of 11:00 is known at 15:00
    assert data.subject_id.tolist() == [1, 1, 2, 7]
    assert feature(data, "labs", "LAB//NA last") == [130.0, 170.0, 140.0, None]
    assert feature(data, "labs", "LAB//NA count") == [1.0, 2.0, 1.0, 0.0]
    assert feature(data, "labs", "LAB//K last") == [4.0, 4.0, None, 5.0]
    assert extract.details["availability"] == "partly time"
    # one without available_time (a birth is no exception), one said to be known before it happened
    assert "available_time is missing for fewer than 10 events: their time is taken" in extract.warnings
    assert any("available before they happen" in w for w in extract.warnings)
    events = pl.concat(part.frame for part, _ in extract.events.parts(extract.stays))
    assert events.filter(code="MEDICATION//ASPIRIN")["available_time"].to_list() == [at(10)]
    assert feature(data, "drugs", "MEDICATION//ASPIRIN count") == [None, None, 1.0, None]


def test_without_available_time_the_time_counts_and_a_warning_says_so(read: Any, plan: Path) -> None:
    extract, data = read(table().drop("available_time"), modalities=plan)
    assert feature(data, "labs", "LAB//NA last") == [170.0, 170.0, 140.0, None]
    assert extract.details["availability"] == "time only"
    assert any(
        w.startswith("no available_time: every event counts as known at its own time")
        for w in data.manifest["warnings"]
    )
    assert data.manifest["options"]["availability"] == "time only"


def test_a_file_without_available_time_among_files_with_it(tmp_path: Path) -> None:
    root = write_meds(tmp_path / "meds", table([row for row in ROWS if row[0] != 2]))
    first = root / "data" / "train" / "0.parquet"
    pl.read_parquet(first).drop("available_time").write_parquet(first)
    labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
    extract = read_meds(root, work=tmp_path / "work", labels=labels)
    assert extract.details["availability"] == "partly time"
    assert "available_time is missing for fewer than 10 events: their time is taken" in extract.warnings


def test_static_events_and_age_are_known_from_the_beginning(read: Any) -> None:
    extract, data = read(since_days=0.05)
    events = pl.concat(part.frame for part, _ in extract.events.parts(extract.stays))
    static = events.filter(code="GENDER//F").row(0, named=True)
    assert static["time"] == static["available_time"] == datetime(1950, 1, 1)
    assert events.filter(code="GENDER//M")["time"].to_list() == [at(9)]
    assert feature(data, "demographics", "GENDER//F count") == [1.0, 1.0, None, 0.0]
    years = (at(13) - datetime(1950, 1, 1)).days / 365.25
    age = feature(data, "demographics", "age")
    assert age[0] == pytest.approx(years, abs=0.01)
    assert age[2:] == [None, None]
    # 72 minutes before 13:00 and 16:00: the sodium of 10:00 is out of sight, of 11:00 known too late or too old
    assert feature(data, "lab", "LAB//NA last") == [None, None, None, None]
    assert data.attributes["sex"].tolist() == ["F", "F", "", "M"]
    assert data.attributes["age_group"].tolist() == ["65-79", "65-79", "", ""]


def test_modalities_from_codes(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extract, _ = read(table([*ROWS[:5], *ROWS[6:]]))
    kinds: dict[str, list[Any]] = {}
    for rule in extract.rules:
        kinds.setdefault(rule.modality, []).append(rule)
    # lab has three subjects, medication one; demographics first; births and deaths are no inputs
    assert list(kinds) == ["demographics", "lab", "medication"]
    lab = [(r.feature, r.aggregation, r.zero_if_recorded) for r in kinds["lab"]]
    numeric = ("last", "min", "max", "mean", "count")
    assert lab[:2] == [("all events", "count", ""), ("distinct codes", "nunique", "")]
    # both have two subjects; sodium has more events
    expected = [(f"LAB//{x} {a}", a, "lab" if a == "count" else "") for x in ("NA", "K") for a in numeric]
    assert lab[2:] == expected
    assert [r.feature for r in kinds["medication"][2:]] == ["MEDICATION//ASPIRIN count"]
    assert not any(code in ("MEDS_BIRTH", "MEDS_DEATH") for r in extract.rules for code in r.codes)


def test_codes_and_groups_are_ranked_by_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meds_rules, "CODES", 1)
    monkeypatch.setattr(meds_rules, "GROUPS", 2)
    rows = [("A//1", "a", 9, 3), ("A//2", "a", 5, 5), ("B//1", "b", 99, 2), ("C//1", "c", 4, 4)]
    codes = pl.DataFrame(rows, schema=["code", "group", "events", "subjects"], orient="row").with_columns(
        numeric=pl.lit(0), static=pl.lit(0), text_length=pl.lit(None, pl.Float64)
    )
    rules = meds_rules.automatic_rules(codes)
    assert list(dict.fromkeys(rule.modality for rule in rules)) == ["a", "c"]
    assert [r.codes for r in rules if r.modality == "a"] == [("A//1", "A//2"), ("A//1", "A//2"), ("A//2",)]


def test_long_texts_become_a_text_modality(tmp_path: Path) -> None:
    root = write_meds(tmp_path / "meds", table())
    labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
    extract = read_meds(root, work=tmp_path / "work", labels=labels)
    assert extract.rules[-1] == TextRule("notes", ("NOTE//ADMISSION",))
    assert "note" not in {rule.modality for rule in extract.rules}


def test_small_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    n = 150
    frame = (
        pl.DataFrame(
            {
                "subject_id": rng.integers(1, 12, n),
                "time": [at(0, int(m)) for m in rng.integers(0, 60, n)],
                "code": [f"G{c % 3}//{c}" for c in rng.integers(0, 9, n)],
                "numeric_value": rng.normal(size=n),
                "text_value": None,
                "available_time": None,
            },
            schema=SCHEMA,
        )
        .with_columns(time=pl.when(pl.Series(rng.random(n) > 0.1)).then("time"))
        .sort("subject_id", "time")
    )
    root = write_meds(tmp_path / "meds", frame)
    surveys = []
    for rows in (1, 2, 7, 1000):
        monkeypatch.setattr(meds_files, "_ROWS", rows)
        surveys.append(survey(data_files(root)))
    for found in surveys:
        assert found.codes.equals(surveys[-1].codes)
        assert found.subjects.equals(surveys[-1].subjects)
    people: dict[str, set[int]] = {}
    for subject, code in frame.select("subject_id", "code").iter_rows():
        people.setdefault(code, set()).add(subject)
    counts = Counter(frame["code"])
    for row in surveys[0].codes.iter_rows(named=True):
        assert (row["subjects"], row["events"]) == (len(people[row["code"]]), counts[row["code"]])


def test_other_types_are_cast(read: Any, plan: Path) -> None:
    frame = table().with_columns(
        pl.col("subject_id").cast(pl.UInt32),
        pl.col("time").cast(pl.Datetime("ns")),
        pl.col("code").cast(pl.Categorical()),
        pl.col("numeric_value").cast(pl.Float64),
        pl.col("available_time").cast(pl.Datetime("ms")),
        hadm_id=pl.lit(5, pl.Int32),
        stay_id=pl.lit("a word"),
    )
    extract, data = read(frame, modalities=plan)
    assert feature(data, "labs", "LAB//NA last") == [130.0, 170.0, 140.0, None]
    events = pl.concat(part.frame for part, _ in extract.events.parts(extract.stays))
    assert dict(events.schema) == EVENT_SCHEMA
    assert events.filter(code="LAB//NA")["hadm_id"].to_list() == [5, 5, 5]
    assert events["stay_id"].null_count() == events.height
    assert "column 'stay_id' holds no integers in 2 of 2 files: not read there" in extract.warnings


def test_numbers_that_are_none_are_missing(read: Any, plan: Path) -> None:
    rows = [(s, t, c, {130.0: float("nan"), 140.0: 1e300}.get(v, v), x, a) for s, t, c, v, x, a in ROWS]
    frame = pl.DataFrame(rows, schema=SCHEMA | {"numeric_value": pl.Float64}, orient="row")
    extract, data = read(frame, modalities=plan)
    assert feature(data, "labs", "LAB//NA last") == [None, 170.0, None, None]
    assert "fewer than 10 numeric values are no finite number: taken as missing" in extract.warnings
    events = pl.concat(part.frame for part, _ in extract.events.parts(extract.stays))
    assert events.filter(code="LAB//NA")["numeric_value"].to_list() == [None, 170.0, None]


def test_a_subject_without_any_time_is_no_subject(read: Any, plan: Path) -> None:
    extract, data = read(table([*ROWS, (99, None, "GENDER//F", None, None, None)]), modalities=plan)
    assert 99 not in data.subject_id
    assert "fewer than 10 events dropped: static, of subjects without any time" in extract.warnings


def test_prediction_after_death_is_told(tmp_path: Path) -> None:
    root = write_meds(tmp_path / "meds", table())
    labels = read_labels(write_labels_of(tmp_path / "tasks", [*LABELS, (7, at(21), True)]))
    extract = read_meds(root, work=tmp_path / "work", labels=labels)
    assert (
        "fewer than 10 prediction times lie after the subject's death: correct the task's definition"
        in extract.warnings
    )


def _swap(rows: list[tuple[Any, ...]], i: int, j: int) -> list[tuple[Any, ...]]:
    rows = list(rows)
    rows[i], rows[j] = rows[j], rows[i]
    return rows


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table().drop("code"), "data file 1 of 2 .*a column 'code', got none"),
        (table().drop("time"), "a column 'time', got none"),
        (table().drop("subject_id"), "a column 'subject_id', got none"),
        (table().rename({"subject_id": "patient_id"}), r"a table of MEDS 0\.3 or older; extract it again"),
        (
            table().with_columns(pl.col("time").dt.replace_time_zone("UTC")),
            "all with a zone, or none, got one in 'time' of file 1 of 2 and none in 'available_time' of file 1 of 2",
        ),
        (
            table().with_columns(time=pl.lit("noon")),
            "'time': expected times on one clock, got .* that are no time",
        ),
        (table().with_columns(pl.lit("P-1").alias("subject_id")), "'subject_id': expected whole numbers"),
        (table().with_columns(pl.lit("x").alias("numeric_value")), "column 'numeric_value': expected numbers"),
        (table().with_columns(code=pl.lit(None, pl.String)), "column 'code': expected no null, got (11|fewer than 10)"),
        (table(_swap(ROWS, 2, 3)), "events sorted by time, got fewer than 10 out of order"),
        (table([*ROWS[:3], ROWS[0], (1, at(9), "LAB//NA", 1.0, None, None)]), "events sorted by time"),
        (table(_swap(ROWS, 5, 6)), "in one piece"),
        (table([*ROWS, (1, at(22), "LAB//NA", 1.0, None, None)]), "in one piece"),
        (table([]), "expected events, got none"),
    ],
)
@pytest.mark.parametrize("block", [1, 1000])
def test_what_is_not_meds_is_refused(
    tmp_path: Path, frame: pl.DataFrame, message: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meds_files, "_ROWS", block)
    root = tmp_path / "meds"
    if "subject_id" in frame.columns and frame["subject_id"].dtype.is_integer():
        write_meds(root, frame, first_of_second=100)
    else:
        (root / "data").mkdir(parents=True)
        frame.write_parquet(root / "data" / "0.parquet")
        message = message.replace("1 of 2", "1 of 1")
    labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
    with pytest.raises(SourceError, match=message) as error:
        read_meds(root, work=tmp_path / "work", labels=labels)
    assert "LAB//NA" not in str(error.value)
    assert not (tmp_path / "work").exists()


def test_a_subject_in_two_files_an_empty_folder_and_a_damaged_file(tmp_path: Path) -> None:
    labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
    root = write_meds(tmp_path / "meds", table())
    table(ROWS[-2:]).write_parquet(root / "data" / "1.parquet")
    with pytest.raises(SourceError, match=r"data file 3 of 3 .*a subject in several"):
        read_meds(root, work=tmp_path / "work", labels=labels)
    (root / "data" / "1.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(SourceError, match="readable parquet"):
        read_meds(root, work=tmp_path / "work", labels=labels)
    (tmp_path / "empty" / "data").mkdir(parents=True)
    with pytest.raises(SourceError, match="no such file"):
        read_meds(tmp_path / "empty", work=tmp_path / "work", labels=labels)
    others = read_labels(write_labels_of(tmp_path / "others", [(55, at(1), True), (56, at(1), False)]))
    (root / "data" / "1.parquet").unlink()
    with pytest.raises(SourceError, match="subjects of this data set"):
        read_meds(root, work=tmp_path / "work", labels=others)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_samples_are_the_union_of_tasks(tmp_path: Path, plan: Path) -> None:
    tasks = write_labels_of(tmp_path / "tasks", LABELS)
    write_labels_of(tasks, [(1, at(13), True), (2, at(14), False), (2, at(14), False)], "readmission")
    for path in tasks.rglob("*.parquet"):
        LabelSchema.validate(pq.read_table(path))
    labels = read_labels(tasks)
    extract = read_meds(write_meds(tmp_path / "meds", table()), work=tmp_path / "work", labels=labels, modalities=plan)
    data = dataset_of(extract, labelled_cohort(extract, labels))
    assert data.schema.task_names == ("death", "readmission")
    rows = zip(data.subject_id.tolist(), data.labels.tolist(), data.label_mask.tolist(), strict=True)
    assert list(rows) == [
        (1, [False, True], [True, True]),
        (1, [True, False], [True, False]),
        (2, [False, False], [True, False]),
        (2, [False, False], [False, True]),
        (7, [True, False], [True, False]),
    ]
    steps = {
        name: [(s["rule"], s["kept"], s["subjects"]) for s in flow] for name, flow in data.manifest["attrition"].items()
    }
    assert steps["cohort"] == [("all labelled moments", 6, 4), ("subjects with events", 5, 3)]
    assert steps["readmission"] == [
        ("rows of label files", 3, 2),
        ("one label per subject and prediction time", 2, 2),
        ("subjects with events", 2, 2),
    ]
    assert "labels of task 'readmission': fewer than 10 rows dropped: repeats of another" in data.manifest["warnings"]
    # one stay per moment, the same numbers every time
    assert data.stay_id.tolist() == [0, 1, 2, 3, 4]


def test_labels_as_aces_writes_them(tmp_path: Path) -> None:
    """``aces-cli`` fills the other label columns with null; its own table counts events and bears other names."""
    root = tmp_path / "tasks"
    (root / "long_stay" / ".logs").mkdir(parents=True)
    pl.DataFrame(
        {
            "subject_id": [1, 2],
            "prediction_time": [at(1), at(2)],
            "boolean_value": [True, False],
            "integer_value": pl.Series([None, None], dtype=pl.Int64),
            "float_value": pl.Series([None, None], dtype=pl.Float64),
            "categorical_value": pl.Series([None, None], dtype=pl.String),
        }
    ).write_parquet(root / "long_stay.parquet")
    (root / "death").mkdir()
    pl.DataFrame(
        {
            "subject_id": [3, 4],
            "index_timestamp": [at(1), at(2)],
            "label": [0, 3],
            "trigger": [at(0), at(0)],
            "input.end_summary": [{"window_name": "x"}] * 2,
        }
    ).write_parquet(root / "death" / "0.parquet")
    labels = read_labels(root)
    assert labels.tasks == ("death", "long_stay")
    assert labels.frame.rows() == [
        ("death", 3, at(1), False),
        ("death", 4, at(2), True),
        ("long_stay", 1, at(1), True),
        ("long_stay", 2, at(2), False),
    ]
    named = read_labels({"b": root / "long_stay.parquet", "a": root / "death"})
    assert named.tasks == ("b", "a")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"subject_id": [1], "prediction_time": [at(1)], "float_value": [0.1]}, "only float_value; only yes-or-no"),
        ({"subject_id": [1], "prediction_time": [at(1)], "boolean_value": [None]}, "at least one label, got none"),
        ({"subject_id": [1], "boolean_value": [True]}, "a column 'prediction_time'"),
        ({"subject_id": ["P-1"], "prediction_time": [at(1)], "boolean_value": [True]}, "column 'subject_id'"),
        ({"subject_id": [1], "prediction_time": ["now"], "boolean_value": [True]}, "column 'prediction_time'"),
        (
            {"subject_id": [1, 1], "prediction_time": [at(1)] * 2, "boolean_value": [True, False]},
            "fewer than 10 with both answers",
        ),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, frame: dict[str, Any], message: str) -> None:
    (tmp_path / "death").mkdir()
    pl.DataFrame(frame).write_parquet(tmp_path / "death" / "0.parquet")
    with pytest.raises(SourceError, match=message):
        read_labels(tmp_path)


def test_label_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a folder of tasks, got none"):
        read_labels(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="extract the labels first"):
        read_labels(tmp_path)
    root = write_labels_of(tmp_path / "a", LABELS)
    with pytest.raises(SourceError, match="shards of one task; give the folder above"):
        read_labels(root / "death")
    write_labels_of(tmp_path / "b" / "death", LABELS, "held_out")
    with pytest.raises(SourceError, match="shards of one task"):
        read_labels(tmp_path / "b" / "death")
    (root / "empty").mkdir()
    with pytest.raises(SourceError, match="task 'empty': expected parquet files"):
        read_labels(root)


def test_a_task_of_one_class_is_refused(tmp_path: Path) -> None:
    labels = read_labels(
        write_labels_of(tmp_path / "tasks", [(1, at(13), False), (2, at(13), False), (99, at(1), True)])
    )
    extract = read_meds(write_meds(tmp_path / "meds", table()), work=tmp_path / "work", labels=labels)
    with pytest.raises(SourceError, match="task 'death': expected samples with and without the outcome"):
        labelled_cohort(extract, labels)


# --- modalities from YAML ---------------------------------------------------------------------------------------------


def test_a_yaml_file_names_the_modalities(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        """
        sodium:
          features:
            worst: {codes: [LAB//NA], aggregation: max, low: 100, high: 160, unit: mmol/L}
            taken: {codes: ["LAB//*"], aggregation: count, zero_if_recorded: medication}
        labs: {kind: series, codes: ["LAB//*"], top: 1}
        potassium: {kind: series, features: {k: {codes: [LAB//K], high: 10}}}
        text: {kind: text, codes: ["NOTE//*"]}
        """
    )
    labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
    root = write_meds(tmp_path / "meds", table())
    extract = read_meds(root, work=tmp_path / "work", labels=labels, modalities=path)
    assert extract.rules == (
        FeatureRule("sodium", "worst", ("LAB//NA",), "max", unit="mmol/L", low=100, high=160),
        FeatureRule("sodium", "taken", ("LAB//*",), "count", zero_if_recorded="medication"),
        SeriesRule("labs", "LAB//NA", ("LAB//NA",)),
        SeriesRule("potassium", "k", ("LAB//K",), high=10),
        TextRule("text", ("NOTE//*",)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labs: {code: [LAB//NA]}", r"did you mean '(labs\.)?codes'"),
        ("labs: {codes: [LAV//NA]}", "a code like LAV//NA, got none in the data set"),
        ("labs: {}", "expected codes, got none"),
        ("labs: {kind: video, codes: [LAB//NA]}", r"static \| series \| text"),
        ("labs: {codes: [LAB//NA], aggregations: [median]}", "'median'"),
        ("labs: {features: {x: {codes: [LAB//NA], hihg: 3}}}", r"did you mean '(labs\.features\.x\.)?high'"),
        ("labs: {features: [x]}", "lists and mappings where they belong|names with values"),
        ("labs: {codes: 5}", "lists and mappings where they belong"),
        ("labs: [x]", "a mapping"),
        ("[]", "modality: {kind, codes, …}"),
        ("a: [", "a readable YAML file"),
        ("t: {kind: text, features: {x: {codes: [NOTE//ADMISSION]}}}", "give the notes' codes"),
    ],
)
def test_mistakes_in_the_yaml_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    labels = read_labels(write_labels_of(tmp_path / "tasks", LABELS))
    root = write_meds(tmp_path / "meds", table())
    with pytest.raises(ConfigError, match=message):
        read_meds(root, work=tmp_path / "work", labels=labels, modalities=path)


# --- round trips ------------------------------------------------------------------------------------------------------


def test_a_simulated_population_comes_back_as_it_was(tmp_path: Path) -> None:
    """Out as MEDS data and MEDS labels, in again: the same features, labels and patterns as without the detour."""
    extract = read_synthetic(simulate(300, seed=5))
    direct = dataset_of(extract, build_cohort(extract, synthetic_criteria(), synthetic_questions()))
    assert isinstance(extract.events, Events)
    writer = EventWriter(tmp_path / "meds", extract.stays["subject_id"].sort(), "stay", shards=3)
    writer.table("synthetic", extract.fingerprint, [extract.events.frame])
    writer.finish("synthetic", "1", {})
    CodeMetadataSchema.validate(pq.read_table(tmp_path / "meds" / "metadata" / "codes.parquet"))
    for path in (tmp_path / "meds" / "data").iterdir():
        DataSchema.validate(pq.read_table(path))
    write_labels(direct, tmp_path / "labels")
    plan = tmp_path / "plan.yaml"
    rules = [rule for rule in extract.rules if isinstance(rule, FeatureRule)]
    assert len(rules) == len(extract.rules)
    lines = []
    for modality in dict.fromkeys(rule.modality for rule in rules):
        lines += [f"{modality}:", "  features:"]
        lines += [f'    {r.feature}: {{codes: ["{r.codes[0]}"]}}' for r in rules if r.modality == modality]
    plan.write_text("\n".join(lines))
    labels = read_labels(tmp_path / "labels")
    again = read_meds(tmp_path / "meds", work=tmp_path / "work", labels=labels, modalities=plan)
    assert (again.name, again.version, again.details["availability"]) == ("synthetic", "1", "available_time")
    data = dataset_of(again, labelled_cohort(again, labels))
    order = np.lexsort((direct.prediction_time, direct.subject_id))
    assert data.subject_id.tolist() == direct.subject_id[order].tolist()
    assert data.prediction_time.tolist() == direct.prediction_time[order].tolist()
    assert data.schema.modality_names == direct.schema.modality_names
    assert data.schema.task_names == direct.schema.task_names
    np.testing.assert_array_equal(data.present, direct.present[order])
    np.testing.assert_array_equal(data.labels, direct.labels[order])
    np.testing.assert_array_equal(data.label_mask, direct.label_mask[order])
    for name in direct.schema.modality_names:
        np.testing.assert_array_equal(data.values[name], direct.values[name][order])


def test_the_open_mimic_demo_is_read_whole(tmp_path: Path) -> None:
    """Its conversion has columns of its own; as MEDS it keeps every distinct row, code by code."""
    raw = pl.read_parquet(open_data("mimic-iv-demo-2.2") / "meds" / "mimic_iv_demo_meds_events.parquet")
    frame = raw.select("subject_id", "time", "code", numeric_value="value").sort(
        "subject_id", "time", maintain_order=True
    )
    middle = int(frame["subject_id"].unique().sort()[50])
    root = write_meds(tmp_path / "meds", frame, first_of_second=middle)
    discharged = frame.filter(pl.col("code").str.starts_with("HOSPITAL_DISCHARGE"))
    died = pl.col("code").str.contains("DIED")
    answers = discharged.group_by("subject_id").agg(pl.col("time").min() - pl.duration(hours=1), died.any())
    labels = read_labels(write_labels_of(tmp_path / "tasks", answers.rows()))
    extract = read_meds(root, work=tmp_path / "work", labels=labels)
    expected = Counter(frame.unique()["code"].to_list())
    codes = extract.events.codes()  # type: ignore[attr-defined]
    got = {code: count for code, count in codes.iter_rows() if code != "AGE_AT_PREDICTION"}
    assert got == dict(expected)
    data = dataset_of(extract, labelled_cohort(extract, labels))
    assert len(data) == 100
    first = (
        frame.filter(code="LAB//220045//bpm")
        .join(answers, on="subject_id")
        .filter(pl.col("time") <= pl.col("time_right"))
    )
    beats = dict(first.group_by("subject_id").agg(pl.col("numeric_value").max()).iter_rows())
    maxima = feature(data, "lab", "LAB//220045//bpm max")
    assert {s: m for s, m in zip(data.subject_id.tolist(), maxima, strict=True) if m is not None} == beats


def test_the_command_builds_a_store_and_leaves_the_data_set_alone(
    tmp_path: Path, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_meds(tmp_path / "meds", table())
    tasks = write_labels_of(tmp_path / "tasks", LABELS)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for _ in range(2):
        # the second time takes up the event folder of the first
        prepare_meds(root=root, labels=tasks, out=tmp_path / "store", modalities=plan)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    data = open_store(tmp_path / "store", verify=True)
    assert feature(data, "labs", "LAB//NA last") == [130.0, 170.0, 140.0, None]
    assert "their time is taken" in capsys.readouterr().out
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").write_text("precious")
    with pytest.raises(StoreError, match="other files"):
        prepare_meds(root=root, labels=tasks, out=tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.docx"]
