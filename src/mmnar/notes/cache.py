"""Vectors of notes, kept by content: the same text through the same encoder is never encoded twice.

Layout: ``CACHE/<hash of the encoder's identity>/<hash of the shard's bytes>.safetensors``. A shard holds ``keys``
(K, 32) uint8, ``starts`` (K + 1,) int64 and ``vectors`` (S, D) float32: not float16, so that a resumed run gives the
numbers of an uninterrupted one. Names and contents are hashes and numbers; no text is written anywhere. A shard is
there whole or not at all, and its name tells whether it is still what was written. Two runs may share a cache.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.errors import RequirementError, SchemaError
from mmnar.files import write_whole
from mmnar.notes.clean import clean
from mmnar.notes.encoder import TextEncoder, without_text

BLOCK: Final = 512
"""Notes looked up, and at most held unsaved, at a time."""

BATCH: Final = 32
"""Notes handed to the encoder at a time."""

SAVE_SECONDS: Final = 30.0
"""Longest work that a kill can undo, but for the batch in hand."""

_MADE_UP: Final = "Chest pain since noon."
"""A note that every encoder can turn into vectors."""

Progress = Callable[[int, int], None]
"""Called with (notes done, notes in all)."""

Vectors = NDArray[np.float32]


def encode_cached(
    texts: Sequence[str], encoder: TextEncoder, cache: Path, progress: Progress | None = None
) -> list[Vectors]:
    """``list(iterate_cached(...))``: one (n_i, D) array per note, in order."""
    return list(iterate_cached(texts, encoder, cache, progress))


def iterate_cached(
    texts: Sequence[str], encoder: TextEncoder, cache: Path, progress: Progress | None = None
) -> Iterator[Vectors]:
    """Vectors of each note, in order, encoding only what the cache does not hold.

    Held in memory: the vectors of at most ``BLOCK`` notes and the cache's index (about 200 bytes a note).
    Interrupted, even by a kill, it goes on where it was last saved, at most ``SAVE_SECONDS`` and one batch back.

    Args:
        texts: Notes, raw; equal ones after cleaning are encoded once.
        encoder: What makes the vectors; its ``identity`` is part of every key.
        cache: A folder, made where absent. Use one folder for all encoders.
        progress: Called after each batch and each block.

    Yields:
        (n_i, D) float32, read-only; (0, D) for a note that is blank once cleaned, or on which alone the encoder fails.

    Raises:
        SchemaError: The encoder gave something other than one finite (n_i ≥ 1, D) float32 array per note.
        RequirementError: The encoder fails on whatever it is given; the message holds no text.
        OSError: The cache cannot be written.
    """
    held = _Cache(cache / hashlib.sha256(encoder.identity.encode()).hexdigest()[:32], encoder.width)
    for start in range(0, len(texts), BLOCK):
        cleaned = [clean(text) for text in texts[start : start + BLOCK]]
        keys = [_key(encoder.identity, text) if text else b"" for text in cleaned]
        missing = {key: text for key, text in zip(keys, cleaned, strict=True) if key and key not in held}
        ready = sum(1 for key in keys if key not in missing)

        def report(encoded: int, done: int = start + ready) -> None:
            if progress is not None:
                progress(done + encoded, len(texts))

        _encode_missing(missing, encoder, held, report)
        vectors = held.read({key for key in keys if key in held})
        report(len(keys) - ready)
        nothing = np.zeros((0, encoder.width), dtype=np.float32)
        yield from (vectors.get(key, nothing) for key in keys)


def _key(identity: str, text: str) -> bytes:
    """sha256 over the encoder's identity and the cleaned text; the identity's own hash has one length."""
    return hashlib.sha256(hashlib.sha256(identity.encode()).digest() + text.encode()).digest()


def _encode_missing(
    missing: dict[bytes, str], encoder: TextEncoder, held: _Cache, report: Callable[[int], None]
) -> None:
    """Encode what is missing, batch by batch, notes of like length together; save whatever happens."""
    order = sorted(missing, key=lambda key: len(missing[key]))
    fresh: dict[bytes, Vectors] = {}
    saved = time.monotonic()
    try:
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            encoded = _each(encoder, [missing[key] for key in batch])
            fresh.update((key, vectors) for key, vectors in zip(batch, encoded, strict=True) if vectors is not None)
            report(start + len(batch))
            if time.monotonic() - saved > SAVE_SECONDS:
                held.add(fresh)
                fresh, saved = {}, time.monotonic()
    finally:
        held.add(fresh)


def _each(encoder: TextEncoder, texts: list[str]) -> list[Vectors | None]:
    """Vectors of each note; None for one on which alone the encoder fails.

    Raises:
        RequirementError: It fails on a made-up note, too.
    """
    try:
        return list(_checked(encoder, texts))
    except RequirementError:
        pass
    found: list[Vectors | None] = [None]
    if len(texts) > 1:
        found = [_alone(encoder, text) for text in texts]
    if all(vectors is None for vectors in found):
        _checked(encoder, [_MADE_UP])
    return found


def _alone(encoder: TextEncoder, text: str) -> Vectors | None:
    try:
        return _checked(encoder, [text])[0]
    except RequirementError:
        return None


def _checked(encoder: TextEncoder, texts: list[str]) -> list[Vectors]:
    vectors = without_text("notes encoder", lambda: encoder.encode(texts))
    fits = len(vectors) == len(texts) and all(
        v.ndim == 2 and len(v) > 0 and v.shape[1] == encoder.width and v.dtype == np.float32 and np.isfinite(v).all()
        for v in vectors
    )
    if not fits:
        raise SchemaError(
            "notes encoder", f"one finite (n, {encoder.width}) float32 array per note", "others", "correct the encoder"
        )
    return vectors


class _Cache:
    """The shards of one encoder: which keys they hold, and where."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder, self._width = folder, width
        self._places: dict[bytes, tuple[Path, int, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        damaged = 0
        for shard in sorted(folder.glob("[!.]*.safetensors")):
            written = shard.stat()
            if _is_whole(shard, written.st_size, written.st_mtime_ns):
                self._index(shard)
            else:
                shard.unlink(missing_ok=True)
                damaged += 1
        if damaged:
            message = f"notes cache: {damaged} damaged shard(s) removed; the notes they held are encoded again"
            warnings.warn(message, stacklevel=4)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def add(self, fresh: dict[bytes, Vectors]) -> None:
        """Write one shard; nothing where ``fresh`` is empty."""
        from safetensors.numpy import save

        if not fresh:
            return
        content = save(
            {
                "keys": np.frombuffer(b"".join(fresh), dtype=np.uint8).reshape(-1, 32),
                "starts": np.cumsum([0, *map(len, fresh.values())], dtype=np.int64),
                "vectors": np.concatenate(list(fresh.values())),
            }
        )
        shard = self._folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        write_whole(shard, lambda path: path.write_bytes(content))
        self._index(shard)

    def read(self, keys: set[bytes]) -> dict[bytes, Vectors]:
        """Vectors of keys that are held, each shard opened once."""
        by_shard: dict[Path, list[bytes]] = {}
        for key in keys:
            by_shard.setdefault(self._places[key][0], []).append(key)
        found: dict[bytes, Vectors] = {}
        for shard, wanted in by_shard.items():
            with _opened(shard) as tensors:
                rows = tensors.get_slice("vectors")
                for key in wanted:
                    _, start, stop = self._places[key]
                    found[key] = rows[start:stop]
                    found[key].flags.writeable = False
        return found

    def _index(self, shard: Path) -> None:
        with _opened(shard) as tensors:
            keys, starts = tensors.get_tensor("keys"), tensors.get_tensor("starts").tolist()
        for row, key in enumerate(keys):
            self._places[key.tobytes()] = (shard, starts[row], starts[row + 1])


@lru_cache(maxsize=100_000)
def _is_whole(shard: Path, size: int, modified: int) -> bool:
    """Whether a shard still has the hash it is named by; asked once a process for a file of that size and time."""
    return hashlib.sha256(shard.read_bytes()).hexdigest() == shard.stem


def _opened(shard: Path) -> Any:
    from safetensors import safe_open

    return safe_open(shard, framework="np")
