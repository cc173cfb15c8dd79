"""The cache: nothing encoded twice, not even after a kill; damage is seen; no text is left anywhere."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmnar.errors import RequirementError, SchemaError
from mmnar.notes import cache as module
from mmnar.notes import clean, encode_cached
from mmnar.notes.cache import BATCH, BLOCK


class Counting:
    """One to three rows per note, made from the note's characters alone; counts what it is asked."""

    width = 4

    def __init__(self, identity: str = "counting-1") -> None:
        self.identity = identity
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        self.asked.extend(texts)
        return [self.vector(text) for text in texts]

    @staticmethod
    def vector(text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(text.encode()[-8:], "big")
        return np.random.default_rng(seed).normal(size=(1 + len(text) % 3, 4)).astype(np.float32)


def notes(n: int) -> list[str]:
    return [f"{'word ' * (i % 17)}note {i}" for i in range(n)]


def same(left: list[NDArray[np.float32]], right: list[NDArray[np.float32]]) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def test_order_duplicates_and_blank_notes(tmp_path: Path) -> None:
    texts = notes(BLOCK + 100)
    texts = texts + texts[::-7] + ["___", "  note 3\n", "note 3"]
    encoder = Counting()
    vectors = encode_cached(texts, encoder, tmp_path)
    assert sorted(encoder.asked) == sorted({clean(t) for t in texts} - {""})
    assert vectors[-3].shape == (0, 4)
    assert same(vectors, [encoder.vector(clean(t)) if clean(t) else np.zeros((0, 4), np.float32) for t in texts])
    again = Counting()
    assert same(encode_cached(texts[::-1], again, tmp_path)[::-1], vectors)
    assert again.asked == []
    assert encode_cached([], again, tmp_path) == []


def test_another_encoder_shares_nothing(tmp_path: Path) -> None:
    encode_cached(notes(5), Counting(), tmp_path)
    other = Counting("counting-2")
    encode_cached(notes(5), other, tmp_path)
    assert len(other.asked) == 5


def test_progress_rises_to_all(tmp_path: Path) -> None:
    texts = notes(BLOCK + 50) + notes(20)
    encode_cached(texts[:100], Counting(), tmp_path)
    seen: list[tuple[int, int]] = []
    encode_cached(texts, Counting(), tmp_path, lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (len(texts), len(texts))
    assert len(seen) > len(texts) // BATCH - 5


def test_an_interrupted_run_keeps_what_it_encoded(tmp_path: Path) -> None:
    class Fails(Counting):
        def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
            if len(self.asked) >= 4 * BATCH:
                raise KeyboardInterrupt
            return super().encode(texts)

    first, second = Fails(), Counting()
    with pytest.raises(KeyboardInterrupt):
        encode_cached(notes(300), first, tmp_path)
    encode_cached(notes(300), second, tmp_path)
    assert len(first.asked) == 4 * BATCH
    assert not set(first.asked) & set(second.asked)


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from mmnar.notes import cache
from tests.notes.test_cache import Counting, notes
cache.BATCH, cache.BLOCK, cache.SAVE_SECONDS = 4, 64, 0.0
folder = Path(sys.argv[1])
class Slow(Counting):
    def encode(self, texts):
        time.sleep(.01)
        with (folder / "asked.txt").open("a") as log:
            log.writelines(text + "\\n" for text in texts)
        return super().encode(texts)
print("ready", flush=True)
cache.encode_cached(notes(400), Slow(), folder / "cache")
print("done", flush=True)
"""


def test_a_killed_run_goes_on_without_encoding_a_saved_note_again(tmp_path: Path) -> None:
    rng = random.Random(0)
    log = tmp_path / "asked.txt"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    saved: set[bytes] = set()
    kills = 0
    while True:
        before = len(log.read_text().splitlines()) if log.is_file() else 0
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            if kills < 5:
                time.sleep(rng.uniform(0.05, 0.35))
                run.send_signal(signal.SIGKILL)
            finished = run.stdout.readline() == "done\n"
        asked = {module._key("counting-1", text) for text in log.read_text().splitlines()[before:]}
        assert not asked & saved
        folder = next((tmp_path / "cache").iterdir())
        saved = set(module._Cache(folder, 4)._places)
        if finished:
            break
        kills += 1
    assert kills == 5
    assert len(saved) == 400
    assert len(log.read_text().splitlines()) <= 400 + 4 * kills  # the batch in hand
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        last = Counting()
        assert same(encode_cached(notes(400), last, tmp_path / "cache"), [Counting.vector(t) for t in notes(400)])
    assert last.asked == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_seen_and_encoded_again(tmp_path: Path, damage: str) -> None:
    texts = notes(BLOCK + 30)
    whole = encode_cached(texts, Counting(), tmp_path)
    shard = min(tmp_path.rglob("*.safetensors"), key=lambda p: p.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes({"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[damage])
    encoder = Counting()
    with pytest.warns(UserWarning, match="1 damaged shard") as caught:
        assert same(encode_cached(texts, encoder, tmp_path), whole)
    assert 0 < len(encoder.asked) <= 30 + 1
    assert "note 5" not in "".join(str(w.message) for w in caught).replace("notes", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(encode_cached(texts, Counting(), tmp_path), whole)


def test_no_text_is_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encode_cached(["unmistakable words of a patient"], Counting(), tmp_path)

    class Fails(Counting):
        def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
            raise ValueError(texts[0])

    with pytest.raises(RequirementError) as caught:
        encode_cached(["unmistakable words of another"], Fails(), tmp_path)
    assert caught.value.__context__ is None
    left = [p.name.encode() + (p.read_bytes() if p.is_file() else b"") for p in tmp_path.rglob("*")]
    everything = b"".join(left) + str(caught.value).encode() + "".join(capfd.readouterr()).encode()
    assert b"unmistakable" not in everything
    assert "counting" not in "".join(p.name for p in tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [np.zeros((0, 4), np.float32)],
        [np.zeros((1, 5), np.float32)],
        [np.zeros((1, 4))],
        [np.full((1, 4), np.nan, np.float32)],
        [np.zeros(4, np.float32)],
    ],
)
def test_encoders_that_break_their_word_are_refused(tmp_path: Path, wrong: list[NDArray[np.float32]]) -> None:
    class Wrong(Counting):
        def encode(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
            return wrong

    with pytest.raises(SchemaError, match="float32 array per note"):
        encode_cached(["text"], Wrong(), tmp_path)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_vectors_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        encode_cached(["text"], Counting(), tmp_path)[0][:] = 0
