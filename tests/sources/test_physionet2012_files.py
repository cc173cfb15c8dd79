"""The challenge as people have it on their disks: stray files, other line ends, other names, half-unpacked folders."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from mmnar.errors import SourceError
from mmnar.sources.events import Extract
from mmnar.sources.physionet2012 import read_physionet2012
from mmnar.sources.physionet2012.events import ChallengeEvents

HEADER = "Time,Parameter,Value\n"
STAYS = {
    f"{r}.txt": HEADER + f"00:00,RecordID,{r}\n00:00,Age,{r % 60 + 20}\n00:07,HR,{r % 50 + 60}\n"
    for r in range(132500, 132512)
}
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n" + "".join(
    f"{name[:-4]},6,1,5,-1,{i % 3 == 0:d}\n" for i, name in enumerate(STAYS)
)


def _tree(root: Path) -> Path:
    (root / "set-a").mkdir(parents=True)
    for name, text in STAYS.items():
        (root / "set-a" / name).write_text(text)
    (root / "Outcomes-a.txt").write_text(OUTCOMES)
    return root


def _content(extract: Extract) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Rows and answers."""
    assert isinstance(extract.events, ChallengeEvents)
    assert isinstance(extract.outcomes, ChallengeEvents)
    rows, answers = extract.events.rows, extract.outcomes.rows
    return rows.sort("record", "minute", "parameter").rows(), answers.sort("record").rows()


@pytest.fixture
def clean(tmp_path: Path) -> Extract:
    return read_physionet2012(_tree(tmp_path / "clean"))


def _hidden(root: Path) -> None:
    (root / "set-a" / "._132500.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "set-a" / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
    (root / "set-a" / ".ipynb_checkpoints").mkdir()
    (root / "set-a" / ".ipynb_checkpoints" / "132500-checkpoint.txt").write_text(HEADER)
    (root / "set-a" / "__MACOSX").mkdir()
    (root / "set-a" / "__MACOSX" / "132500.txt").write_bytes(b"\x00\x05")


def _others(root: Path) -> None:
    for name in ("README.txt", "README", "index.html", "132500.csv", "ReadMe.TXT.txt"):
        (root / "set-a" / name).write_text("Each file is one stay.\n")


def _bom(root: Path) -> None:
    for path in (root / "set-a" / "132500.txt", root / "Outcomes-a.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def _line_ends(root: Path) -> None:
    for path, end in (
        (root / "set-a" / "132500.txt", b"\r\n"),
        (root / "set-a" / "132501.txt", b"\r"),
        (root / "Outcomes-a.txt", b"\r\n"),
    ):
        path.write_bytes(path.read_bytes().replace(b"\n", end))


def _utf16(root: Path) -> None:
    for path in (root / "set-a" / "132500.txt", root / "Outcomes-a.txt"):
        path.write_bytes(path.read_text().encode("utf-16"))


def _spaced_header(root: Path) -> None:
    path = root / "set-a" / "132500.txt"
    path.write_text(path.read_text().replace("Time,Parameter,Value", " Time, Parameter ,Value "))


def _nested(root: Path) -> None:
    (root / "set-a").rename(root / "inner")
    (root / "set-a").mkdir()
    (root / "inner").rename(root / "set-a" / "set-a")


def _nested_copy(root: Path) -> None:
    shutil.copytree(root / "set-a", root / "inner")
    (root / "inner").rename(root / "set-a" / "set-a")


def _upper_case(root: Path) -> None:
    for path in list((root / "set-a").iterdir()):
        path.rename(path.with_name(path.name.upper()))
    (root / "set-a").rename(root / "SET-A")
    (root / "Outcomes-a.txt").rename(root / "OUTCOMES-A.TXT")


def _outcomes_by_hand(root: Path) -> None:
    rows = [line.split(",") for line in OUTCOMES.splitlines()]
    order = [[row[5], row[0] + (".0" if row[0].isdecimal() else ""), row[4], row[3]] for row in rows]
    text = "\n\n".join(", ".join(cells) + " " for cells in order)
    (root / "Outcomes-a.txt").write_text(text.replace("RecordID", " recordid ") + "\n,,,\n")


def _packed(root: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path in sorted((root / "set-a").iterdir()):
            for member, content in (
                (f"./set-a/._{path.name}", b"\x00\x05\x16\x07"),
                (f"./set-a/{path.name}", path.read_bytes()),
            ):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    (root / name).write_bytes(pack(held.getvalue()))
    shutil.rmtree(root / "set-a")


def _plain_tar(root: Path) -> None:
    _packed(root, "set-a.tar.gz", bytes)


def _gzip_named_tar(root: Path) -> None:
    _packed(root, "set-a.tar", gzip.compress)


def _tgz(root: Path) -> None:
    _packed(root, "Set-A.tgz", gzip.compress)


def _half_unpacked(root: Path) -> None:
    shutil.copytree(root / "set-a", root / "kept")
    _packed(root, "set-a.tar.gz", gzip.compress)
    (root / "kept").rename(root / "set-a")
    for path in sorted((root / "set-a").iterdir())[4:]:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_hidden, "files passed over: hidden"),
        (_others, "files passed over: their name is not that of a stay"),
        (_bom, ""),
        (_line_ends, ""),
        (_utf16, ""),
        (_spaced_header, ""),
        (_nested, ""),
        (_nested_copy, "12 files passed over: copies of another"),
        (_upper_case, ""),
        (_outcomes_by_hand, ""),
        (_plain_tar, "12 files passed over: hidden"),
        (_gzip_named_tar, "passed over: hidden"),
        (_tgz, "passed over: hidden"),
        (_half_unpacked, "'set-a' is not read: 'set-a.tar.gz' is"),
    ],
)
def test_a_set_is_read_as_people_have_it(
    tmp_path: Path, clean: Extract, change: Callable[[Path], None], said: str
) -> None:
    root = _tree(tmp_path / "changed")
    change(root)
    got = read_physionet2012(root)
    assert _content(got) == _content(clean)
    new = set(got.warnings) - set(clean.warnings)
    assert any(said in warning for warning in new) if said else not new
    assert not re.search(r"1325\d\d", "".join(got.warnings))


def test_days_that_contradict_the_flag_make_an_outcome_unknown(tmp_path: Path) -> None:
    days = {
        # flag, survival, stay → outcome
        132500: (1, 3, 5, 1),
        132501: (1, 9, 5, None),
        132502: (0, 3, 5, None),
        132503: (0, 9, 5, 0),
        132504: (0, -1, 5, 0),
        132505: (1, -1, 5, 1),
        132506: (1, 0, 5, 1),
        132507: (0, 0, 5, 0),
        132508: (1, 9, -1, 1),
        132509: (0, 3, -1, 0),
        132510: (-1, 3, 5, None),
        132511: (0, 5, 5, None),
    }
    root = _tree(tmp_path)
    lines = [f"{record},{survival},{stay},{flag}" for record, (flag, survival, stay, _) in days.items()]
    (root / "Outcomes-a.txt").write_text("\n".join(["RecordID,Survival,Length_of_stay,In-hospital_death", *lines]))
    extract = read_physionet2012(root)
    assert isinstance(extract.outcomes, ChallengeEvents)
    got = {row["record"]: row["value"] for row in extract.outcomes.rows.iter_rows(named=True)}
    assert {record: got.get(record) for record in days} == {record: told for record, (*_, told) in days.items()}
    assert "fewer than 10 outcomes taken as unknown: the flag says alive, the days a death within the stay" in (
        extract.warnings
    )
    assert any("the flag says dead" in warning for warning in extract.warnings)


@pytest.mark.parametrize("content", [HEADER + "00:00,Age,44\n", "no stay"])
def test_a_stay_under_another_name_is_no_stray_file(tmp_path: Path, content: str) -> None:
    root = _tree(tmp_path)
    (root / "set-a" / "132500 (1).txt").write_text(content)
    if content == "no stay":
        assert any("passed over" in warning for warning in read_physionet2012(root).warnings)
    else:
        with pytest.raises(SourceError, match=r"remove it if it is a copy") as caught:
            read_physionet2012(root)
        assert "132500" not in str(caught.value)


def test_a_stay_in_two_sets_is_refused(tmp_path: Path) -> None:
    root = _tree(tmp_path)
    (root / "set-b").mkdir()
    shutil.copy(root / "set-a" / "132500.txt", root / "set-b")
    (root / "Outcomes-b.txt").write_text("RecordID,In-hospital_death\n132500,1\n")
    with pytest.raises(SourceError, match="in one set only") as caught:
        read_physionet2012(root)
    assert "132500" not in str(caught.value)


def _zip(root: Path) -> None:
    shutil.make_archive(str(root / "packed"), "zip", root, "set-a")
    shutil.rmtree(root / "set-a")
    (root / "packed.zip").rename(root / "set-a.tar.gz")


def _semicolons(root: Path) -> None:
    path = root / "set-a" / "132500.txt"
    path.write_text(path.read_text().replace(",", ";"))


def _no_stays(root: Path) -> None:
    for path in (root / "set-a").iterdir():
        path.rename(path.with_suffix(".csv"))


def _two_flags(root: Path) -> None:
    (root / "Outcomes-a.txt").write_text("RecordID,In-hospital_death, in-hospital_death\n132500,0,1\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_zip, "a zip archive; unpack it"),
        (_semicolons, "header Time,Parameter,Value"),
        (_no_stays, "no stay in it"),
        (_two_flags, "several"),
    ],
)
def test_what_is_no_damage_is_not_to_be_downloaded_again(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    root = _tree(tmp_path)
    change(root)
    with pytest.raises(SourceError, match=said) as caught:
        read_physionet2012(root)
    assert "download" not in str(caught.value)
    assert "1325" not in str(caught.value)


def test_every_stay_is_there_once(clean: Extract) -> None:
    assert clean.stays["stay_id"].to_list() == [int(name[:-4]) for name in STAYS]
    assert clean.stays.select(pl.col("set").unique()).item() == "a"
