"""Released chest X-ray embeddings: one small TFRecord file per image → one array and its index. No TensorFlow.

A file holds one record: length (8 bytes, little endian), its masked CRC-32C (4), payload, the payload's masked CRC-32C
(4). The payload is a ``tf.train.Example`` in protocol buffer encoding; its feature ``embedding`` is a list of 1,376
float32. Layout, as in "Generalized Image Embeddings for the MIMIC Chest X-Ray dataset" (doi:10.13026/pxc2-vx69)::

    files/p10/p10000032/s50414267/<dicom_id>.tfrecord       p + first two digits of subject_id

A path names a patient, so no message holds one: files are counted, by what is wrong with them.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mmnar.errors import SourceError, StoreError
from mmnar.files import first_changed, read_sealed, sha256_of, write_sealed, write_whole
from mmnar.parquet import save
from mmnar.privacy import counted
from mmnar.progress import Pace, say
from mmnar.sources.reading.visible import is_hidden

WIDTH: Final = 1376
"""Numbers in one released embedding."""

INDEX_SCHEMA: Final[dict[str, pl.DataType]] = {
    "dicom_id": pl.String(),
    "study_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "row": pl.Int64(),
}

_BLOCK: Final = 4096
_MAX_BYTES: Final = 1 << 20
_HEADER: Final = 12
_KEY: Final = b"embedding"
_KIND: Final = "embedding file (.tfrecord)"

_UNREADABLE: Final = "cannot be read"
_TRUNCATED: Final = "are cut off"
_TRAILING: Final = "hold more than one record"
_CHECKSUM: Final = "fail their checksum"
_MALFORMED: Final = "hold no tf.Example"
_NO_KEY: Final = "have no feature 'embedding'"
_NO_FLOATS: Final = "hold no list of floats under 'embedding'"
_LENGTH: Final = f"hold a number of floats other than {WIDTH:,}"
_NOT_FINITE: Final = "hold numbers that are not finite"
_REPEATED: Final = "repeat a dicom_id"
_ELSEWHERE: Final = "lie outside the layout files/p../p<subject_id>/s<study_id>/"


class _BadFileError(Exception):
    """What is wrong with one file, worded so that a count can stand before it."""


@dataclass(frozen=True)
class PackedEmbeddings:
    """Embeddings in one array.

    Args:
        array: ``.npy`` file, (V, 1376) float32.
        index_file: Parquet file of ``index``.
        index: ``INDEX_SCHEMA``: what image each row of ``array`` was made from; V rows, ``row`` = 0 … V-1.
        fingerprint: Hash of the array and the index.
        notes: What was dropped, with counts.
    """

    array: Path
    index_file: Path
    index: pl.DataFrame
    fingerprint: str
    notes: tuple[str, ...]


def read_embedding(path: Path) -> NDArray[np.float32]:
    """The embedding in one file; (1376,) float32.

    Raises:
        SourceError: The file cannot be read, is damaged or holds something else.
    """
    rows, reasons = _decode([_bytes_of(path)])
    if reasons[0]:
        raise SourceError(
            _KIND, f"one tf.Example with {WIDTH:,} floats", f"1 of 1 files that {reasons[0]}", "download it again"
        )
    return np.asarray(rows[0])


def pack_embeddings(
    root: Path, out: Path, wanted: Collection[str] | None = None, workers: int = 16
) -> PackedEmbeddings:
    """Pack all embedding files below ``root`` into one array, once.

    A killed packing goes on where it stopped: blocks of 4,096 files are kept until the whole is written. A packing that
    is complete is used as it is while the listing (names, sizes, times of the files) is the same.

    Args:
        root: The released folder, with ``files`` in it. Read-only.
        out: Folder to write ``embeddings.npy``, ``embeddings.parquet`` and ``embeddings.json`` to.
        wanted: The dicom_ids to pack; None = all.
        workers: Threads that list and read; worth many where the files lie on a network.

    Raises:
        SourceError: There is no folder ``files``, no embedding in it, or none of the embeddings can be used.
    """
    listing, skipped = _listing(root, None if wanted is None else frozenset(wanted), workers)
    out.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("".join(_identity(e) for e in listing).encode()).hexdigest()
    done = _finished(out, key)
    if done is not None:
        return done
    parts = out / "parts"
    parts.mkdir(exist_ok=True)
    blocks = [listing[i : i + _BLOCK] for i in range(0, len(listing), _BLOCK)]
    say("released embeddings: packing")
    pace, files = Pace(), []
    for number, block in enumerate(blocks, 1):
        files.append(_pack_block(root, parts, block, workers))
        pace.say(f"released embeddings: {number} of {len(blocks)} blocks packed")
    dropped = skipped + Counter(r for file in files for r in _load(file, "reasons").tolist() if r)
    packed = _join(out, key, blocks, files, dropped)
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()
    return packed


# --- listing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    path: str
    size: int
    time: int
    subject_id: int
    study_id: int
    dicom_id: str


def _identity(entry: _Entry) -> str:
    return f"{entry.path} {entry.size} {entry.time}\n"


def _listing(root: Path, wanted: frozenset[str] | None, workers: int) -> tuple[list[_Entry], Counter[str]]:
    """The wanted files in order of their paths, each dicom_id once; what was left out."""
    top = root / "files"
    if not top.is_dir():
        raise SourceError(
            "released embeddings", "a folder 'files' in the data root", "none", "give the folder as downloaded"
        )
    skipped: Counter[str] = Counter()
    try:
        subjects = [s for group in _folders(top) for s in _folders(group.path)]
        with ThreadPoolExecutor(workers) as pool:
            found = [e for entries in pool.map(lambda s: list(_of_subject(root, s)), subjects) for e in entries]
    except OSError as error:
        # its own message names a patient's folder
        raise SourceError(
            "released embeddings", "folders that can be listed", type(error).__name__, "check the permissions"
        ) from None
    entries: dict[str, _Entry] = {}
    for _, entry in sorted(found, key=lambda pair: pair[0]):
        if entry is None:
            skipped[_ELSEWHERE] += 1
        elif wanted is not None and entry.dicom_id not in wanted:
            continue
        elif entry.dicom_id in entries:
            skipped[_REPEATED] += 1
        else:
            entries[entry.dicom_id] = entry
    if not entries:
        raise SourceError(
            "released embeddings",
            "at least one wanted file files/p../p<subject_id>/s<study_id>/<dicom_id>.tfrecord",
            f"none among {len(found):,} .tfrecord files",
            "check the data root",
        )
    return list(entries.values()), skipped


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return sorted((e for e in entries if e.is_dir() and not is_hidden(PurePath(e.name))), key=lambda e: e.name)


def _of_subject(root: Path, subject: os.DirEntry[str]) -> Iterator[tuple[str, _Entry | None]]:
    """Relative path and entry of each embedding file of a subject; None where a folder's name does not fit."""
    for study in _folders(subject.path):
        with os.scandir(study.path) as files:
            for file in files:
                if file.name.lower().endswith(".tfrecord") and not is_hidden(PurePath(file.name)):
                    yield _entry(root, file)


def _entry(root: Path, file: os.DirEntry[str]) -> tuple[str, _Entry | None]:
    path = Path(file.path).relative_to(root).as_posix()
    match = re.fullmatch(r"files/p[0-9]+/p([0-9]{1,18})/s([0-9]{1,18})/([^/]+)\.tfrecord", path, re.IGNORECASE)
    if match is None:
        return path, None
    try:
        stat = file.stat()
        size, time = stat.st_size, stat.st_mtime_ns
    except OSError:
        # e.g. a link to nowhere; reading it will fail and be counted
        size, time = -1, -1
    return path, _Entry(path, size, time, int(match[1]), int(match[2]), match[3])


# --- packing ----------------------------------------------------------------------------------------------------------


def _pack_block(root: Path, parts: Path, block: Sequence[_Entry], workers: int) -> Path:
    """File with ``rows`` (good ones) and ``reasons`` (per file, "" = good) of a block; made unless it is there."""
    # the name tells whether it is this block's: an earlier run may have seen other files
    target = parts / (hashlib.sha256("".join(_identity(e) for e in block).encode()).hexdigest()[:32] + ".npz")
    if _is_whole(target):
        return target
    with ThreadPoolExecutor(workers) as pool:
        rows, reasons = _decode(list(pool.map(lambda e: _bytes_of(root / e.path), block)))
    good = rows[[not r for r in reasons]]
    write_whole(target, lambda path: _save(path, good, np.array(reasons)))
    return target


def _is_whole(part: Path) -> bool:
    """Whether a block is there and its checksums hold."""
    try:
        return len(_load(part, "reasons")) > 0 and _load(part, "rows").shape[1:] == (WIDTH,)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return False


def _save(path: Path, rows: NDArray[np.float32], reasons: NDArray[np.str_]) -> None:
    with path.open("wb") as handle:
        np.savez(handle, rows=rows, reasons=reasons)


def _load(path: Path, name: str) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]  # type: ignore[no-any-return]


def _join(
    out: Path, key: str, blocks: Sequence[Sequence[_Entry]], files: Sequence[Path], dropped: Counter[str]
) -> PackedEmbeddings:
    """Write array, index and, last, what makes them valid."""
    index = _index(blocks, files)
    if index.is_empty():
        total = sum(map(len, blocks))
        raise SourceError(
            _KIND, "at least one that can be read", f"none of {total:,}: {_worded(dropped)}", "download them again"
        )
    (out / "embeddings.json").unlink(missing_ok=True)
    digest = hashlib.sha256(index.write_csv().encode())

    def write_array(path: Path) -> None:
        with path.open("wb") as handle:
            header = {"descr": "<f4", "fortran_order": False, "shape": (index.height, WIDTH)}
            np.lib.format.write_array_header_1_0(handle, header)
            for file in files:
                rows = _load(file, "rows").astype("<f4").tobytes()
                digest.update(rows)
                handle.write(rows)

    write_whole(out / "embeddings.npy", write_array)
    write_whole(out / "embeddings.parquet", partial(save, index))
    notes = tuple(f"released embeddings: {counted(n)} files dropped that {why}" for why, n in sorted(dropped.items()))
    hashes = {name: sha256_of(out / name) for name in ("embeddings.npy", "embeddings.parquet")}
    manifest = {"listing": key, "rows": index.height, "fingerprint": digest.hexdigest(), "notes": notes}
    write_sealed(out / "embeddings.json", {**manifest, "sha256": hashes})
    return PackedEmbeddings(out / "embeddings.npy", out / "embeddings.parquet", index, digest.hexdigest(), notes)


def _index(blocks: Sequence[Sequence[_Entry]], files: Sequence[Path]) -> pl.DataFrame:
    good = [
        entry
        for block, file in zip(blocks, files, strict=True)
        for entry, reason in zip(block, _load(file, "reasons").tolist(), strict=True)
        if not reason
    ]
    return pl.DataFrame(
        {
            "dicom_id": [e.dicom_id for e in good],
            "study_id": [e.study_id for e in good],
            "subject_id": [e.subject_id for e in good],
            "row": range(len(good)),
        },
        schema=INDEX_SCHEMA,
    )


def _finished(out: Path, key: str) -> PackedEmbeddings | None:
    """An earlier packing of the same files; None where there is none, or it is not as it was written."""
    array, index = out / "embeddings.npy", out / "embeddings.parquet"
    try:
        manifest = read_sealed(out / "embeddings.json", "", "")
    except (OSError, StoreError):
        return None
    if manifest["listing"] != key or first_changed(out, manifest["sha256"]):
        return None
    return PackedEmbeddings(
        array, index, pl.read_parquet(index), str(manifest["fingerprint"]), tuple(manifest["notes"])
    )


def _worded(dropped: Counter[str]) -> str:
    return ", ".join(f"{counted(n)} {why}" for why, n in sorted(dropped.items()))


# --- decoding ---------------------------------------------------------------------------------------------------------


def _bytes_of(path: Path) -> bytes | None:
    try:
        with path.open("rb") as handle:
            return handle.read(_MAX_BYTES)
    except OSError:
        return None


def _decode(files: Sequence[bytes | None]) -> tuple[NDArray[np.float32], list[str]]:
    """Embeddings of many files; (n, 1376), and per file "" or what is wrong with it."""
    rows = np.zeros((len(files), WIDTH), dtype=np.float32)
    reasons = [""] * len(files)
    payloads: dict[int, bytes] = {}
    for i, data in enumerate(files):
        try:
            payloads[i] = _payload(data)
        except _BadFileError as error:
            reasons[i] = str(error)
    for i in sorted(payloads.keys() - _intact(files, payloads)):
        reasons[i] = _CHECKSUM
        del payloads[i]
    for i, payload in payloads.items():
        try:
            rows[i] = _embedding(payload)
        except _BadFileError as error:
            reasons[i] = str(error)
    return rows, reasons


def _payload(data: bytes | None) -> bytes:
    """The payload of the only record of a file."""
    if data is None:
        raise _BadFileError(_UNREADABLE)
    if len(data) < _HEADER:
        raise _BadFileError(_TRUNCATED)
    (length,) = struct.unpack_from("<Q", data)
    if not _header_intact(data[:_HEADER]):
        raise _BadFileError(_CHECKSUM)
    if len(data) < _HEADER + length + 4:
        raise _BadFileError(_TRUNCATED)
    if len(data) > _HEADER + length + 4:
        raise _BadFileError(_TRAILING)
    return data[_HEADER : _HEADER + length]


@lru_cache(maxsize=1024)  # nearly all files are of one length, so of one header
def _header_intact(header: bytes) -> bool:
    return bool(masked_crc32c(np.frombuffer(header, np.uint8, 8)[None])[0] == struct.unpack_from("<I", header, 8)[0])


def _intact(files: Sequence[bytes | None], payloads: Mapping[int, bytes]) -> set[int]:
    """The files whose payload has its checksum. Payloads of one length are checked together, byte by byte: a checksum
    in plain Python, one file at a time, takes longer than reading the file."""
    by_length: dict[int, list[int]] = {}
    for i, payload in payloads.items():
        by_length.setdefault(len(payload), []).append(i)
    intact: set[int] = set()
    for length, members in by_length.items():
        together = np.frombuffer(b"".join(payloads[i] for i in members), np.uint8).reshape(len(members), length)
        for i, checksum in zip(members, masked_crc32c(together).tolist(), strict=True):
            data = files[i] or b""
            if checksum == struct.unpack_from("<I", data, _HEADER + length)[0]:
                intact.add(i)
    return intact


def _table() -> NDArray[np.uint32]:
    """CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1).astype(np.uint32)
    return table


_CRC: Final = _table()


def masked_crc32c(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Checksum of each row of (n, length) bytes as TFRecord stores it: CRC-32C rotated by 15 bits plus a constant.

    >>> hex(masked_crc32c(np.frombuffer(b"123456789", np.uint8)[None])[0])
    '0xc78ab0e5'
    """
    crc = np.full(len(data), 0xFFFFFFFF, dtype=np.uint32)
    for column in np.ascontiguousarray(data.T):
        crc = _CRC[(crc ^ column) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    crc = ~crc
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return rotated + np.uint32(0xA282EAD8)


def _embedding(payload: bytes) -> NDArray[np.float32]:
    """``Example.features(1).feature(1)["embedding"].float_list(2).value(1)``."""
    view = memoryview(payload)
    found: memoryview | None = None
    for features in _messages(view, 1):
        for entry in _messages(features, 1):
            names = [bytes(name) for name in _messages(entry, 1)]
            if names[-1:] == [_KEY]:
                # of a repeated key the last counts
                found = memoryview(b"".join(_messages(entry, 2)))
    if found is None:
        raise _BadFileError(_NO_KEY)
    lists = list(_messages(found, 2))
    if not lists:
        raise _BadFileError(_NO_FLOATS)
    values = _floats(lists)
    if len(values) != WIDTH:
        raise _BadFileError(_LENGTH)
    if not np.isfinite(values).all():
        raise _BadFileError(_NOT_FINITE)
    return values


def _messages(view: memoryview, number: int) -> Iterator[memoryview]:
    """Length-delimited fields of that number."""
    return (value for got, wire, value in _fields(view) if got == number and wire == 2)


def _floats(lists: Sequence[memoryview]) -> NDArray[np.float32]:
    """``repeated float value = 1``, packed (one run of bytes) or not (4 bytes a field), in order."""
    runs = [bytes(value) for part in lists for number, wire, value in _fields(part) if number == 1 and wire in (2, 5)]
    data = b"".join(runs)
    if len(data) % 4:
        raise _BadFileError(_MALFORMED)
    return np.frombuffer(data, "<f4").astype(np.float32)


def _fields(view: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and content of each field of a protocol buffer message."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(view, at)
        elif wire == 0:
            length = _varint(view, at)[1] - at
        else:
            length = {1: 8, 5: 4}.get(wire, -1)
        if length < 0 or at + length > len(view):
            raise _BadFileError(_MALFORMED)
        yield tag >> 3, wire, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Number and the position after it."""
    value = shift = 0
    while at < len(view) and shift < 64:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _BadFileError(_MALFORMED)
