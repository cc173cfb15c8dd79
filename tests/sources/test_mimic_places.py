"""Rows of MIMIC-IV's large tables placed by look-up, against joins that say the same at length."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mmnar.sources.mimic_iv import concepts as codes
from mmnar.sources.mimic_iv import tables
from mmnar.sources.mimic_iv.register import Register
from mmnar.sources.reading import units
from mmnar.sources.reading.ledger import Ledger
from mmnar.sources.reading.positions import Positions

BEGIN = np.datetime64("2150-01-01T00:00:00", "us")
HOUR = np.timedelta64(3_600_000_000, "us")
LIFE = {"no usable time": 3, "before the subject's birth": 4, "after the subject's death": 5}


def register_of(rng: np.random.Generator, subjects: int) -> Register:
    """Subjects with even numbers, each with up to three admissions and unit stays, in no order."""
    subject = 2 * np.arange(1, subjects + 1)
    ended = [None if s % 3 else (BEGIN + int(s) * HOUR).item() for s in subject]
    born = [None if s % 5 == 0 else (BEGIN - 20 * HOUR).item() for s in subject]
    lives = pl.DataFrame({"subject_id": subject, "born": born, "ended": ended})
    owner = rng.choice(subject, 3 * subjects)
    admissions = pl.DataFrame({"subject_id": owner, "hadm_id": 3 * rng.permutation(3 * subjects)})
    stays = pl.DataFrame({"subject_id": owner, "stay_id": 5 * rng.permutation(3 * subjects)})
    times = pl.col("born", "ended").cast(pl.Datetime("us"))
    return Register(lives.with_columns(times), admissions, stays, Ledger())


def rows_of(rng: np.random.Generator, register: Register, rows: int) -> pl.DataFrame:
    """Some rows join; the others have an identifier that is missing, of another subject, or of none."""
    owned = register.admissions.hstack(register.stays.select("stay_id"))[rng.integers(0, register.stays.height, rows)]
    odd = [pl.Series(rng.integers(-3, 40, rows)) for _ in range(3)]
    hours = pl.Series(BEGIN + rng.integers(-40, 60, rows) * HOUR)
    return owned.with_columns(
        pl.when(pl.Series(rng.random(rows) < 0.2)).then(odd[0]).otherwise("subject_id").alias("subject_id"),
        pl.when(pl.Series(rng.random(rows) < 0.2)).then(odd[1]).otherwise("hadm_id").alias("hadm_id"),
        pl.when(pl.Series(rng.random(rows) < 0.2)).then(odd[2]).otherwise("stay_id").alias("stay_id"),
        row=pl.int_range(rows),
        at=pl.when(pl.Series(rng.random(rows) < 0.9)).then(hours),
        stored=pl.when(pl.Series(rng.random(rows) < 0.7)).then(hours.sample(fraction=1, shuffle=True, seed=1)),
    ).with_columns(
        pl.when(pl.Series(rng.random(rows) < 0.9)).then(c).alias(c) for c in ("subject_id", "hadm_id", "stay_id")
    )


def placed_by_joins(register: Register, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rows that can be placed, and how many of the others there are of each kind."""
    frame = frame.join(register.lives, on="subject_id", how="inner")
    lost = {}
    for key, known, words in (
        ("hadm_id", register.admissions, "admission"),
        ("stay_id", register.stays, "unit stay"),
    ):
        pairs = known.select("subject_id", key, joins=pl.lit(True))
        joined = frame.join(pairs, on=["subject_id", key], how="left")
        kept = joined.filter(pl.col("joins").is_not_null() | pl.col(key).is_null()).drop("joins")
        lost[f"no such {words} of the subject"] = frame.height - kept.height
        frame = kept
    for words, passes in zip(
        LIFE,
        (pl.col("at").is_not_null(), pl.col("at") >= pl.col("born"), pl.col("at") <= pl.col("ended")),
        strict=True,
    ):
        kept = frame.filter(passes.fill_null(True))
        lost[words] = frame.height - kept.height
        frame = kept
    return frame.with_columns(time="at", available_time=pl.max_horizontal("at", "stored")).drop("born", "ended"), lost


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_placed_as_joins_would_place_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    register = register_of(rng, 12)
    frame = rows_of(rng, register, 3000)
    got = register.place("labevents", frame, pl.col("at"), pl.col("stored"))
    expected, lost = placed_by_joins(register, frame)
    assert got.sort("row").equals(expected.select(got.columns).sort("row"))
    assert {reason.removeprefix("rows dropped: "): n for (_, reason), n in register.ledger._dropped.items()} == lost
    assert min(lost.values()) >= 10


@pytest.mark.parametrize("known", [[], [0, 3], [-5, 0]])
def test_null_is_nobody(known: list[int]) -> None:
    found = Positions(pl.Series(known, dtype=pl.Int64)).of(pl.Series([None, 1, 9, -9, None]))
    assert found.tolist() == [-1] * 5


def test_a_row_that_fails_several_checks_is_counted_under_the_first() -> None:
    ledger, frame = Ledger(), pl.DataFrame({"n": range(40)})
    n = frame["n"]
    kept = ledger.sift("t", frame, {"late": n < 25, "odd": n % 2 == 0, "none": n >= 0})
    assert kept["n"].to_list() == list(range(0, 25, 2))
    assert ledger._dropped == {("t", "late"): 15, ("t", "odd"): 12, ("t", "none"): 0}


@pytest.mark.parametrize("name", ["chart", "labs", "outputs"])
def test_each_item_and_unit_finds_its_conversion(name: str) -> None:
    known = codes.conversions(codes.concepts(name))
    rng = np.random.default_rng(0)
    written = ["mg/dL", "mm Hg", "mmHg", "°F", "Â°F", "Lbs", "N/A", None, "", "bpm", "%", "of no kind", "mL", "L"]
    rows = pl.DataFrame(
        {
            "itemid": rng.choice([*known["itemid"].unique(), 1, 225_000, 10**9], 4000),
            "unit": [written[i] for i in rng.integers(0, len(written), 4000)],
        }
    )
    found = tables._ways(known, rows["itemid"], rows["unit"])
    spelled = rows.with_columns(unit_found=pl.Series([units.spelled(u or "") for u in rows["unit"]]))
    joined = spelled.join(known, on=["itemid", "unit_found"], how="left", maintain_order="left")
    assert known["code"].gather(found).equals(joined["code"])
    assert known["factor"].gather(found).equals(joined["factor"])
    assert 100 < found.null_count() < 3900
    assert tables._ways(known, rows["itemid"][:0], rows["unit"][:0]).is_empty()
