"""The command's boundary: what can be expected to fail is one line; a fault of ours shows no cell."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mmnar import cli
from mmnar.errors import ConfigError, StoreError
from mmnar.faults import in_one_line
from mmnar.files import write_text
from mmnar.lock import alone

CELL = "10000032 has HIV"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``mmnar models`` fails as it is told to."""

    def fail(error: BaseException) -> None:
        def raising() -> None:
            raise error

        monkeypatch.setattr("mmnar.estimators.registry.model_names", raising)

    return fail


def said(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["models"])
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO])
def test_failures_of_the_machine_are_one_line(failing: Any, capsys: pytest.CaptureFixture[str], number: int) -> None:
    failing(OSError(number, CELL, "out/model"))
    status, err = said(capsys)
    assert status == 2
    assert err.startswith("mmnar: 'out/model': expected ")
    assert err.count("\n") == 1
    assert CELL not in err


def foreign() -> list[BaseException]:
    found: list[BaseException] = [MemoryError(CELL), RecursionError(CELL), EOFError(CELL), OSError(CELL)]
    found += [pl.exceptions.ComputeError(CELL), UnicodeDecodeError("utf-8", CELL.encode(), 0, 1, CELL)]
    return found


@pytest.mark.parametrize("error", foreign(), ids=lambda e: type(e).__name__)
def test_what_other_libraries_say_of_files_is_not_passed_on(
    failing: Any, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    failing(error)
    status, err = said(capsys)
    assert status == 2
    assert err.startswith("mmnar: ")
    assert err.count("\n") == 1
    assert "HIV" not in err
    assert "10000032" not in err


def test_a_fault_of_ours_shows_where_it_came_up_and_no_cell(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyError(CELL))
    status, err = said(capsys)
    assert status == 1
    assert err.startswith("mmnar: a fault of mmnar: KeyError; please report it")
    assert "mmnar/cli/run.py:" in err
    assert "HIV" not in err


def test_an_interrupt_is_status_130(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyboardInterrupt())
    assert said(capsys)[0] == 130


def test_a_path_of_a_patient_is_cut() -> None:
    line = in_one_line(PermissionError(errno.EACCES, "", "cxr/files/p10/p10000032/s50414267/02aa804e.jpg"))
    assert line is not None
    assert "cxr/files/p10/" in line
    assert "10000032" not in line
    line = in_one_line(PermissionError(errno.EACCES, "", "set-a/132539.txt"))
    assert line is not None
    assert "132539" not in line


def test_a_full_disk_names_the_file_that_the_reader_knows(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    from mmnar.files import write_whole

    write_text(tmp_path / "result.json", "old")
    with pytest.raises(OSError) as error:
        write_whole(tmp_path / "result.json", full)
    assert error.value.filename == str(tmp_path / "result.json")
    assert (tmp_path / "result.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_stdout_that_takes_nothing_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mmnar", "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert "room on the disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_output_below_a_file_or_in_a_strange_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/out"), tmp_path / ("x" * 300)):
        for verb in (
            ["prepare", "synthetic", "--patients", "20"],
            ["simulate", "eicu", "--patients", "5"],
            ["train", str(tmp_path / "none"), "--model", "pattern-only"],
            ["describe", str(tmp_path / "none")],
            ["report", str(tmp_path / "none")],
            ["evaluate", str(tmp_path / "none")],
            ["study", str(tmp_path / "none.yaml")],
        ):
            with pytest.raises(SystemExit) as end:
                cli.main([*verb, "--out", str(out)])
            err = capsys.readouterr().err
            assert end.value.code == 2, (verb, out, err)
            assert err.startswith("mmnar: "), (verb, out, err)


def test_a_place_that_takes_no_lock_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").mkdir()  # in the way, even for an administrator
    with pytest.raises(OSError) as error, alone(tmp_path / "out"):
        pass
    assert error.value.filename == str(tmp_path / "out")


def test_errors_of_ours_are_told_as_they_are() -> None:
    for kind in (StoreError, ConfigError):
        error = kind("a", "b", "c", "d")
        assert in_one_line(error) == str(error)
