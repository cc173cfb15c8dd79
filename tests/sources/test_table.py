"""A hand-made table with answers computed by hand, specs and files that are wrong, and the open diabetes records."""

from __future__ import annotations

import gzip
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from mmnar.cli import main
from mmnar.cohort.build import build_cohort
from mmnar.cohort.split import Split
from mmnar.cohort.table import table_criteria, table_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset, open_store
from mmnar.errors import ConfigError, SourceError
from mmnar.sources.events import Extract, FeatureRule
from mmnar.sources.reading.absent import ABSENT
from mmnar.sources.table import TablePlan, plan_table
from mmnar.sources.table.spec import TableSpec, load_spec, parse_spec
from tests.records import open_data

N = 40


def _spec(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "name": "clinic",
        "files": "visits.csv",
        "subject": "patient",
        "sample": "visit",
        "prediction_time": "asked",
        "outcomes": {"death": {"column": "status", "positive": ["dead"], "asked_at": "visit", "outcome": "death"}},
        "exclude": [{"name": "moved away", "column": "left", "values": ["moved"]}],
        "attributes": {"sex": "gender"},
        "modalities": {
            "basics": ["gender", {"column": "ward", "type": "category"}],
            "blood": {"known_at": "resulted", "columns": ["crp", {"column": "k", "low": 1, "high": 12}]},
        },
    }
    return {key: value for key, value in (raw | changes).items() if value is not None}


def _rows() -> list[dict[str, Any]]:
    """40 visits of 20 patients: two each. Blood is known an hour before the question, but for visits 3-5."""
    rows = []
    for i in range(N):
        rows.append(
            {
                "patient": f"p{i // 2}",
                "visit": 100 + i,
                "asked": f"2020-03-{1 + i % 28:02d} 12:00:00",
                "resulted": f"2020-03-{1 + i % 28:02d} 11:00:00",
                "gender": "Female" if i % 4 < 2 else "Male",
                "ward": "icu" if i == 0 else ("a" if i < 20 else "b"),
                "crp": i / 2,
                "k": 400 if i == 7 else 4,
                "left": "moved" if i == 39 else "",
                "status": "dead" if i % 3 == 0 else "alive",
                "comment": "free words",
            }
        )
    rows[3]["resulted"] = "2020-03-04 12:00:01"  # a second after the question
    rows[4]["resulted"] = ""
    rows[5]["resulted"] = "soon"
    rows[6]["crp"] = "?"
    rows[8]["status"] = "NA"
    return rows


def _write(folder: Path, rows: list[dict[str, Any]] | None = None, name: str = "visits.csv") -> Path:
    pl.DataFrame(
        [{k: str(v) for k, v in row.items()} for row in (_rows() if rows is None else rows)], infer_schema_length=None
    ).write_csv(folder / name)
    return folder


def _plan(folder: Path, **changes: Any) -> TablePlan:
    return plan_table(parse_spec(_spec(**changes)), folder)


def _samples(extract: Extract) -> pl.DataFrame:
    return (
        extract.stays.with_row_index("sample")
        .with_columns(pl.col("sample").cast(pl.Int64), since=pl.lit(None, pl.Datetime("us")))
        .select("sample", "subject_id", "hadm_id", "stay_id", "prediction_time", "since")
    )


def _seen(extract: Extract, code: str) -> dict[int, Any]:
    """stay_id → value known at the question."""
    past = pl.concat([e.before(s).frame for e, s in extract.events.parts(_samples(extract))])
    return {
        row["stay_id"]: row["text_value"] if row["numeric_value"] is None else row["numeric_value"]
        for row in past.filter(code=code).iter_rows(named=True)
    }


def test_values_by_hand(tmp_path: Path) -> None:
    extract = _plan(_write(tmp_path)).extract()
    # 3: known a second too late; 4, 5: when it was known is not told; 6: "?"
    assert _seen(extract, "crp//blood") == {100 + i: i / 2 for i in range(N) if i not in (3, 4, 5, 6)}
    assert _seen(extract, "k//blood") == {100 + i: 400 if i == 7 else 4 for i in range(N) if i not in (3, 4, 5)}
    assert _seen(extract, "gender//basics") == {100 + i: "Female" if i % 4 < 2 else "Male" for i in range(N)}
    assert {e.frame.schema["subject_id"] for e, _ in extract.events.parts(_samples(extract))} == {pl.Int64}
    assert extract.stays["subject_id"].n_unique() == N // 2
    assert extract.stays.filter(stay_id=103)["prediction_time"].to_list() == [datetime(2020, 3, 4, 12)]


def test_rules_by_hand(tmp_path: Path) -> None:
    assert _plan(_write(tmp_path)).extract().rules == (
        FeatureRule("basics", "gender", ("gender//basics",), categories=("Female", "Male", "other")),
        # 'icu' is one patient's: pooled
        FeatureRule("basics", "ward", ("ward//basics",), categories=("a", "b", "other")),
        FeatureRule("blood", "crp", ("crp//blood",)),
        FeatureRule("blood", "k", ("k//blood",), low=1, high=12),
    )


def test_labels_and_exclusion_by_hand(tmp_path: Path) -> None:
    plan = _plan(_write(tmp_path))
    extract, spec = plan.extract(), plan.spec
    criteria = table_criteria(spec)
    kept = extract.stays.filter(criteria[0].keep)
    assert sorted(kept["stay_id"]) == [100 + i for i in range(N - 1)]
    samples = _samples(extract)
    label = table_questions(spec)[0].label
    answers = pl.concat([label(e.after(s)) for e, s in extract.answers.parts(samples)])
    by_stay = dict(samples.join(answers, on="sample").select("stay_id", "label").iter_rows())
    assert by_stay == {100 + i: None if i == 8 else i % 3 == 0 for i in range(N)}


def _dataset(folder: Path) -> PatientDataset:
    plan = _plan(folder)
    extract = plan.extract()
    return dataset_of(extract, build_cohort(extract, table_criteria(plan.spec), table_questions(plan.spec)))


def test_the_dataset_by_hand(tmp_path: Path) -> None:
    data = _dataset(_write(tmp_path))
    rows = {int(s): i for i, s in enumerate(data.stay_id)}
    assert len(data) == N - 1
    blood, basics = data.values["blood"], data.values["basics"]
    assert isinstance(blood, np.ndarray)
    assert isinstance(basics, np.ndarray)
    np.testing.assert_array_equal(blood[rows[102]], [1, 4])
    np.testing.assert_array_equal(blood[rows[106]], [np.nan, 4])
    np.testing.assert_array_equal(blood[rows[107]], [3.5, np.nan])  # a potassium of 400 is implausible
    # icu was pooled into other, the third category
    np.testing.assert_array_equal(basics[rows[100]], [0, 2])
    np.testing.assert_array_equal(basics[rows[122]], [1, 1])
    present = data.present[:, data.schema.modality_names.index("blood")]
    assert sorted(data.stay_id[~present]) == [103, 104, 105]
    assert data.attributes["sex"][rows[102]] == "Male"
    kept = Split(seed=0).roles(data.subject_id)
    assert all(len(set(kept[data.subject_id == s])) == 1 for s in data.subject_id)


def test_what_is_known_later_moves_nothing(tmp_path: Path) -> None:
    before = _dataset(_write(tmp_path))
    rows = _rows()
    for i, row in enumerate(rows):
        if i % 2:
            row["resulted"] = row["asked"].replace("12:00:00", "12:00:01")
    late = _dataset(_write(tmp_path, rows))
    for row in rows[1::2]:
        row["crp"], row["k"] = 77, 11
    other = _dataset(_write(tmp_path, rows))
    for name in before.schema.modality_names:
        np.testing.assert_array_equal(late.values[name], other.values[name])
    assert not np.array_equal(late.present, before.present)


def test_parts_hold_every_sample_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = _plan(_write(tmp_path)).extract()
    whole = _seen(extract, "crp//blood")
    monkeypatch.setattr("mmnar.sources.table.events._ROWS_PER_PART", 7)
    parts = [s["sample"].to_list() for _, s in extract.events.parts(_samples(extract))]
    assert [len(p) for p in parts] == [7, 7, 7, 7, 7, 5]
    assert [i for part in parts for i in part] == list(range(N))
    assert _seen(extract, "crp//blood") == whole


def test_what_is_done_is_said_before_anything_is_written(tmp_path: Path) -> None:
    plan = _plan(_write(tmp_path))
    lines = plan.text().splitlines()
    by_column = {line.split()[1]: " ".join(line.split()) for line in lines[1:5]}
    assert by_column["crp"] == (
        "blood crp number nearly all fewer than 10 values known only after the question: missing; "
        "fewer than 10 values dropped: when they were known is not told"
    )
    assert (
        by_column["ward"] == "basics ward 2 categories and 'other' (stated) 39 fewer than 10 rows pooled into 'other'"
    )
    assert "40 rows of 20 patients" in lines
    assert "exclude 'moved away': fewer than 10 rows" in lines
    # of 39 rows 13 are divisible by three, one is not known
    assert "outcome 'death': 13 rows with it, 25 without" in lines
    assert "not named in the spec, not used: comment" in lines
    assert "note: column 'resulted': fewer than 10 cells are no time (words in fewer than 10)" in lines
    assert list(tmp_path.iterdir()) == [tmp_path / "visits.csv"]


def test_a_table_without_times_says_so(tmp_path: Path) -> None:
    modalities = {"basics": ["gender"], "blood": ["crp", "k"]}
    plan = _plan(_write(tmp_path), prediction_time=None, modalities=modalities)
    assert any("no prediction_time" in note for note in plan.notes)
    assert len(_seen(plan.extract(), "crp//blood")) == N - 1


def test_columns_may_be_called_what_the_package_calls_its_own(tmp_path: Path) -> None:
    names = {"patient": "subject_id", "visit": "hadm_id", "asked": "prediction_time", "ward": "stay_id"}
    rows = [{names.get(k, k): v for k, v in row.items()} for row in _rows()]
    spec = {"subject": "subject_id", "sample": "hadm_id", "prediction_time": "prediction_time"}
    blood = _spec()["modalities"]["blood"]
    plan = _plan(
        _write(tmp_path, rows),
        **spec,
        modalities={"basics": [{"column": "stay_id", "type": "category"}], "blood": blood},
    )
    assert plan.columns[0].categories == ("a", "b", "other")
    assert _seen(plan.extract(), "crp//blood") == {100 + i: i / 2 for i in range(N) if i not in (3, 4, 5, 6)}


def test_parquet_and_gzip_give_the_same(tmp_path: Path) -> None:
    expected = _seen(_plan(_write(tmp_path)).extract(), "crp//blood")
    for name in ("other.csv.gz", "other2.parquet"):
        if name.endswith("parquet"):
            frame = pl.read_csv(tmp_path / "visits.csv", null_values=["?", "NA"])
            frame.with_columns(pl.col("asked").str.to_datetime()).write_parquet(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(gzip.compress((tmp_path / "visits.csv").read_bytes()))
        assert _seen(_plan(tmp_path, files=name).extract(), "crp//blood") == expected


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    rows = _rows()
    _write(tmp_path, rows[:25], "one.csv")
    _write(tmp_path, rows[25:], "two.csv")
    _write(tmp_path)
    together = _plan(tmp_path, files=["one.csv", "two.csv"]).frame
    assert together.equals(_plan(tmp_path).frame)
    _write(tmp_path, [{**row, "extra": "x"} for row in rows[:25]], "wide.csv")
    assert set(_plan(tmp_path, files=["wide.csv", "two.csv"]).unused) == {"comment", "extra"}


def test_the_command_shows_first_and_writes_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path)
    spec, out = tmp_path / "spec.yaml", tmp_path / "store"
    spec.write_text(yaml.safe_dump(_spec(), sort_keys=False))
    command = ["prepare", "table", str(spec), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--dry-run"])
    assert not ended.value.code
    assert "outcome 'death': 13 rows with it, 25 without" in capsys.readouterr().out
    assert not out.exists()
    with pytest.raises(SystemExit):
        main(command)
    assert open_store(out).schema.modality_names == ("basics", "blood")
    capsys.readouterr()
    spec.write_text(yaml.safe_dump(_spec(subjet="patient"), sort_keys=False))
    with pytest.raises(SystemExit) as ended:
        main([*command, "--dry-run"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- bad tables -------------------------------------------------------------------------------------------------------


def test_rows_without_a_patient_or_time_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = _rows()
    for i in range(12):
        rows[i]["patient"] = ""
    rows[20]["asked"] = "yesterday"
    rows[21]["asked"] = ""
    plan = _plan(_write(tmp_path, rows))
    assert plan.frame.height == N - 14
    assert "12 rows dropped: no 'patient'" in plan.notes
    assert "fewer than 10 rows dropped: 'asked' is no time that can be read" in plan.notes
    assert "fewer than 10 rows dropped: 'asked' is missing" in plan.notes


def test_a_table_without_any_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'asked': .*40 of 40 .*day/month or month/day in 40\); say their form"):
        _plan(_write(tmp_path, [row | {"asked": "01/02/20"} for row in _rows()]))


def test_a_stated_time_format_is_used(tmp_path: Path) -> None:
    rows = [row | {"asked": "15.03.2020 12h30", "resulted": "15.03.2020 11h00"} for row in _rows()]
    plan = _plan(_write(tmp_path, rows), time_format="%d.%m.%Y %Hh%M")
    assert plan.frame["prediction_time"].unique().to_list() == [datetime(2020, 3, 15, 12, 30)]


def test_an_unknown_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    modalities = {"basics": ["gender"], "blood": ["cpr", "kk"]}
    with pytest.raises(SourceError, match=r"'cpr' .*did you mean 'crp'.*'kk'"):
        _plan(_write(tmp_path), modalities=modalities)


def test_duplicate_column_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("patient,visit,CRP,crp\n1,1,2,3\n")
    with pytest.raises(SourceError, match=r"\['crp'\] several times"):
        _plan(tmp_path)


def test_an_empty_column_is_left_out_and_an_empty_modality_is_nobodys(tmp_path: Path) -> None:
    rows = [row | {"k": "NA"} for row in _rows()]
    extract = _plan(_write(tmp_path, rows)).extract()
    assert [rule.feature for rule in extract.rules] == ["gender", "ward", "crp"]
    assert "column 'k': no value in any row" in extract.warnings
    empty = _plan(tmp_path, modalities={"basics": ["gender"], "salts": ["k"]})
    extract = empty.extract()
    assert [rule.feature for rule in extract.rules] == ["gender", "k"]
    data = dataset_of(extract, build_cohort(extract, table_criteria(empty.spec), table_questions(empty.spec)))
    assert data.present.any(axis=0).tolist() == [True, False]


def test_an_outcome_of_one_class_is_refused(tmp_path: Path) -> None:
    rows = [row | {"status": "dead"} for row in _rows()]
    plan = _plan(_write(tmp_path, rows))
    with pytest.raises(SourceError, match="one class"):
        build_cohort(plan.extract(), table_criteria(plan.spec), table_questions(plan.spec))


def test_an_outcome_that_is_not_binary_needs_positive(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(SourceError, match="39 of 39 cells of another form"):
        _plan(tmp_path, outcomes={"death": "status"})
    with pytest.raises(SourceError, match="none of 39"):
        _plan(tmp_path, outcomes={"death": {"column": "status", "positive": ["deceased"]}})


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("TRUE", "false"), ("Yes", "No")])
def test_binary_outcomes_are_understood(tmp_path: Path, yes: str, no: str) -> None:
    rows = [row | {"status": yes if row["status"] == "dead" else no} for row in _rows()]
    plan = _plan(_write(tmp_path, rows), outcomes={"death": "status"})
    found = dict(plan.frame.select("stay_id", "outcome:death").iter_rows())
    assert found == {100 + i: i % 3 == 0 for i in range(N)}


@pytest.mark.parametrize(
    "copy",
    [
        lambda i: "gone" if i % 3 == 0 else "here",  # the outcome in other words
        lambda i: 7 if i % 3 == 0 else 5,  # and as a number
        lambda i: "gone" if i % 3 == 0 else ("here" if i % 2 else "there"),  # what the outcome was made of
    ],
)
def test_a_column_that_tells_the_outcome_is_refused(tmp_path: Path, copy: Any) -> None:
    rows = [row | {"k": copy(i)} for i, row in enumerate(_rows())]
    plan = _plan(_write(tmp_path, rows))
    assert "REFUSED" in plan.text()
    with pytest.raises(SourceError, match="'k': its value tells the outcome 'death'"):
        plan.extract()


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (lambda i: f"2020-01-{1 + i % 20:02d}", "dates are no input"),
        (lambda i: f"{1 + i % 20}.12.2019", "dates are no input"),
        (lambda i: f"word {i}", "39 distinct words"),
    ],
)
def test_what_is_no_number_or_category_is_refused(tmp_path: Path, cell: Any, problem: str) -> None:
    rows = [row | {"ward": cell(i)} for i, row in enumerate(_rows())]
    plan = _plan(_write(tmp_path, rows), modalities={"basics": ["gender", "ward"]})
    with pytest.raises(SourceError, match=problem):
        plan.extract()


def test_a_stated_number_with_words_in_it_is_refused_with_their_count(tmp_path: Path) -> None:
    rows = [row | ({"crp": "high"} if i >= 25 else {}) for i, row in enumerate(_rows())]
    plan = _plan(_write(tmp_path, rows), modalities={"blood": [{"column": "crp", "type": "number"}]})
    with pytest.raises(SourceError, match="14 of 38 cells are no finite number"):
        plan.extract()
    marked = {"blood": [{"column": "crp", "type": "number", "missing": ["high"]}]}
    assert len(_seen(_plan(tmp_path, modalities=marked).extract(), "crp//blood")) == 24


def test_an_identifier_among_the_inputs_is_refused_unless_stated(tmp_path: Path) -> None:
    rows = [row | {"visit": i, "patient": i, "k": 9000 + i} for i, row in enumerate(_rows() * 3)]
    _write(tmp_path, rows)
    with pytest.raises(SourceError, match="an identifier"):
        _plan(tmp_path, modalities={"blood": ["k"]}).extract()
    _plan(tmp_path, modalities={"blood": [{"column": "k", "type": "number"}]}).extract()


def test_a_repeated_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="fewer than 10 repeated") as caught:
        _plan(_write(tmp_path, [*_rows(), _rows()[0]]))
    assert "p0" not in str(caught.value)


def test_identifiers_that_are_alike_as_numbers_alone_are_refused(tmp_path: Path) -> None:
    rows = _rows()
    rows[1]["visit"] = "0100"  # beside 100
    with pytest.raises(SourceError, match=r"'visit'.*fewer than 10 that differ by leading zeros"):
        _plan(_write(tmp_path, rows))


def test_a_word_that_came_too_late_is_no_input_and_no_error(tmp_path: Path) -> None:
    rows = _rows()
    rows[3]["crp"] = "hemolysed"  # known a second after the question
    extract = _plan(_write(tmp_path, rows)).extract()
    assert _seen(extract, "crp//blood") == {100 + i: i / 2 for i in range(N) if i not in (3, 4, 5, 6)}


def test_a_stated_category_keeps_its_most_frequent_words(tmp_path: Path) -> None:
    words = ["often"] * 60 + ["seldom"] * 30 + ["rare"] * 11 + ["single"] * 3
    rows = [_rows()[i % N] | {"visit": i, "patient": i, "ward": w} for i, w in enumerate(words)]
    _write(tmp_path, rows)
    spec = {"modalities": {"basics": [{"column": "ward", "type": "category"}]}, "exclude": []}
    assert _plan(tmp_path, **spec).columns[0].categories == ("often", "rare", "seldom", "other")
    few = _plan(tmp_path, categories=3, **spec).columns[0]
    assert few.categories == ("often", "seldom", "other")
    assert few.pooled == 14


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a file"):
        _plan(tmp_path)
    with pytest.raises(SourceError, match="another kind"):
        _plan(tmp_path, files="visits.xlsx")
    _write(tmp_path)
    content = gzip.compress((tmp_path / "visits.csv").read_bytes())
    (tmp_path / "cut.csv.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="cut"):
        _plan(tmp_path, files="cut.csv.gz")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SourceError, match="an empty file"):
        _plan(tmp_path, files="empty.csv")
    (tmp_path / "visits.csv.gz").write_bytes(content)
    with pytest.raises(SourceError, match="one file of that stem"):
        _plan(tmp_path)


# --- bad specs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalitys": {}}, "did you mean 'modalities'"),
        ({"subject": None}, "the key 'subject'"),
        ({"outcomes": {"death": {"column": "status", "positiv": ["dead"]}}}, "did you mean 'positive'"),
        ({"outcomes": {"death": {"column": "status", "positive": [True]}}}, "put it in quotes"),
        ({"outcomes": ["status"]}, "name each of them"),
        ({"modalities": {"blood": [{"column": "crp", "type": "numeric"}]}}, "number | category"),
        ({"modalities": {"blood": [{"colum": "crp"}]}}, "the key 'column'"),
        ({"modalities": {"blood": []}}, "at least one column"),
        ({"modalities": {"blood/gas": ["crp"]}}, "letters, digits"),
        ({"modalities": {"blood": ["crp"], "more": ["crp"]}}, "several times"),
        ({"modalities": {"blood": ["patient"]}}, "which is subject"),
        ({"modalities": {"blood": ["visit"]}}, "which is sample"),
        ({"modalities": {"blood": ["status"]}}, "which is outcomes.death"),
        ({"modalities": {"blood": ["asked"]}}, "which is prediction_time"),
        ({"prediction_time": None}, "a prediction_time to compare with"),
        ({"attributes": {"stay_id": "ward"}}, "does not use itself"),
        ({"max_missing": 2}, "a number from 0 to 1"),
        ({"exclude": [{"name": "x", "column": "left"}]}, "the key 'values'"),
        ({"exclude": {"name": "x"}}, "begin each line"),
    ],
)
def test_bad_specs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_spec(_spec(**change))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "at line"),
        ("- a\n- b\n", "key: value lines"),
        ("name: a\nname: b\n", "'name' twice"),
        ("", "key: value lines"),
        ("name: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_bad_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_spec(tmp_path / "spec.yaml")


def test_a_spec_comes_out_of_yaml_as_it_went_in(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(_spec(), sort_keys=False))
    spec = load_spec(tmp_path / "spec.yaml")
    assert isinstance(spec, TableSpec)
    assert spec == parse_spec(_spec(), spec.digest)
    assert spec.missing == ABSENT
    with pytest.raises(ConfigError, match="readable"):
        load_spec(tmp_path / "nowhere.yaml")


def test_open_diabetes_records() -> None:
    root = open_data("diabetes130")
    spec = load_spec(Path(__file__).parents[2] / "examples" / "diabetes130.yaml")
    plan = plan_table(spec, root)
    # Strack et al. 2014: 101,766 encounters of 71,518 patients
    assert (plan.frame.height, plan.frame["subject_id"].n_unique()) == (101_766, 71_518)
    assert plan.frame["outcome:readmission"].sum() == 11_357  # zcat | grep -c ',<30$'
    assert plan.frame["exclude:0"].sum() == 2_423
    assert plan.unused == ()
    assert {c.spec.name: c.observed for c in plan.columns}["weight"] == 3_125
    extract = plan.extract()
    assert all(rule.categories[-1] == "other" for rule in extract.rules if getattr(rule, "categories", ()))
    assert math.isclose(plan.frame["stay_id"].n_unique(), 101_766)
