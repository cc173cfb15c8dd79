"""How a raw table is packed and encoded, told by its bytes and not by its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from isal import isal_zlib

GZIP: Final = b"\x1f\x8b"
_OTHERS: Final = (
    (b"\x28\xb5\x2f\xfd", "Zstandard", "unpack it: zstd -d"),
    (b"BZh", "bzip2", "unpack it: bunzip2"),
    (b"\xfd7zXZ", "xz", "unpack it: unxz"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save it as CSV"),
    (b"PAR1", "Parquet", "name it .parquet"),
    (b"<!doctype html", "a web page", "download it again, signed in"),
    (b"<html", "a web page", "download it again, signed in"),
)


class FormError(Exception):
    """A file of another form than the reader's: what it is, and what to do."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.fact, self.remedy = fact, remedy


def unpacked(pieces: Iterator[bytes], named_gz: bool) -> Iterator[bytes]:
    """The text of a file that is plain or a gzip, whatever its name says.

    Raises:
        FormError: It is packed otherwise, or is no table at all.
        EOFError: A gzip that is cut off. polars and some tools read such a file silently up to the cut.
        IsalError: A file named .gz that is neither gzip nor text, or a gzip whose check sum is wrong.
    """
    first = next(pieces, b"")
    for magic, kind, remedy in _OTHERS:
        if first[: len(magic)].lower() == magic.lower():
            raise FormError(kind, remedy)
    packed = first.startswith(GZIP) or (named_gz and len(first) > 0 and not _looks_like_a_table(first))
    yield from _gunzipped(chain([first], pieces)) if packed else chain([first], pieces)


def check_text(block: bytes) -> None:
    """
    Raises:
        FormError: Bytes of 0, or other text than UTF-8.
    """
    for mark, encoding in ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
        if block.startswith(mark):
            raise FormError(f"{encoding} text", _convert(encoding))
    if b"\0" in block:
        raise FormError("bytes of 0: UTF-16 text, or a damaged copy", f"copy it again, or {_convert('UTF-16LE')}")


def check_utf8(block: bytes) -> None:
    """
    Raises:
        FormError: Other text than UTF-8.
    """
    try:
        block.decode()
    except UnicodeDecodeError:
        raise FormError("other bytes: Latin-1 (Windows-1252) text, as it seems", _convert("WINDOWS-1252")) from None


def _convert(encoding: str) -> str:
    return f"convert it to UTF-8: iconv -f {encoding} -t UTF-8 (gunzip before and gzip after, where it is packed)"


def _looks_like_a_table(first: bytes) -> bool:
    line = first.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    return b"," in line and all(byte >= 32 or byte in b"\t\r" for byte in line)


def _gunzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A gzip of one or several members."""
    member = isal_zlib.decompressobj(wbits=31)
    fresh = True
    for piece in pieces:
        while piece:
            if member.eof:
                # some tools pad the end with zeros
                if not piece.strip(b"\0"):
                    break
                member, fresh = isal_zlib.decompressobj(wbits=31), True
            fresh = False
            yield member.decompress(piece)
            piece = member.unused_data
    if not member.eof and not fresh:
        raise EOFError
