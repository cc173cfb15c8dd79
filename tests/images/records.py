"""TFRecord files for tests, written after the specifications and independently of the reader.

Protocol buffers: https://protobuf.dev/programming-guides/encoding/. TFRecord framing: length, masked CRC, data, masked
CRC. The checksum here works bit by bit; the reader's by table, many files at a time.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GOLDEN = zlib.decompress(
    base64.b85decode(
        "c-mVl$^ZuM+fBZ5t<vTa<l@N8O-xUX&rA_w<znVytl*lW&Bd9To0OW8l9`t-)TS-etj*P+efG>5TL"
        "uP&15GP_n=>#xa2Vx}@<;ij{89cWf0RGUALWnoNBN`tQT`}@lt0QJ<&W}5`J?<%K6Usl3f-Xq1H*Pw"
    )
)
"""Written by ``TFRecordWriter`` of the package tfrecord 1.14.6 (with crc32c 2.9 and protobuf 7.36)::

    w.write({"embedding": (np.tile(np.array([0.1, -2.5, 3e-5, 7.0], np.float32), 344).tolist(), "float"),
             "image_id": (b"x", "byte")})
"""
GOLDEN_VALUES = np.tile(np.array([0.1, -2.5, 3e-5, 7.0], np.float32), 344)


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def packed(values: Sequence[float] | NDArray[np.float32]) -> bytes:
    """FloatList, ``repeated float value = 1 [packed = true]``."""
    return message(1, struct.pack(f"<{len(values)}f", *values))


def unpacked(values: Sequence[float] | NDArray[np.float32]) -> bytes:
    """FloatList, one field per value."""
    return b"".join(varint(1 << 3 | 5) + struct.pack("<f", v) for v in values)


def example(float_list: bytes, key: bytes = b"embedding", kind: int = 2) -> bytes:
    """Example with a feature of that key and, before it, one of another kind that the reader must step over."""
    label = message(1, message(1, b"label") + message(2, message(3, varint(1 << 3) + varint(300))))
    wanted = message(1, message(1, key) + message(2, message(kind, float_list)))
    return message(1, label + wanted)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def put(root: Path, subject_id: int, study_id: int, dicom_id: str, data: bytes) -> Path:
    """Write a file where the release would have it."""
    path = root / "files" / f"p{str(subject_id)[:2]}" / f"p{subject_id}" / f"s{study_id}" / f"{dicom_id}.tfrecord"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
