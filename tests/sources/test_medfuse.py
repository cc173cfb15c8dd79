"""Inputs of MedFuse on hand-made trees: 17 variables, levels of scores, films of the unit stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from mmnar.cohort.build import build_cohort
from mmnar.cohort.medfuse import medfuse_criteria, medfuse_questions
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.gathering import Gathering
from mmnar.dataset.prepare import dataset_of
from mmnar.dataset.store import PatientDataset
from mmnar.ops.grid import hourly
from mmnar.sources.events import Extract
from mmnar.sources.mimic_iv.levels import LEVELS
from mmnar.sources.mimic_iv.medfuse import NUMBERS, Asked, read_medfuse
from mmnar.sources.mimic_iv.tables import MEDFUSE
from mmnar.types import Series
from tests.mimic import people, rows, write_mimic
from tests.sources.test_carebench import album, at, charted, film, shown

CODES = rows("diagnoses_icd", (1, 11, "I10", 10), (1, 13, "I2109", 10), (2, 20, "I10", 10))
EYE, VERBAL, MOTOR, REFILL, LEFT = 220739, 223900, 223901, 223951, 224308


def prepared(
    folder: Path,
    chart: Sequence[dict[str, Any]] = (),
    labs: Sequence[dict[str, Any]] = (),
    cxr: Path | None = None,
    asked: Asked = "mortality",
) -> tuple[Extract, PatientDataset]:
    """The extract, and the inputs of everybody asked; subject 1 is in the unit once in admission 11, for three days."""
    tables = {
        "icustays": [row for row in people()["icustays"] if row["stay_id"] != 111],
        "diagnoses_icd": CODES,
        "chartevents": [*charted((220045, 1, "80", 80)), *chart],
        "labevents": labs or rows("labevents", (1, 11, 50820, at(1), None, 7.4, "units")),
    }
    root = write_mimic(folder / "root", tables)
    extract = read_medfuse(root, work=folder / "work", asked=asked, cxr=cxr, side=32)
    questions = [q for q in medfuse_questions(asked) if q.task.name in ("mortality", "ami")]
    cohort = build_cohort(extract, medfuse_criteria(asked), questions)
    assert cohort.samples["stay_id"][0] == 110
    return extract, dataset_of(extract, cohort, Gathering(folder=folder))


def series(data: PatientDataset, feature: str, asked_at: float = 48) -> list[tuple[float, float]]:
    """Hours since admission to the unit, and values, of the first sample."""
    content = data.values["ehr"]
    assert isinstance(content, SeriesArrays)
    own = slice(content.offsets[0], content.offsets[1])
    rule = content.feature[own] == data.schema.modalities[0].feature_names.index(feature)
    hours = content.hours[own][rule].astype(float) + asked_at
    return list(zip(hours.round(3).tolist(), content.values[own][rule].astype(float).round(3).tolist(), strict=True))


def test_there_are_the_17_variables_and_one_column_a_level(tmp_path: Path) -> None:
    _, data = prepared(tmp_path)
    assert len(LEVELS) + len(NUMBERS) == 17
    names = data.schema.modalities[0].feature_names
    assert len(names) == 2 + 4 + 6 + 13 + 6 + 12
    assert names[:7] == (
        "capillary_refill_0",
        "capillary_refill_1",
        *(f"gcs_eye_{i}" for i in range(1, 5)),
        "gcs_motor_1",
    )
    assert names[-12:] == tuple(NUMBERS)
    assert data.schema.attributes == ("race", "sex", "age_group", "insurance", "language")
    assert set(data.attributes["age_group"]) <= {"18-39", "40-59", "60-79", "80+"}
    # what two tables tell of is told in one unit, within one range
    known = {c.code: c for spec in MEDFUSE.values() for c in spec.concepts}
    for codes in NUMBERS.values():
        assert len({(known[c].unit, known[c].low, known[c].high) for c in codes}) == 1
    used = {c for codes in NUMBERS.values() for c in codes} | {code for code, _ in LEVELS.values()}
    assert used == {*known, "GCS//TOTAL"}


@pytest.mark.parametrize(
    ("item", "value", "number", "feature", "expected"),
    [
        (220180, "60", 60, "diastolic_bp", 60),
        (223835, "0.4", 0.4, "fio2", 40),
        (226707, "70", 70, "height", 177.8),
        (226531, "150", 150, "weight", 68.039),
        (223761, "98.6", 98.6, "temperature", 37),
        (223830, "7.31", 7.31, "ph", 7.31),
        (220277, "97", 97, "spo2", 97),
    ],
)
def test_items_and_units(tmp_path: Path, item: int, value: str, number: float, feature: str, expected: float) -> None:
    _, data = prepared(tmp_path, charted((item, 2, value, number)))
    assert (2, expected) in series(data, feature)


def test_values_of_the_stay_alone_and_known_by_then(tmp_path: Path) -> None:
    chart = charted(*((226730, h, "170", 170) for h in (-0.01, 0, 48, 48.01)))
    labs = rows(
        "labevents",
        # a specimen of before; results an hour after the specimen where nobody says when they came
        (1, 11, 50931, at(-1), at(1), 90, "mg/dL"),
        (1, None, 50931, at(3), at(4), 100, "mg/dL"),
        (1, 11, 50809, at(46), None, 110, "mg/dL"),
        (1, 11, 50809, at(47.5), None, 120, "mg/dL"),
        (1, 11, 50820, at(47), at(48.5), 7.2, "units"),
    )
    _, data = prepared(tmp_path, chart, labs)
    assert series(data, "height") == [(0, 170), (48, 170)]
    assert series(data, "glucose") == [(3, 100), (46, 110)]
    assert series(data, "ph") == []


def test_a_score_is_one_in_its_column_and_zero_in_the_others(tmp_path: Path) -> None:
    chart = charted((EYE, 1, "4", 4), (EYE, 3, "2", 2), (EYE, 5, "9", 9), (VERBAL, 1, "No Response-ETT", 1))
    _, data = prepared(tmp_path, chart)
    assert series(data, "gcs_eye_4") == [(1, 1), (3, 0)]
    assert series(data, "gcs_eye_2") == [(1, 0), (3, 1)]
    assert series(data, "gcs_eye_1") == series(data, "gcs_eye_3") == [(1, 0), (3, 0)]
    assert series(data, "gcs_verbal_0") == [(1, 1)]
    assert series(data, "gcs_verbal_1") == [(1, 0)]
    # intubated: 15 by mimic-code, as the total of prepare carebench
    assert series(data, "gcs_total_15") == [(1, 1), (3, 1)]
    assert series(data, "gcs_total_3") == [(1, 0), (3, 0)]


def test_of_scores_of_one_minute_the_largest_counts(tmp_path: Path) -> None:
    chart = charted(
        (REFILL, 1, "Normal <3 Seconds", None),
        (LEFT, 1, "Abnormal  >3 Seconds", None),
        (LEFT, 2, "Normal <3 Seconds", None),
        (REFILL, 3, "Slow", None),
        (MOTOR, 1, "5", 5),
        (MOTOR, 1, "6", 6),
    )
    extract, data = prepared(tmp_path, chart)
    assert series(data, "capillary_refill_1") == [(1, 1), (2, 0)]
    assert series(data, "capillary_refill_0") == [(1, 0), (2, 1)]
    assert series(data, "gcs_motor_6") == [(1, 1)]
    assert series(data, "gcs_motor_5") == [(1, 0)]
    assert "table 'chartevents': fewer than 10 rows dropped: words not known for the item" in extract.warnings


def test_the_total_is_of_the_parts_known_at_the_question(tmp_path: Path) -> None:
    chart = charted((EYE, 1, "3", 3), (VERBAL, 1, "4", 4), (MOTOR, 1, "5", 5), (EYE, 47, "1", 1), (MOTOR, 47, "1", 1))
    late = charted((VERBAL, 47, "1", 1))
    late[0]["storetime"] = at(48.1)
    _, data = prepared(tmp_path, [*chart, *late])
    assert [h for h, on in series(data, "gcs_total_12") if on] == [1]
    # without the voice there is no total, whenever the rest was charted
    assert [h for h, _ in series(data, "gcs_total_3")] == [1]


def test_in_steps_of_two_hours_one_level_is_carried(tmp_path: Path) -> None:
    """The last of a step counts, and what is carried is one level: never an old one beside a new one."""
    _, data = prepared(tmp_path, charted((EYE, 1, "4", 4), (EYE, 1.5, "3", 3), (EYE, 9, "1", 1)))
    content = data.values["ehr"]
    assert isinstance(content, SeriesArrays)
    first = slice(0, int(content.offsets[1]))
    one = Series(
        offsets=torch.tensor([0, first.stop]),
        hours=torch.tensor(content.hours[first]),
        feature=torch.tensor(content.feature[first].astype(int)),
        values=torch.tensor(content.values[first]),
    )
    names = data.schema.modalities[0].feature_names
    values, seen = hourly(one, len(names), 24, 2.0)
    eyes = [names.index(f"gcs_eye_{i}") for i in range(1, 5)]
    # hours (0, 2] are the first step; what is charted at the very hour of admission lies before it
    assert [values[0, t, eyes].tolist() for t in (0, 3, 4, 23)] == [
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],
    ]
    assert seen[0, :, eyes].any(1).nonzero()[:, 0].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("films", "at_48", "at_the_end"),
    [
        ([film("a", "AP", 0)], 0, 0),
        ([film("a", "AP", -0.1)], None, None),
        ([film("a", "AP", 3), film("b", "AP", 47, 2), film("c", "AP", 71.9, 3), film("d", "AP", 72.1, 4)], 47, 71.9),
        ([film("a", "AP", 3), film("b", "PA", 5)], 3, 3),
        ([film("a", "AP", 60)], None, 60),
    ],
)
def test_which_film(tmp_path: Path, films: list[Any], at_48: float | None, at_the_end: float | None) -> None:
    """The latest AP film of the first 48 h; of the whole stay, three days, where phenotypes are asked."""
    cxr = album(tmp_path / "cxr", [*films, film("z", "AP", 1, 99, subject=999)])
    cases: tuple[tuple[Asked, int, float | None], ...] = (("mortality", 48, at_48), ("phenotypes", 72, at_the_end))
    for asked, hours, expected in cases:
        _, data = prepared(tmp_path / asked, cxr=cxr, asked=asked)
        got = shown(data)
        # ``shown`` counts from a question at 48 h
        assert (None if got is None else got[1] - 48 + hours) == (
            None if expected is None else pytest.approx(expected, abs=1e-3)
        )


def test_phenotypes_look_back_on_all_of_the_stay(tmp_path: Path) -> None:
    chart = charted((220045, 60, "90", 90), (220045, 72, "95", 95), (220045, 72.1, "99", 99))
    _, data = prepared(tmp_path, chart, asked="phenotypes")
    assert series(data, "heart_rate", 72) == [(1, 80), (60, 90), (72, 95)]
