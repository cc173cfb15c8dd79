"""One writer at a time, and nobody is held up by the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmnar.errors import StoreError
from mmnar.lock import alone, contents, fresh_folder

HOLD = "import sys, time\nfrom pathlib import Path\nfrom mmnar.lock import alone\n"
FORKS = "import os\nif os.fork() == 0:\n    time.sleep(30)\n    os._exit(0)\n"


def holder(folder: Path, more: str = "") -> subprocess.Popen[str]:
    code = HOLD + f"with alone(Path({str(folder)!r})):\n"
    body = more + "print('held', flush=True)\ntime.sleep(60)\n"
    code += "".join(f"    {line}\n" for line in body.splitlines())
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("more", ["", FORKS], ids=["alone", "with a child that outlives it"])
def test_the_second_is_refused_at_once_and_a_kill_leaves_nothing_held(tmp_path: Path, more: str) -> None:
    out = tmp_path / "out"
    process = holder(out, more)
    group = process.pid
    try:
        with pytest.raises(StoreError, match="another process"), alone(out):
            pass
        os.kill(process.pid, signal.SIGKILL)  # the parent alone
        process.wait()
        with alone(out):
            assert contents(out) == []
    finally:
        if more:
            os.killpg(group, signal.SIGKILL)
    assert not (out / ".lock").exists()


def test_the_same_thread_may_ask_again_another_may_not(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with alone(tmp_path):
                pass
        except StoreError as error:
            refused.append(str(error))

    with alone(tmp_path):
        with alone(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    with alone(tmp_path):
        pass


def test_many_at_once_are_never_two(tmp_path: Path) -> None:
    """Lock files come and go while others take them: whoever is in finds nobody else in."""
    code = HOLD + (
        "import os, random\nout, inside = Path(sys.argv[1]), Path(sys.argv[2])\ntimes = 0\n"
        "from mmnar.errors import StoreError\n"
        "end = time.time() + 1\n"
        "while time.time() < end:\n"
        "    try:\n"
        "        with alone(out):\n"
        "            handle = os.open(inside, os.O_CREAT | os.O_EXCL)\n"
        "            os.close(handle)\n"
        "            inside.unlink()\n"
        "            times += 1\n"
        "    except StoreError:\n"
        "        pass\n"
        "print(times)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out"), str(tmp_path / "inside")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert sum(int(count) for count in counts) > 0


def test_a_folder_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError), alone(tmp_path / "new"):
        raise ValueError
    assert not (tmp_path / "new").exists()
    with alone(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    assert contents(tmp_path / "new") == ["file"]


def test_simulated_records_have_one_writer_and_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    left, words = tmp_path / ".tmp-out-0a1b2c3d", []
    left.mkdir()

    def second() -> None:
        try:
            fresh_folder(tmp_path / "out", lambda folder: (folder / "theirs").touch())
        except StoreError as error:
            words.append(str(error))

    def write(folder: Path) -> None:
        assert not left.exists()
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        (folder / "table").touch()

    fresh_folder(tmp_path / "out", write)
    assert len(words) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert contents(tmp_path / "out") == ["table"]
