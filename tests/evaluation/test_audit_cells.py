"""What a column says for some rows only, what two columns say together, and how a subject is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mmnar.dataset.store import make_dataset, write_store
from mmnar.errors import ConfigError
from mmnar.evaluation.audit import Audit, TableColumns, audit_store, audit_table, audit_text
from mmnar.evaluation.audit.pairs import pair_copies
from mmnar.evaluation.audit.ruling import ruled_out, upper_limit
from mmnar.schema import Feature, ModalitySpec, Schema, Task
from tests.records import open_data

N = 1500
Columns = dict[str, np.ndarray]
PAIR, RULES = "two columns copy a label", "rules a label out or in"


def found(result: Audit, severity: str, check: str) -> set[str]:
    return {f.where for f in result.findings if (f.severity, f.check) == (severity, check)}


def noise(rng: np.random.Generator, n: int = N, p: int = 10) -> dict[str, Any]:
    """Columns of five kinds that know nothing, some with missing cells; two rows a subject on average."""
    kinds: list[Callable[[], Any]] = [
        lambda: rng.normal(size=n),
        lambda: rng.integers(0, 2, n),
        lambda: np.round(rng.gamma(2, 2, n)),
        lambda: rng.choice(list("ABCDE"), n),
        lambda: np.exp(rng.normal(size=n)),
    ]
    table: dict[str, Any] = {}
    for j in range(p):
        gone = rng.random(n) < (0, 0.1, 0.5)[j % 3]
        table[f"c{j}"] = [None if g else v for g, v in zip(gone, kinds[j % 5]().tolist(), strict=True)]
    return table | {"pid": rng.integers(0, n // 2, n) + 1}


def looked(folder: Path, table: dict[str, Any], **named: Any) -> Audit:
    pl.DataFrame(table, strict=False).write_parquet(folder / "t.parquet")
    return audit_table(folder / "t.parquet", TableColumns("pid", labels=("y",), **named))


# --- one value --------------------------------------------------------------------------------------------------------


def _rule(rng: np.random.Generator, y: np.ndarray) -> dict[str, Any]:
    third = ~y & (rng.random(N) < 0.4)
    return {
        "number": np.where(third, 0.0, rng.normal(size=N)),
        "count": np.where(third, 1, rng.integers(2, 6, N)),
        "word": np.where(third, "home", rng.choice(["ward", "other"], N)),
    }


@pytest.mark.parametrize("column", ["number", "count", "word"])
@pytest.mark.parametrize("flip", [False, True])
def test_a_value_that_decides_a_third_of_the_rows_is_a_leak(tmp_path: Path, column: str, flip: bool) -> None:
    rng = np.random.default_rng(1)
    y = rng.random(N) < 0.25
    table = noise(rng) | {"told": _rule(rng, y)[column], "y": y ^ flip}
    result = looked(tmp_path, table)
    assert found(result, "leak", RULES) == {"told"}
    words = next(f.words for f in result.findings if f.where == "told")
    assert words.startswith("0 of ")
    assert f"rules it {'in' if flip else 'out'}" in words


def test_a_value_that_decides_few_rows_is_a_note_and_a_rare_outcome_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    n = 8000
    y = rng.random(n) < 0.3
    few = np.where(~y & (rng.random(n) < 0.05), "died", "home")
    table = noise(rng, n) | {"few": few, "y": y}
    assert found(looked(tmp_path, table), "note", RULES) == {"few"}
    rare = rng.random(N) < 0.02  # thirty events: a value without any in 300 rows may be chance
    values = np.where(~rare & (rng.random(N) < 0.2), 1.0, 2.0)
    assert not [*ruled_out("x", values, rare, np.arange(N), "y")]


def test_whom_nobody_measured_may_be_safe_and_so_may_an_end_of_a_score() -> None:
    """Suspicions: informative missingness and good scores are honest."""
    rng = np.random.default_rng(3)
    y = rng.random(4000) < 0.3
    absent = np.where(~y & (rng.random(4000) < 0.4), np.nan, rng.normal(size=4000))
    assert {f.severity for f in ruled_out("x", absent, y, np.arange(4000), "y")} == {"suspect"}
    ranked = np.where(y, rng.uniform(0.5, 1, 4000), rng.uniform(0, 1, 4000))
    assert {f.severity for f in ruled_out("x", ranked, y, np.arange(4000), "y")} == {"suspect"}


def test_many_rows_of_one_patient_are_no_proof() -> None:
    x, y = np.r_[np.zeros(2000), np.ones(2000)], np.r_[np.zeros(2000), np.ones(2000)].astype(bool)
    y[2000:3000] = False
    assert not [*ruled_out("x", x, y, np.r_[np.zeros(2000), np.arange(1, 2001)].astype(np.int64), "y")]
    assert [*ruled_out("x", x, y, np.arange(4000), "y")]


def test_the_limit_is_that_of_clopper_and_pearson() -> None:
    """At the limit so few events happen once in twenty times, by the binomial sum itself."""
    for events, n in ((0, 100), (3, 60), (7, 2904)):
        p = upper_limit(events, n)
        probability = np.array([1.0])
        for _ in range(n):
            probability = np.convolve(probability, [1 - p, p])[: events + 1]
        assert probability.sum() == pytest.approx(0.05, abs=1e-9)


# --- two columns ------------------------------------------------------------------------------------------------------

MADE: dict[str, Callable[[np.random.Generator], tuple[Any, Any, Any]]] = {}


def made(f: Callable[[np.random.Generator], tuple[Any, Any, Any]]) -> None:
    MADE[f.__name__.strip("_")] = f


@made
def _xor(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.integers(0, 2, (2, N))
    return a, b, a ^ b


@made
def _xor_of_words(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.integers(0, 2, (2, N))
    return np.where(a, "yes", "no"), np.where(b, "up", "down"), a ^ b


@made
def _sum(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.normal(size=(2, N))
    return 10 * a + 50, 10 * b, a + b > 0.8


@made
def _difference_that_hides_the_label(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    y, a = rng.random(N) < 0.3, 3 * rng.normal(size=N)
    return a, y - a, y


@made
def _maximum(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.normal(size=(2, N))
    return a, b, np.maximum(a, b) > 1.1


@made
def _minimum(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.normal(size=(2, N))
    return a, b, np.minimum(a, b) > -0.1


@made
def _the_later(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.normal(size=(2, N))
    return a, b, a > b + 0.3


@made
def _product(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    a, b = rng.normal(size=(2, N))
    return a, b, a * b > 0


@pytest.mark.parametrize("kind", MADE)
def test_two_columns_that_copy_a_label_together_are_found(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(4)
    a, b, y = MADE[kind](rng)
    result = looked(tmp_path, noise(rng) | {"a": a, "b": b, "y": np.asarray(y).astype(int)})
    assert found(result, "leak", PAIR) == {"a with b"}
    assert f"{PAIR}: 66 pairs of 12 columns" in result.looked_at
    assert result.leaks == 1


def test_coin_labels_raise_hardly_any_alarm(tmp_path: Path) -> None:
    """Of 200 tables of such columns, with 100 to 3,000 rows and 6 to 40 columns, none raised one."""
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        table = noise(rng, (100, 300, 1000)[seed % 3], 15)
        result = looked(tmp_path, table | {"y": (rng.random(len(table["pid"])) < (0.1, 0.5)[seed % 2]).astype(int)})
        alarms += any(f.severity != "note" for f in result.findings)
    assert alarms <= 1


def test_honest_columns_that_are_better_together_are_no_copy() -> None:
    rng = np.random.default_rng(6)
    x = {f"x{j}": rng.normal(size=N) for j in range(8)}
    y = rng.random(N) < 1 / (1 + np.exp(-2 * x["x0"] - 2 * x["x1"] * x["x2"]))
    findings, searched = pair_copies(x, y, np.arange(N), "y")
    assert findings == []
    assert (searched.pairs, searched.columns, searched.of) == (28, 8, 8)


def test_a_wide_table_is_searched_in_part_and_says_so() -> None:
    rng = np.random.default_rng(7)
    x = {f"x{j}": rng.normal(size=4000) for j in range(400)}
    _, searched = pair_copies(x, rng.random(4000) < 0.3, np.arange(4000), "y")
    assert searched.columns < searched.of == 400
    assert f"not among the other {400 - searched.columns}" in searched.words()


def test_stores_are_searched_for_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    a, b = rng.integers(0, 2, (2, N))
    y = np.stack([a ^ b, rng.random(N) < 0.3], axis=1).astype(bool)
    kind = np.where(~y[:, 1] & (rng.random(N) < 0.5), 2, rng.integers(0, 2, N))
    features = (Feature("a"), Feature("b"), Feature("kind", "categorical", ("x", "y", "z")), Feature("other"))
    schema = Schema((ModalitySpec("labs", features),), (Task("t", "now", "t"), Task("u", "now", "u")))
    x = np.stack([a, b, kind, rng.normal(size=N)], axis=1).astype(np.float32)
    ids = np.arange(N)
    data = make_dataset(schema, {"labs": x}, y, np.ones((N, 2), dtype=bool), ids, ids, ids, ids, {}, {})
    result = audit_store(write_store(tmp_path / "store", data))
    assert found(result, "leak", PAIR) == {"labs.a with labs.b"}
    assert found(result, "leak", RULES) == {"labs.kind"}
    coin = replace(data, labels=rng.random((N, 2)) < 0.3)
    assert audit_store(write_store(tmp_path / "coin", coin)).leaks == 0


# --- how it is written ------------------------------------------------------------------------------------------------


def test_subjects_written_in_two_ways_are_found(tmp_path: Path) -> None:
    """A hundred persons in 300 rows; as text they are 200, and a split of those tears half of them."""
    rng = np.random.default_rng(9)
    people = 10_000_001 + np.arange(300) // 3
    written = [f"{p}.0" if i % 2 else str(p) for i, p in enumerate(people)]
    split = {w: str(rng.choice(["train", "test"])) for w in sorted(set(written))}
    table = {"pid": written, "age": rng.integers(20, 90, 300), "split": [split[w] for w in written]}
    table["y"] = rng.integers(0, 2, 300)
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    columns = TableColumns("pid", labels=("y",), split="split")
    result = audit_table(tmp_path / "t.csv", columns)
    assert found(result, "leak", "subjects written in several ways") == {"pid"}
    assert "100 of 100 subjects are written in more than one way" in audit_text(result)
    assert found(result, "leak", "subjects across folds") == {"split"}
    assert "10000001" not in audit_text(result)
    table["pid"] = [f"00{p}" if i % 2 else str(p) for i, p in enumerate(people)]
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    assert "leading zeros" in audit_text(audit_table(tmp_path / "t.csv", columns))


def test_identifiers_beyond_a_float_stay_apart(tmp_path: Path) -> None:
    pid = [2**60 + i // 2 for i in range(200)]
    rng = np.random.default_rng(10)
    table = {"pid": pid, "split": ["train" if i // 2 % 2 else "test" for i in range(200)], "y": rng.integers(0, 2, 200)}
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    result = audit_table(tmp_path / "t.csv", TableColumns("pid", labels=("y",), split="split"))
    assert not found(result, "leak", "subjects across folds")


def test_words_zones_and_forms_are_understood(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    y = rng.integers(0, 2, 400)
    table = {
        "pid": range(400),
        "y": ["NULL" if i < 20 else str(v) for i, v in enumerate(y)],
        "lactate": ["None" if i % 3 else f"{v:.1f}" for i, v in enumerate(rng.gamma(2, 1, 400))],
        "creat": [">4" if i % 50 == 0 else f"{v:.2f}" for i, v in enumerate(rng.gamma(2, 1, 400))],
        "asked": ["2020-03-01T12:00:00Z"] * 400,
        "known": ["2020-03-01 12:30:00+01:00" if i % 2 else "2020-03-01 11:30:00-01:00" for i in range(400)],
        "nothing": ["\\N"] * 400,
    }
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    columns = TableColumns("pid", "asked", ("y",), "", {"creat": "known"})
    result = audit_table(tmp_path / "t.csv", columns)
    late = next(f for f in result.findings if f.check == "inputs after the prediction time")
    assert late.words.startswith("200 values are later")
    assert found(result, "note", "empty columns") == {"nothing"}
    assert found(result, "note", "numbers and other forms") == {"creat"}
    assert "'>number' in fewer than 10 cells" in audit_text(result)
    for change in ({"subject": "nothing"}, {"time": "nothing"}, {"labels": ("nothing",)}, {"split": "nothing"}):
        with pytest.raises(ConfigError, match=r"'nothing': .*an empty column"):
            audit_table(tmp_path / "t.csv", replace(columns, **change))
    table["known"] = ["2020-03-01 11:30:00"] * 400
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    assert "no common clock" in audit_text(audit_table(tmp_path / "t.csv", columns))


def test_columns_without_a_meaning_are_named_as_not_looked_at(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    odd = {"list": [[1.0]] * N, "bytes": [b"x"] * N, "span": [timedelta(hours=1)] * N}
    result = looked(tmp_path, noise(rng) | odd | {"y": rng.integers(0, 2, N)})
    assert {f"'{name}': nested, bytes, or times without a day" for name in odd} <= set(result.not_looked_at)
    with pytest.raises(ConfigError, match=r"'list'.*another kind"):
        looked(tmp_path, noise(rng) | odd | {"y": rng.integers(0, 2, N)}, split="list")


def test_the_dead_of_diabetes_130_are_noted() -> None:
    """Who died, 1,642 encounters of as many patients (zcat | cut | sort | uniq -c), is not readmitted."""
    path = open_data("diabetes130") / "diabetic_data.csv.gz"
    columns = TableColumns("patient_nbr", labels=("readmitted=<30",), ignore=("encounter_id",))
    result = audit_table(path, columns)
    assert found(result, "note", RULES) == {"discharge_disposition_id"}
    assert any("0 of 1,642 patients" in f.words for f in result.findings)
    assert {f.severity for f in result.findings if f.check == PAIR} == set()
