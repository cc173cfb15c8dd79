"""Arrays of a store as files: written with their hashes, opened only where type, shape and size are the schema's.

A header is read, never a value; what is in the arrays is the business of their hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmnar.dataset.content import part_names
from mmnar.errors import StoreError
from mmnar.files import sha256_of
from mmnar.schema import ModalitySpec, Schema

PER_SAMPLE: Final = ("labels", "label_mask", "present", "subject_id", "hadm_id", "stay_id", "prediction_time")
"""Arrays that every store has, with a row per sample."""

_IDS: Final = ("subject_id", "hadm_id", "stay_id", "prediction_time")
_TYPES: Final = {
    "offsets": "<i8",
    "starts": "<i8",
    "hours": "<f4",
    "feature": "<i2",
    "buckets": "<i4",
    "weights": "<f4",
    "values": "<f4",
}

Form = tuple[str, tuple[int | str, ...]]
"""Type, and length of each axis; a name stands for a length that arrays of one modality share ("U" = any text)."""


def array_name(modality: str, part: str) -> str:
    return f"values/{modality}/{part}" if part else f"values/{modality}"


def fingerprint_of(schema: Schema, files: Mapping[str, str]) -> str:
    """16 hex digits of a store's content: its schema and the hash of each file."""
    return hashlib.sha256(json.dumps([schema.to_dict(), dict(files)]).encode()).hexdigest()[:16]


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Every array as a file of a new folder; name → hash.

    Raises:
        OSError: No room or no permission.
    """
    folder.mkdir()
    files = {}
    for name, array in sorted(arrays.items()):
        target = folder / f"{name}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as handle:
            np.save(handle, array, allow_pickle=False)
            handle.flush()
            os.fsync(handle.fileno())
        files[f"{name}.npy"] = sha256_of(target)
    return files


def open_arrays(folder: Path, files: Mapping[str, str], schema: Schema, n: int) -> dict[str, NDArray[Any]]:
    """Every array of a store of ``n`` samples, memory-mapped.

    Raises:
        StoreError: A file is missing or unknown, or has another type, shape or size; names it.
    """
    forms = dict(_forms(schema, n))
    expected = {f"{name}.npy" for name in forms}
    for name in sorted((expected - {"truth/bayes.npy"}) - set(files)) + sorted(set(files) - expected):
        raise damaged(name)
    arrays = {}
    lengths: dict[tuple[str, str], int] = {}
    for name in sorted(files):
        stem = name.removesuffix(".npy")
        array = _mapped(folder / name, name)
        kind, shape = forms[stem]
        if not _fits(array, kind, shape, stem.rpartition("/")[0], lengths):
            raise damaged(name)
        arrays[stem] = array
    return arrays


def damaged(name: str) -> StoreError:
    return StoreError(
        f"store file '{name}'", "the file that prepare wrote", "missing or changed", "prepare the store again"
    )


def _forms(schema: Schema, n: int) -> Iterator[tuple[str, Form]]:
    m, k = len(schema.modalities), len(schema.tasks)
    yield "labels", ("|b1", (n, k))
    yield "label_mask", ("|b1", (n, k))
    yield "present", ("|b1", (n, m))
    yield from ((name, ("<i8", (n,))) for name in _IDS)
    yield from ((f"attributes/{name}", ("U", (n,))) for name in schema.attributes)
    yield "truth/bayes", ("<f8", (n, k))
    for spec in schema.modalities:
        for part in part_names(spec):
            yield array_name(spec.name, part), _form(spec, part, n)


def _form(spec: ModalitySpec, part: str, n: int) -> Form:
    if spec.kind == "static":
        return "<f4", (n, len(spec.features))
    if part == "offsets":
        return "<i8", (n + 1,)
    if part == "starts":
        return "<i8", ("E + 1",)
    if part == "values" and spec.kind in ("embedding", "image"):
        return "|u1" if spec.kind == "image" else "<f4", ("E", *spec.shape)
    return _TYPES[part], ("C" if part in ("buckets", "weights") else "E",)


def _fits(
    array: NDArray[Any], kind: str, shape: tuple[int | str, ...], group: str, lengths: dict[tuple[str, str], int]
) -> bool:
    """Whether an array has its type and shape, and the lengths that others of its ``group`` were found to have."""
    if (array.dtype.kind if kind == "U" else array.dtype.str) != kind or array.ndim != len(shape):
        return False
    for found, wanted in zip(array.shape, shape, strict=True):
        if isinstance(wanted, str):
            axis, _, more = wanted.partition(" + ")
            if lengths.setdefault((group, axis), found - bool(more)) != found - bool(more):
                return False
        elif found != wanted:
            return False
    return True


def _mapped(path: Path, name: str) -> NDArray[Any]:
    try:
        with path.open("rb") as handle:
            np.lib.format.read_magic(handle)
            shape, _, dtype = np.lib.format.read_array_header_1_0(handle)
            size = handle.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if path.stat().st_size != size:
            raise damaged(name)
        # nothing cannot be mapped
        array: NDArray[Any] = np.load(path, mmap_mode=None if 0 in shape else "r", allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise damaged(name) from None
    except (OSError, MemoryError, StoreError):
        raise
    except Exception:  # numpy reads a header as Python's syntax: damage comes up in a dozen kinds
        raise damaged(name) from None
    return array
