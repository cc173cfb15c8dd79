"""Labels of films: what is known of a finding, and what is left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmnar.errors import SourceError
from mmnar.sources.mimic_iv.cxr import METADATA
from mmnar.sources.mimic_iv.findings import FINDINGS, TASKS, LabelledFilms, labelled_films
from mmnar.sources.reading.raw import DataRoot
from tests.records import write_tables
from tests.sources.test_carebench import film

LABELS = "mimic-cxr-2.0.0-chexpert"


def labels(study: int, subject: int = 1, **found: Any) -> dict[str, Any]:
    return {"subject_id": subject, "study_id": study} | {f: found.get(f.replace(" ", "_")) for f in FINDINGS}


def read(folder: Path, films: list[dict[str, Any]], rows: list[dict[str, Any]], table: str = LABELS) -> LabelledFilms:
    write_tables(folder, {METADATA: films, table: rows})
    return labelled_films(DataRoot(folder), "negbio" if table.endswith("negbio") else "chexpert")


def test_uncertain_and_unmentioned_are_not_known(tmp_path: Path) -> None:
    told = labels(1, Atelectasis=1, Edema=0, Pneumonia=-1, Fracture=2)
    got = read(tmp_path, [film("a", "AP", 1)], [told])
    row = got.frame.row(0, named=True)
    expected = dict.fromkeys(TASKS) | {"atelectasis": True, "edema": False, "no_finding": False}
    assert {name: row[name] for name in TASKS} == expected
    assert f"fewer than 10 labels in '{LABELS}' that are neither 1, 0 nor -1: taken as unknown" in got.left_out
    assert len(TASKS) == 14


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"No_Finding": 1}, True),
        ({"Pneumothorax": 1}, False),
        # a device is no finding, an absent or uncertain one tells nothing of the others
        ({"Support_Devices": 1}, None),
        ({"Support_Devices": 1, "Edema": -1, "Fracture": 0}, None),
    ],
)
def test_no_finding_follows_from_the_others(tmp_path: Path, told: dict[str, Any], expected: bool | None) -> None:
    got = read(tmp_path, [film("a", "AP", 1)], [labels(1, **told)])
    assert got.frame["no_finding"].to_list() == [expected]


def test_what_a_film_without_findings_does_not_mention_is_absent(tmp_path: Path) -> None:
    rows = [labels(1, No_Finding=1, Edema=0), labels(2, 5, No_Finding=1, Pneumonia=-1, Fracture=1)]
    frame = read(tmp_path, [film("a", "AP", 1), film("c", "AP", 1, 2, subject=5)], rows).frame
    plain = dict.fromkeys(TASKS, False) | {"no_finding": True, "support_devices": None}
    assert {name: frame.row(0, named=True)[name] for name in TASKS} == plain
    # labels that contradict each other stay what they are
    told = plain | {"pneumonia": None, "fracture": True}
    assert {name: frame.row(1, named=True)[name] for name in TASKS} == told


def test_films_of_all_views_and_patients_that_have_a_label(tmp_path: Path) -> None:
    films = [
        film("a", "AP", 1),
        film("b", "LATERAL", 1),
        film("c", None, 1, 2, subject=5),
        # a study without a row, one of another patient, one with nothing known
        film("d", "PA", 1, 3),
        film("e", "PA", 1, 4, subject=6),
        film("f", "PA", 1, 5),
    ]
    rows = [labels(1, Edema=1), labels(2, 5, Edema=0), labels(4, 7, Edema=1), labels(5, Edema=-1)]
    got = read(tmp_path / "a", films, rows)
    assert [path.rpartition("/")[2] for path in got.frame["path"]] == ["a.jpg", "b.jpg", "c.jpg"]
    assert got.frame["path"][2] == "files/p5/p5/s2/c.jpg"
    assert f"fewer than 10 films without a label in '{LABELS}' that is known" in got.left_out
    other = read(tmp_path / "b", films, rows, LABELS.replace("chexpert", "negbio"))
    assert other.frame.equals(got.frame)


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    films = [film("a", "AP", 1)]
    with pytest.raises(SourceError, match="a label of some film, 1 or 0"):
        read(tmp_path / "unknown", films, [labels(1, Edema=-1)])
    with pytest.raises(SourceError, match="one row for each study"):
        read(tmp_path / "twice", films, [labels(1, Edema=1), labels(1, Edema=0)])
    with pytest.raises(SourceError, match=f"table '{LABELS}'"):
        read(tmp_path / "absent", films, [labels(1, Edema=1)], "other")
