"""A hand-made challenge of five stays, and the open sets a and b."""

from __future__ import annotations

import gzip
import io
import math
import re
import tarfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmnar.cohort.build import build_cohort
from mmnar.cohort.physionet2012 import physionet2012_criteria, physionet2012_questions
from mmnar.dataset.content import SeriesArrays
from mmnar.dataset.prepare import dataset_of
from mmnar.errors import SourceError
from mmnar.sources.events import Extract, FeatureRule, SeriesRule
from mmnar.sources.physionet2012 import read_physionet2012
from mmnar.sources.physionet2012.events import ChallengeEvents
from tests.records import open_data

HEADER = "Time,Parameter,Value\n"
STAYS = {
    "a": {
        # -1 and what may not be used: 48:01, 9:99, x, unknown names, two cells; a repeat; pH and height put right
        101: "00:00,RecordID,101\n00:00,Age,70\n00:00,Gender,1\n00:00,Height,431.8\n00:00,ICUType,3\n00:00,Weight,-1\n"
        "00:10,HR,80\n47:59,HR,90\n48:00,HR,95\n48:01,HR,300\n09:99,HR,1\n01:00,HR,x\n02:00,Zeal,1\n03:00,HR\n"
        "00:10,HR,80\n04:00,pH,735\n05:00,pH,7.2\n06:00,Temp,-1\n",
        102: "00:00,RecordID,102\n00:00,Age,30\n00:00,Gender,-1\n00:00,Height,-1\n00:00,ICUType,-1\n00:00,Weight,80\n"
        "30:00,Weight,82.5\n",
        103: "",
    },
    "b": {201: "00:00,RecordID,201\r\n00:00,Age,81\r\n10:07,Urine,0\r\n", 202: "00:00,RecordID,202\n"},
}
OUTCOMES = {"a": {101: (1, 3), 102: (0, 9), 103: (0, 8)}, "b": {201: (0, 4), 202: (-1, -1), 999: (1, 2)}}


def _files(letter: str) -> dict[str, bytes]:
    return {f"set-{letter}/{r}.txt": (HEADER + body).encode() for r, body in STAYS[letter].items()}


def _outcomes(letter: str) -> str:
    rows = [f"{r},6,1,{days},-1,{death}" for r, (death, days) in OUTCOMES[letter].items()]
    return "\n".join(["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death", *rows, ""])


def _archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _write(root: Path, unpacked: bool = False, letters: str = "ab") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for letter in letters:
        (root / f"Outcomes-{letter}.txt").write_text(_outcomes(letter))
        if unpacked:
            (root / f"set-{letter}").mkdir()
            for name, content in _files(letter).items():
                (root / name).write_bytes(content)
        else:
            _archive(root / f"set-{letter}.tar.gz", _files(letter))
    return root


def _samples(extract: Extract) -> pl.DataFrame:
    asked = physionet2012_questions()[0].prediction_time
    return (
        extract.stays.sort("stay_id")
        .with_row_index("sample")
        .select(
            pl.col("sample").cast(pl.Int64),
            *("subject_id", "hadm_id", "stay_id"),
            prediction_time=asked,
            since=pl.lit(None, pl.Datetime("us")),
        )
    )


def _past(extract: Extract) -> pl.DataFrame:
    return pl.concat([events.before(part).frame for events, part in extract.events.parts(_samples(extract))])


def test_events_by_hand(tmp_path: Path) -> None:
    extract = read_physionet2012(_write(tmp_path))
    start = datetime(2000, 1, 1)
    got = {
        (row["stay_id"], row["time"] - start, row["code"]): (row["numeric_value"], row["text_value"])
        for row in _past(extract).iter_rows(named=True)
    }
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    expected = {
        (101, 0 * hour, "Age"): (70, None),
        (101, 0 * hour, "Gender"): (1, "Male"),
        (101, 0 * hour, "Height"): (pytest.approx(170), None),
        (101, 0 * hour, "ICUType"): (3, "Medical"),
        (101, 10 * minute, "HR"): (80, None),
        (101, 47 * hour + 59 * minute, "HR"): (90, None),
        (101, 48 * hour, "HR"): (95, None),
        (101, 4 * hour, "pH"): (pytest.approx(7.35), None),
        (101, 5 * hour, "pH"): (pytest.approx(7.2), None),
        (101, 6 * hour, "Temp"): (-1, None),
        (102, 0 * hour, "Age"): (30, None),
        (102, 0 * hour, "Weight"): (80, None),
        (102, 30 * hour, "Weight"): (82.5, None),
        (201, 0 * hour, "Age"): (81, None),
        (201, 10 * hour + 7 * minute, "Urine"): (0, None),
    }
    assert got == expected
    assert _past(extract).height == len(expected)


def test_stays_and_attributes_by_hand(tmp_path: Path) -> None:
    stays = read_physionet2012(_write(tmp_path)).stays
    assert stays.select("stay_id", "set", "sex", "age_group", "icu_type").rows() == [
        (101, "a", "Male", "65-79", "Medical"),
        (102, "a", None, "18-44", None),
        (103, "a", None, None, None),
        (201, "b", None, "80+", None),
        (202, "b", None, None, None),
    ]
    assert (stays["subject_id"] == stays["stay_id"]).all()
    assert (stays["hadm_id"] == stays["stay_id"]).all()


def test_answers_by_hand(tmp_path: Path) -> None:
    extract = read_physionet2012(_write(tmp_path))
    samples = _samples(extract)
    label = physionet2012_questions()[0].label
    answers = pl.concat([label(events.after(part)) for events, part in extract.answers.parts(samples)])
    found = samples.select("sample", "stay_id").join(answers, on="sample").sort("stay_id")
    assert found["label"].to_list() == [True, False, False, False, None]


def test_the_dataset_by_hand(tmp_path: Path) -> None:
    extract = read_physionet2012(_write(tmp_path))
    data = dataset_of(extract, build_cohort(extract, physionet2012_criteria(), physionet2012_questions()))
    assert data.stay_id.tolist() == [101, 102, 103, 201, 202]
    assert data.labels[:, 0].tolist() == [True, False, False, False, False]
    assert data.label_mask[:, 0].tolist() == [True, True, True, True, False]
    vitals = data.values["vitals"]
    assert isinstance(vitals, SeriesArrays)
    # three heart rates of stay 101; its temperature of -1 degrees is implausible
    assert vitals.offsets.tolist() == [0, 3, 3, 3, 3, 3]
    assert vitals.values.tolist() == [80, 90, 95]
    assert vitals.hours.tolist() == pytest.approx([-48 + 1 / 6, -1 / 60, 0])
    described = dict(zip(data.schema.modalities[0].feature_names, data.values["demographics"].T, strict=True))  # type: ignore[union-attr]
    # of stay 201 one descriptor in six is known: too few for the modality to count as present
    np.testing.assert_allclose(described["age"], [70, 30, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(described["height"], [170, np.nan, np.nan, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_allclose(described["weight_first"], [np.nan, 80, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(described["weight_last"], [np.nan, 82.5, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(described["icu_type"], [2, np.nan, np.nan, np.nan, np.nan])
    present = dict(zip(data.schema.modality_names, data.present.T.tolist(), strict=True))
    assert present["vitals"] == [True, False, False, False, False]
    assert present["urine"] == [False, False, False, True, False]
    assert present["arterial_line"] == [False] * 5


def test_the_outcome_and_what_goes_with_it_is_no_input(tmp_path: Path) -> None:
    extract = read_physionet2012(_write(tmp_path))
    read = {code for rule in extract.rules if isinstance(rule, FeatureRule | SeriesRule) for code in rule.codes}
    assert not read & {"In-hospital_death", "SAPS-I", "SOFA", "Length_of_stay", "Survival", "RecordID"}
    assert "In-hospital_death" not in _past(extract)["code"].to_list()


def test_everything_dropped_or_put_right_is_counted(tmp_path: Path) -> None:
    notes = "\n".join(read_physionet2012(_write(tmp_path)).warnings)
    for reason in (
        "rows dropped: not of the form Time,Parameter,Value",
        "rows dropped: a time that is not HH:MM",
        "rows dropped: a time after 48 h",
        "rows dropped: a value that is no number",
        "rows dropped: a parameter that the challenge does not name",
        "rows dropped: a repeat of another of its stay",
        "values put right: a pH without its point",
        "values put right: a height in cm taken for inches",
        "rows of outcomes dropped: no such stay",
        "stays without an outcome",
    ):
        assert f"fewer than 10 {reason}" in notes
    assert "entry times are not told" in notes
    assert not re.search(r"\d{3}", notes), "an identifier or a value"


def test_folders_and_archives_give_the_same(tmp_path: Path) -> None:
    packed = read_physionet2012(_write(tmp_path / "packed"))
    unpacked = read_physionet2012(_write(tmp_path / "unpacked", unpacked=True))
    assert packed.fingerprint == unpacked.fingerprint
    assert packed.stays.equals(unpacked.stays)
    assert _past(packed).equals(_past(unpacked))


def test_the_fingerprint_follows_content(tmp_path: Path) -> None:
    before = read_physionet2012(_write(tmp_path / "one", unpacked=True)).fingerprint
    other = _write(tmp_path / "two", unpacked=True)
    (other / "set-b" / "201.txt").write_text(HEADER + "00:00,Age,82\n")
    assert read_physionet2012(other).fingerprint != before


def test_one_set_is_enough(tmp_path: Path) -> None:
    assert read_physionet2012(_write(tmp_path, letters="a")).stays["stay_id"].to_list() == [101, 102, 103]


def test_parts_hold_every_sample_once_with_all_its_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = read_physionet2012(_write(tmp_path))
    whole = _past(extract)
    monkeypatch.setattr("mmnar.sources.physionet2012.events._STAYS_PER_PART", 2)
    parts = list(extract.events.parts(_samples(extract)))
    assert [part["stay_id"].to_list() for _, part in parts] == [[101, 102], [103, 201], [202]]
    order = ["sample", "time", "code"]
    assert pl.concat([e.before(part).frame for e, part in parts]).sort(order).equals(whole.sort(order))


def _cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_off_archive_is_refused(tmp_path: Path, share: float) -> None:
    _write(tmp_path)
    noise = {f"set-a/{r}.txt": (HEADER + f"{r % 48:02d}:00,HR,{r}\n" * 20).encode() for r in range(300, 400)}
    _archive(tmp_path / "set-a.tar.gz", noise)
    _cut(tmp_path / "set-a.tar.gz", share)
    with pytest.raises(SourceError, match="set-a"):
        read_physionet2012(tmp_path)


def test_a_flipped_byte_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path) / "set-a.tar.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # the checksum
    path.write_bytes(content)
    with pytest.raises(SourceError, match="truncated or corrupt"):
        read_physionet2012(tmp_path)


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "set-b.tar.gz").write_bytes(gzip.compress(b"not a tar at all" * 100))
    with pytest.raises(SourceError, match="set-b"):
        read_physionet2012(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("104.txt", b"", "does not begin with"),
        ("104.txt", b"a,b,c\n", "does not begin with"),
        ("104.txt", b"Time,Parameter,Value\n\xff\xfe\n", "no text"),
        ("104.txt", b"Time,Parameter,Value\n00:00,RecordID,105\n", "files of another record"),
        ("201.txt", b"Time,Parameter,Value\n", "in one set only"),
        ("notes.txt", b"Time,Parameter,Value\n", "not a RecordID"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    _write(tmp_path, unpacked=True)
    (tmp_path / "set-a" / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        read_physionet2012(tmp_path)
    assert "201" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "cannot be parsed"),
        ("RecordID,SOFA\n101,1\n", "a column 'In-hospital_death'"),
        ("RecordID,In-hospital_death\n101,1\n101,0\n", "fewer than 10 repeats"),
        ("RecordID,In-hospital_death\n101,dead\n", "fewer than 10 other rows"),
        ("RecordID,In-hospital_death\n101,7\n", "fewer than 10 other rows"),
        ("RecordID,In-hospital_death\n,1\n", "fewer than 10 other rows"),
    ],
)
def test_bad_outcomes_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = _write(tmp_path) / "Outcomes-a.txt"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(SourceError, match=message):
        read_physionet2012(tmp_path)


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none of them"):
        read_physionet2012(tmp_path)
    with pytest.raises(SourceError, match="a folder"):
        read_physionet2012(tmp_path / "nowhere")
    (tmp_path / "set-a").mkdir()
    (tmp_path / "Outcomes-a.txt").write_text(_outcomes("a"))
    with pytest.raises(SourceError, match="no stay"):
        read_physionet2012(tmp_path)


def test_open_sets() -> None:
    extract = read_physionet2012(open_data("physionet2012"))
    assert isinstance(extract.events, ChallengeEvents)
    assert isinstance(extract.outcomes, ChallengeEvents)
    deaths = extract.outcomes.rows
    by_set = deaths.join(extract.stays.with_columns(record=pl.col("stay_id").cast(pl.Int32)), on="record")
    shares = by_set.group_by("set").agg(pl.len(), pl.col("value").mean()).sort("set").rows()
    # the challenge's own figures: 554 of 4,000 and 568 of 4,000
    assert [(s, n, round(v * n)) for s, n, v in shares] == [("a", 4000, 554), ("b", 4000, 568)]
    # wc -l over all files, less the headers, the RecordIDs and the descriptors of -1
    assert extract.events.rows.height == 3_520_515 - 8_000 - (8 + 3_824 + 673)
    assert not any("rows dropped" in w for w in extract.warnings)
    first = extract.events.rows.filter(record=132539, parameter="HR").sort("minute").row(0)
    assert first[1] == 7
    assert math.isclose(first[3], 73)
