"""What people write into the cells of a table: read right, or refused with the column and the form, never a cell."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmnar.cohort.build import build_cohort
from mmnar.cohort.table import table_criteria, table_questions
from mmnar.dataset.prepare import dataset_of
from mmnar.errors import ConfigError, MmnarError, SourceError
from mmnar.sources.table import TablePlan, plan_table
from mmnar.sources.table.spec import parse_spec

N = 300
SPEC: dict[str, Any] = {
    "name": "own",
    "files": "t.csv",
    "subject": "pid",
    "outcomes": {"died": "died"},
    "modalities": {"demo": ["age", "sex", "unit"], "gas": ["lactate"]},
}


def _columns(seed: int = 0) -> dict[str, list[Any]]:
    """300 patients; lactate, finer than a tenth and now and then whole, is measured in some."""
    rng = np.random.default_rng(seed)
    measured = rng.random(N) < 0.6
    return {
        "pid": [10_000_001 + i for i in range(N)],
        "died": [int(v) for v in rng.random(N) < 0.3],
        "age": [int(v) for v in rng.integers(20, 90, N)],
        "sex": [str(v) for v in rng.choice(["F", "M"], N)],
        "unit": [str(v) for v in rng.choice(["MICU", "SICU", "CCU"], N)],
        "lactate": [int(v) if m else "" for v, m in zip(rng.integers(1, 8, N), measured, strict=True)],
    }


def _plan(folder: Path, columns: dict[str, list[Any]], **changes: Any) -> TablePlan:
    lines = [",".join(columns), *(",".join(f'"{cell}"' for cell in row) for row in zip(*columns.values(), strict=True))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return plan_table(parse_spec(SPEC | changes), folder)


def _typed(folder: Path, columns: dict[str, Any], **changes: Any) -> TablePlan:
    pl.DataFrame(columns).write_parquet(folder / "p.parquet")
    return plan_table(parse_spec(SPEC | {"files": "p.parquet"} | changes), folder)


def _values(plan: TablePlan, column: str = "lactate") -> list[Any]:
    plan.extract()
    return plan.frame.sort("stay_id")[f"value:{column}"].to_list()


def _numbers(columns: dict[str, list[Any]]) -> list[float | None]:
    return [None if v == "" else float(v) for v in columns["lactate"]]


# --- not measured -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["NULL", "None", "nan", "\\N", "N/A", "<NA>", "#N/A", ".", "-", "na", " null ", "?"])
def test_words_for_not_measured_are_not_measured(tmp_path: Path, word: str) -> None:
    columns = _columns()
    expected = _numbers(columns)
    plan = _plan(tmp_path, columns | {"lactate": [word if v == "" else v for v in columns["lactate"]]})
    assert _values(plan) == expected
    planned = plan.columns[-1]
    assert (planned.type, planned.observed) == ("number", N - expected.count(None))
    assert f"(lactate {expected.count(None)})" in plan.text()


def test_a_word_used_by_few_is_counted_as_few(tmp_path: Path) -> None:
    columns = _columns()
    columns["sex"][3] = "None"
    columns["unit"][:12] = ["Null"] * 12
    text = _plan(tmp_path, columns).text()
    assert "taken as not measured: 'NULL' (unit 12)" in text
    assert "taken as not measured: 'None' (sex fewer than 10)" in text
    assert "demo      sex      2 categories and 'other'  nearly all" in text


def test_the_words_are_the_specs(tmp_path: Path) -> None:
    columns = _columns()
    columns["lactate"] = [999.0 if v == "" else v for v in columns["lactate"]]
    columns["sex"][:50] = ["None"] * 50
    plan = _plan(tmp_path, columns, missing=[999])
    assert plan.columns[-1].observed < N
    assert "None" in plan.columns[1].categories
    assert "taken as not measured: '999' (lactate" in plan.text()
    own = {"demo": ["age", {"column": "sex", "measured": ["NONE"]}, "unit"], "gas": ["lactate"]}
    columns["unit"][:50] = ["None"] * 50
    plan = _plan(tmp_path, columns, modalities=own)
    assert "None" in plan.columns[1].categories
    assert plan.columns[2].observed == N - 50


def test_identifiers_outcomes_and_times_know_the_words_too(tmp_path: Path) -> None:
    columns = _columns()
    columns["pid"][:20] = ["NULL"] * 20
    columns["died"][20:40] = ["N/A"] * 20
    plan = _plan(tmp_path, columns)
    assert plan.frame.height == N - 20
    assert plan.frame["outcome:died"].null_count() == 20
    assert "20 rows dropped: no 'pid'" in plan.notes


@pytest.mark.parametrize(
    "change",
    [
        {"outcomes": {"died": {"column": "died", "positive": ["none"]}}},
        {"exclude": [{"name": "x", "column": "unit", "values": ["-"]}]},
    ],
)
def test_a_word_cannot_mean_both_an_answer_and_none(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="do not mean"):
        _plan(tmp_path, _columns(), **change)


# --- numbers ----------------------------------------------------------------------------------------------------------

SIGNS = [(">4", "'>number'"), ("<1.0", "'<number'"), ("≤ 1", "'<number'"), (">= 9", "'>number'")]
FORMS = [
    *SIGNS,
    ("1,234", "comma"),
    ("1,5", "comma"),
    ("5 %", "'number%'"),
    ("5 mg/dL", "'number unit'"),
    ("5H", "'number unit'"),
    ("1-2", "'number-number'"),
    ("120/80", "'number/number'"),
    ("~5", "'~number'"),
    ("8+", "'number\\+'"),
    ("1 234", "blanks"),
    ("inf", "infinite"),
    ("1e400", "too large"),
    ("１２", "another script"),
    ("−5", "another minus"),
    ("hemolysed", "words"),
]


@pytest.mark.parametrize(("cell", "form"), FORMS)
@pytest.mark.parametrize("many", [3, 80])
def test_nearly_numbers_are_never_a_category_unasked(tmp_path: Path, cell: str, form: str, many: int) -> None:
    columns = _columns()
    at = [i for i, v in enumerate(columns["lactate"]) if v != ""][:many]
    for i in at:
        columns["lactate"][i] = cell
    plan = _plan(tmp_path, columns)
    assert plan.columns[-1].type == "number"
    with pytest.raises(
        SourceError, match=f"'lactate': .*{form}.* in {'fewer than 10' if many < 10 else many}"
    ) as caught:
        plan.extract()
    assert f" {cell} " not in str(caught.value)


def test_a_column_with_more_comparisons_than_numbers_is_no_category(tmp_path: Path) -> None:
    columns = _columns()
    columns["lactate"] = ["<0.01" if i % 10 else 1 + i / 100 for i in range(N)]
    with pytest.raises(SourceError, match=r"'<number' in 270 cells"):
        _plan(tmp_path, columns).extract()


@pytest.mark.parametrize(
    ("meaning", "below", "above"), [("bound", 0.5, 4.0), ("half", 0.25, 4.0), ("missing", None, None)]
)
def test_the_spec_says_what_comparisons_mean(
    tmp_path: Path, meaning: str, below: float | None, above: float | None
) -> None:
    columns = _columns()
    expected = _numbers(columns)
    for i in range(40):
        columns["lactate"][i] = "<0.5" if i % 2 else ">= 4"
        expected[i] = below if i % 2 else above
    plan = _plan(tmp_path, columns, censored=meaning)
    assert _values(plan) == expected
    assert "40 comparisons (" in plan.text()
    own = {"demo": ["age", "sex", "unit"], "gas": [{"column": "lactate", "censored": meaning}]}
    assert _values(_plan(tmp_path, columns, modalities=own)) == expected
    with pytest.raises(ConfigError, match=r"bound \| half \| missing"):
        _plan(tmp_path, columns, censored="zero")


def test_half_of_a_negative_bound_is_refused(tmp_path: Path) -> None:
    columns = _columns()
    columns["lactate"][0] = "<-3"
    with pytest.raises(SourceError, match="'<number'"):
        _plan(tmp_path, columns, censored="half").extract()


def test_numbers_as_computers_write_them_are_numbers(tmp_path: Path) -> None:
    columns = _columns()
    columns["lactate"] = [("+5", "1e0", " 7 ", ".5", "5.", "2.50E+00")[i % 6] for i in range(N)]
    assert _values(_plan(tmp_path, columns)) == [(5, 1, 7, 0.5, 5, 2.5)[i % 6] for i in range(N)]


def test_codes_and_groups_stay_categories(tmp_path: Path) -> None:
    columns = _columns()
    columns["unit"] = [("<18", "18-35", "36-65", ">65")[i % 4] for i in range(N)]
    assert _plan(tmp_path, columns).columns[2].categories == ("18-35", "36-65", "<18", ">65", "other")
    columns["lactate"] = [("1", "2", "3", "3+")[i % 4] for i in range(N)]
    stated = {"demo": ["age", "sex", "unit"], "gas": [{"column": "lactate", "type": "category"}]}
    assert _plan(tmp_path, columns, modalities=stated).columns[-1].categories == ("1", "2", "3", "3+", "other")


# --- identifiers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["{}.0", "{}.", " {} ", "+{}", "{}.00"])
def test_one_patient_written_in_two_ways_is_one(tmp_path: Path, other: str) -> None:
    columns = _columns()
    people = [10_000_001 + i // 3 for i in range(N)]
    plan = _plan(tmp_path, columns | {"pid": [str(p) if i % 2 else other.format(p) for i, p in enumerate(people)]})
    assert plan.frame["subject_id"].to_list() == people
    said = "column 'pid': 100 identifiers written in more than one way, taken as one"
    assert (said in plan.notes) == (other != " {} ")


def test_a_person_is_the_same_in_every_file_and_store(tmp_path: Path) -> None:
    columns = _columns()
    plain = _plan(tmp_path, columns).frame["subject_id"].to_list()
    assert plain == columns["pid"]
    mixed = [f"{p}.0" if i % 2 else f"P-{i}" for i, p in enumerate(columns["pid"])]
    with_words = _plan(tmp_path, columns | {"pid": mixed}).frame.sort("stay_id")["subject_id"].to_list()
    assert with_words[1::2] == columns["pid"][1::2]
    floats = _typed(tmp_path, columns | {"pid": [float(p) for p in columns["pid"]], "lactate": [1.0] * N}).frame
    assert floats["subject_id"].to_list() == columns["pid"]
    (tmp_path / "one.csv").write_text("pid,died,age,sex,unit,lactate\n" + "7,1,50,F,CCU,1\n" * 20)
    (tmp_path / "two.csv").write_text("pid,died,age,sex,unit,lactate\n" + "7.0,0,50,M,CCU,2\nx9,0,51,F,CCU,2\n" * 20)
    both = plan_table(parse_spec(SPEC | {"files": ["one.csv", "two.csv"]}), tmp_path).frame
    assert both["subject_id"].n_unique() == 2
    assert both.filter(subject_id=7).height == 40


@pytest.mark.parametrize(
    "cell", [2**63, 2**64 - 1, "9007199254740993.0", "1.00E+07", "007", "10000001.5", "10,000,001"]
)
def test_identifiers_nobody_can_tell_apart_are_refused(tmp_path: Path, cell: Any) -> None:
    columns = _columns()
    columns["pid"][:2] = [cell, 7]
    with pytest.raises(SourceError, match="column 'pid'") as caught:
        _plan(tmp_path, columns)
    assert str(cell) not in str(caught.value).replace("(007 and 7)", "").replace("('1.00E+07')", "")
    assert "\n" not in str(caught.value)


def test_a_column_that_names_hardly_any_patient_is_refused(tmp_path: Path) -> None:
    columns = _columns()
    columns["pid"] = [p if i % 3 == 0 else "" for i, p in enumerate(columns["pid"])]
    with pytest.raises(SourceError, match=r"'pid' \(subject\).*none in 200 of 300"):
        _plan(tmp_path, columns)


def test_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    for change in ({"subject": ""}, {"outcomes": {"died": " "}}, {"modalities": {"gas": [""]}}):
        with pytest.raises(ConfigError, match=r"an empty name.*index_label"):
            _plan(tmp_path, _columns(), **change)
    unnamed = {"": list(range(N)), **_columns()}
    assert _plan(tmp_path, unnamed).frame.height == N


# --- times ------------------------------------------------------------------------------------------------------------

TIMED = {
    "prediction_time": "asked",
    "modalities": {"demo": ["age", "sex", "unit"], "gas": {"known_at": "known", "columns": ["lactate"]}},
}


def _asked(
    columns: dict[str, list[Any]], asked: Callable[[datetime], str], known: Callable[[datetime], str] | None = None
):  # type: ignore[no-untyped-def]
    moments = [datetime(2020, 3, 1, 12) + timedelta(hours=i) for i in range(N)]
    # every second result comes an hour later than the question
    results = [m + timedelta(hours=1 if i % 2 else -1) for i, m in enumerate(moments)]
    return columns | {
        "lactate": [1.5] * N,
        "asked": [asked(m) for m in moments],
        "known": [(known or asked)(m) for m in results],
    }


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%d %H:%M:%S.250",
        "%Y/%m/%d %H:%M:%S",
        "%d.%m.%Y %H:%M",
        "%Y-%m-%d %I:%M %p",
        "%d-%b-%Y %H:%M:%S",
        "%d%b%Y:%H:%M:%S",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S+00:00",
        "%Y-%m-%d %H:%M GMT",
    ],
)
def test_times_in_their_usual_forms_are_read(tmp_path: Path, form: str) -> None:
    plan = _plan(tmp_path, _asked(_columns(), lambda m: m.strftime(form)), **TIMED)
    whole = plan.frame.sort("stay_id")["prediction_time"].dt.truncate("1s").to_list()
    assert whole == [datetime(2020, 3, 1, 12) + timedelta(hours=i) for i in range(N)]
    assert (plan.columns[-1].observed, plan.columns[-1].late) == (N // 2, N // 2)


def test_zones_come_to_one_clock(tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=-5))
    plan = _plan(
        tmp_path,
        _asked(
            _columns(), lambda m: f"{m:%Y-%m-%d %H:%M:%S}Z", lambda m: f"{m - timedelta(hours=5):%Y-%m-%dT%H:%M}-0500"
        ),
        **TIMED,
    )
    assert (plan.columns[-1].observed, plan.columns[-1].late) == (N // 2, N // 2)
    assert "times name their zone: all are taken to UTC" in plan.notes
    typed = _asked(_columns(), str)
    for name in ("asked", "known"):
        moments = [datetime.fromisoformat(m).replace(tzinfo=UTC) for m in typed[name]]
        typed[name] = [m.astimezone(zone) for m in moments]
    parquet = _typed(tmp_path, typed, **TIMED)
    assert parquet.frame["prediction_time"].equals(plan.frame["prediction_time"])
    with pytest.raises(
        SourceError, match=r"'asked', 'known': .*all with a zone, or none, got 300 with and 300 without"
    ):
        _plan(tmp_path, _asked(_columns(), lambda m: f"{m}Z", str), **TIMED)
    with pytest.raises(SourceError, match="one clock"):
        _plan(tmp_path, _asked(_columns(), lambda m: f"{m}{'Z' if m.hour else ''}"), **TIMED)


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("%m/%d/%Y %H:%M", "day/month or month/day"),
        ("%Y-%m-%d %H:%M:%S CET", "a zone by name"),
        ("%Y%m%d", "numbers"),
        ("%d-%m-%y", "day/month or month/day"),
        ("on %d %B", "words"),
    ],
)
def test_times_that_cannot_be_read_are_refused_with_their_form(tmp_path: Path, form: str, named: str) -> None:
    for asked, known in ((form, "%Y-%m-%d"), ("%Y-%m-%d", form)):
        columns = _asked(_columns(), lambda m, f=asked: m.strftime(f), lambda m, f=known: m.strftime(f))
        with pytest.raises(SourceError, match=rf"column '(asked|known)'.*{N} of {N} cells.*\({named} in {N}\)"):
            _plan(tmp_path, columns, **TIMED)


def test_a_stated_form_may_name_a_zone_or_be_wrong(tmp_path: Path) -> None:
    columns = _asked(_columns(), lambda m: f"{m:%d/%m/%Y %H:%M} +0100")
    plan = _plan(tmp_path, columns, time_format="%d/%m/%Y %H:%M %z", **TIMED)
    assert plan.frame.sort("stay_id")["prediction_time"][0] == datetime(2020, 3, 1, 11)
    with pytest.raises(SourceError, match="correct time_format:"):
        _plan(tmp_path, columns, time_format="%Q", **TIMED)


def test_days_without_a_time_of_day_are_said(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _asked(_columns(), str, lambda m: f"{m:%Y-%m-%d}"), **TIMED)
    assert f"column 'known': {N} cells are a day only: taken as its beginning" in plan.notes


def test_an_empty_column_is_said(tmp_path: Path) -> None:
    columns = _asked(_columns(), str, lambda _: "NULL")
    extract = _plan(tmp_path, columns, **TIMED).extract()
    assert any("values dropped: when they were known is not told" in line for line in extract.warnings)
    with pytest.raises(SourceError, match="outcome 'died': expected an answer in 'died', got none in any row"):
        _plan(tmp_path, _columns() | {"died": ["NULL"] * N})
    assert (
        "attribute 'unit': no value in any row"
        in _plan(
            tmp_path,
            _columns() | {"unit": ["-"] * N},
            attributes=["unit"],
            modalities={"demo": ["age", "sex"]},
        ).notes
    )


# --- Parquet ----------------------------------------------------------------------------------------------------------


def test_kinds_of_parquet_columns_are_read(tmp_path: Path) -> None:
    columns = _columns()
    lactate = [None if v == "" else v + 0.25 for v in columns["lactate"]]
    typed: dict[str, Any] = {
        "pid": pl.Series(columns["pid"], dtype=pl.UInt64),
        "died": [bool(v) for v in columns["died"]],
        "age": pl.Series(columns["age"], dtype=pl.Int8),
        "sex": pl.Series(columns["sex"], dtype=pl.Categorical()),
        "unit": pl.Series(columns["unit"], dtype=pl.Enum(["MICU", "SICU", "CCU"])),
        "lactate": pl.Series([None if v is None else Decimal(str(v)) for v in lactate], dtype=pl.Decimal(30, 4)),
    }
    plan = _typed(tmp_path, typed)
    assert _values(plan) == lactate
    assert plan.frame["subject_id"].to_list() == columns["pid"]
    assert plan.frame["outcome:died"].to_list() == typed["died"]
    assert [c.type for c in plan.columns] == ["number", "category", "category", "number"]
    typed["lactate"] = pl.Series([float("nan") if v is None else v for v in lactate], dtype=pl.Float32)
    assert _values(_typed(tmp_path, typed)) == lactate


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([[1.0]] * N, "nested"),
        ([{"a": 1}] * N, "nested"),
        (pl.Series([[1.0, 2.0]] * N, dtype=pl.Array(pl.Float64, 2)), "nested"),
        ([b"5"] * N, "bytes"),
        ([timedelta(hours=5)] * N, "durations"),
        ([datetime(2020, 1, 1, 5).time()] * N, "times of day"),
        ([date(2020, 1, 1 + i % 20) for i in range(N)], "dates are no input"),
        ([float("inf")] * N, "infinite in 300"),
    ],
)
def test_kinds_of_parquet_columns_without_a_meaning_are_refused(tmp_path: Path, cells: Any, words: str) -> None:
    with pytest.raises(SourceError, match=f"'lactate'.*{words}"):
        _typed(tmp_path, _columns() | {"lactate": cells}).extract()
    unused = SPEC["modalities"] | {"gas": ["age"], "demo": ["sex", "unit"]}
    _typed(tmp_path, _columns() | {"lactate": cells}, modalities=unused, ignore=["lactate"]).extract()


def test_identifiers_that_single_precision_confuses_are_refused(tmp_path: Path) -> None:
    columns = _columns() | {"lactate": [1.0] * N}
    with pytest.raises(SourceError, match=r"'pid'.*single precision"):
        _typed(tmp_path, columns | {"pid": pl.Series([2.0**24 + 2 * i for i in range(N)], dtype=pl.Float32)})


# --- what a table says twice or against itself ------------------------------------------------------------------------


def test_duplicates_and_contradictions_are_counted_and_said(tmp_path: Path) -> None:
    columns = _asked(_columns(), str)
    for name in columns:
        columns[name][15:30] = columns[name][:15]  # fifteen rows twice
    for i in range(30, 50, 2):  # ten patients with two of everything, asked at one time
        for name in ("pid", "asked"):
            columns[name][i + 1] = columns[name][i]
        columns["sex"][i : i + 2] = ["F", "M"]
        columns["died"][i : i + 2] = [0, 1]
    columns["known"][200:220] = ["2031-01-01"] * 20
    plan = _plan(tmp_path, columns, attributes=["sex"], **TIMED)
    notes = "\n".join(plan.notes)
    assert "15 rows repeat another row of the same patient in every named column: kept" in notes
    assert "attribute 'sex': 10 patients have more than one value" in notes
    assert "outcome 'died': 10 questions, same patient and same time, have both answers" in notes
    assert "rows ask before anything with a known_at is known" in notes
    clean = _plan(tmp_path, _asked(_columns(), str, lambda m: str(m - timedelta(days=1))), attributes=["sex"], **TIMED)
    assert not any(w in n for n in clean.notes for w in ("repeat", "more than one", "both answers", "before anything"))


def test_spellings_of_one_word_are_one_category(tmp_path: Path) -> None:
    columns = _columns()
    columns["sex"] = [("M", "F", "M", "F", " m", "f ", "M", "F")[i % 8] for i in range(N)]
    plan = _plan(
        tmp_path, columns, attributes={"who": "sex"}, exclude=[{"name": "f", "column": "sex", "values": ["f"]}]
    )
    assert plan.columns[1].categories == ("M", "other")
    assert plan.frame["exclude:0"].sum() == N // 2
    assert set(plan.frame["who"]) == {"M", "F"}
    assert "37 words in other letter case or blanks: taken as one" in plan.text()
    outcome = {"died": {"column": "died", "positive": ["dead"]}}
    answers = [("Dead", "DEAD ", "alive")[i % 3] for i in range(N)]
    assert _plan(tmp_path, columns | {"died": answers}, outcomes=outcome).frame["outcome:died"].sum() == 2 * N // 3
    codes = [("11", "11.0", "7")[i % 3] for i in range(N)]
    left_out = [{"name": "x", "column": "unit", "values": [11]}]
    assert _plan(tmp_path, columns | {"unit": codes}, exclude=left_out).frame["exclude:0"].sum() == 2 * N // 3


# --- anything ---------------------------------------------------------------------------------------------------------

CELLS = st.one_of(
    st.sampled_from(
        ["", "NULL", "1", "1.0", "007", "7", "<4", "1e7", "2020-01-01", "2020-01-01T10:00Z", "x", "M", "m "]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.text(st.characters(codec="utf-8", exclude_characters='"\r\0'), max_size=6),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_stands_in_a_table_it_is_read_or_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    columns = _asked(_columns(), str)
    for name in data.draw(st.lists(st.sampled_from(list(columns)), min_size=1, max_size=3)):
        pool = data.draw(st.lists(CELLS, min_size=1, max_size=5))
        share = data.draw(st.sampled_from([1, 2, 30]))
        columns[name] = [pool[i % len(pool)] if i % share == 0 else v for i, v in enumerate(columns[name])]
    columns["lactate"][7] = "SECRET-4711"
    try:
        plan = _plan(tmp_path, columns, attributes=["sex"], **TIMED)
        assert "SECRET-4711" not in plan.text()
        extract = plan.extract()
        build_cohort(extract, table_criteria(plan.spec), table_questions(plan.spec))
    except MmnarError as error:
        message = str(error)
        assert "SECRET-4711" not in message
        assert "\n" not in message


def test_a_table_in_one_gzip_and_a_folder_named_like_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    columns = _columns() | {"lactate": [1.5] * N}
    expected = _plan(folder, columns).frame
    (folder / "z.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes()))
    assert plan_table(parse_spec(SPEC | {"files": "z.csv.gz"}), folder).frame.equals(expected)
    (folder / "t.csv").unlink()
    assert _typed(folder, columns).frame.equals(expected)


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        (lambda text: text.replace("unit", "ünit").encode("latin-1"), r"Latin-1.*iconv"),
        (lambda text: text.replace("CCU", "CCÜ").encode("latin-1"), r"Latin-1.*iconv"),
        (lambda text: text.encode("utf-16"), r"UTF-16.*iconv"),
        (lambda text: b"PK\x03\x04" + text.encode(), "spreadsheet"),
    ],
)
def test_other_encodings_and_packings_are_named(tmp_path: Path, changed: Callable[[str], bytes], fact: str) -> None:
    _plan(tmp_path, _columns())
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "a.csv").write_bytes(changed(text))
    with pytest.raises(SourceError, match=fact):
        plan_table(parse_spec(SPEC | {"files": "a.csv"}), tmp_path)
    (tmp_path / "plain.csv.gz").write_bytes(text.encode())
    assert plan_table(parse_spec(SPEC | {"files": "plain.csv.gz"}), tmp_path).frame.height == N


def test_the_store_says_rows(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _columns())
    extract = plan.extract()
    cohort = build_cohort(extract, table_criteria(plan.spec), table_questions(plan.spec))
    assert cohort.attrition["cohort"][0].rule == "all rows"
    assert dataset_of(extract, cohort).present.shape == (N, 2)
