"""Vectors as TFRecord files of one ``tf.Example`` each, as the chest X-ray embedding release stores them.

A record is: length (uint64), masked crc32c of the length, payload, masked crc32c of the payload; little endian. The
payload is the protobuf ``Example{features{feature{"embedding": float_list}}}``. Formats: TensorFlow, "TFRecord and
tf.train.Example"; crc32c: RFC 3720, appendix B.4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CASTAGNOLI = 0x82F63B78  # reflected
_MASK = 0xA282EAD8


def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CASTAGNOLI), table >> 1)
    return table


_TABLE = _crc_table()


def crc32c(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(N,) crc32c of each row of bytes (N, L); one pass over the L positions for all rows together.

    >>> hex(crc32c(np.frombuffer(b"123456789", np.uint8)[None])[0])
    '0xe3069283'
    """
    crc = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crc = _TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    return crc ^ np.uint32(0xFFFFFFFF)


def _masked(crc: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """(N, 4) bytes of the masked checksum."""
    wide = crc.astype(np.uint64)
    rotated = ((wide >> np.uint64(15)) | (wide << np.uint64(17))) & np.uint64(0xFFFFFFFF)
    masked = ((rotated + np.uint64(_MASK)) & np.uint64(0xFFFFFFFF)).astype("<u4")
    return masked.view(np.uint8).reshape(-1, 4)


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def records(vectors: NDArray[np.float32], key: str = "embedding") -> list[bytes]:
    """The content of one TFRecord file per row of ``vectors`` (N, D)."""
    if not len(vectors):
        return []
    floats = np.ascontiguousarray(vectors, dtype="<f4").view(np.uint8).reshape(len(vectors), -1)
    width = floats.shape[1]
    # nested messages around a blank of the floats' length: the same bytes before and none after, in every record
    blank = _field(2, _field(1, bytes(width)))
    whole = _field(1, _field(1, _field(1, key.encode()) + _field(2, blank)))
    head = np.frombuffer(whole[: len(whole) - width], np.uint8)
    payload = np.hstack([np.tile(head, (len(vectors), 1)), floats])
    length = np.frombuffer(len(whole).to_bytes(8, "little"), np.uint8)[None]
    start = np.tile(np.hstack([length, _masked(crc32c(length))]), (len(vectors), 1))
    joined = np.hstack([start, payload, _masked(crc32c(payload))])
    return [row.tobytes() for row in joined]
