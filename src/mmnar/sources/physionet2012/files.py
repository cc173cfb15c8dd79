"""The challenge's files: which sets are there, which of their files are stays, and the text of each."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from mmnar.errors import SourceError
from mmnar.privacy import counted
from mmnar.sources.reading.visible import is_hidden, refuse_broken_links

HEADER: Final = "Time,Parameter,Value"
"""First line of a stay's file."""

_SETS: Final = ("a", "b", "c")
_PACKED: Final = (".tar.gz", ".tgz", ".tar")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_STAY: Final = re.compile(r"([0-9]{1,9})\.txt", re.IGNORECASE)
_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")

_HIDDEN: Final = "hidden, or left behind by a system"
_NO_STAY: Final = "their name is not that of a stay (RecordID.txt)"


def damaged(place: str, fact: str) -> SourceError:
    """A set, or a file of it, that did not arrive whole."""
    return SourceError(f"'{place}'", "a whole, readable set of stays", fact, "download it again")


class ChallengeFolder:
    """A folder with sets of the challenge; names in any letter case. Nothing is ever written to it.

    Args:
        root: Holds ``set-a.tar.gz`` (``.tgz``, ``.tar``) or ``set-a/``, and ``Outcomes-a.txt``; so for b and c. Where
            a set is there as an archive and as a folder, the archive is read: it has a checksum, and a folder may
            have been unpacked in part.

    Attributes:
        sets: Letter → archive or folder.

    Raises:
        SourceError: No folder, or no set in it.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise SourceError(f"data root '{root}'", "a folder", "none", "give the folder with the challenge's sets")
        self._root = root
        refuse_broken_links(root, (p for p in root.iterdir() if p.name.lower().startswith(("set-", "outcomes"))))
        self._by_name = {path.name.lower(): path for path in sorted(root.iterdir(), reverse=True)}
        self._passed: Counter[tuple[str, str]] = Counter()
        self._beside: list[str] = []
        self.sets = {letter: path for letter in _SETS if (path := self._set(letter))}
        if not self.sets:
            raise SourceError(
                f"data root '{root}'",
                "set-a.tar.gz or a folder set-a (b, c)",
                "none of them",
                "give the folder that holds the sets and their outcomes",
            )

    @property
    def notes(self) -> list[str]:
        """What was passed over, in words."""
        files = [f"'{name}': {counted(n)} files passed over: {why}" for (name, why), n in self._passed.items()]
        return [*self._beside, *files]

    def outcomes(self, letter: str) -> Path:
        """The outcomes of a set.

        Raises:
            SourceError: They are not there.
        """
        name = f"Outcomes-{letter}.txt"
        path = self._by_name.get(name.lower())
        if path is None or not path.is_file():
            raise SourceError(
                f"'{name}'", f"the outcomes of set {letter}", "no such file", "put it beside the set, where it belongs"
            )
        return path

    def pass_over(self, path: Path, why: str) -> None:
        """Count a file of a set that is not read."""
        self._passed[path.name, why] += 1

    def stay_files(self, letter: str) -> Iterator[tuple[int, bytes]]:
        """RecordID and content of each stay's file of a set, in no particular order.

        Raises:
            SourceError: A damaged archive, or files that may not be read.
        """
        path = self.sets[letter]
        with _readable(path):
            for name, content in _of_folder(path) if path.is_dir() else _of_archive(path):
                stay = _STAY.fullmatch(name.name)
                if is_hidden(name):
                    self.pass_over(path, _HIDDEN)
                elif stay is None:
                    _check_no_stay(path, name, content)
                    self.pass_over(path, _NO_STAY)
                else:
                    yield int(stay[1]), content()

    def _set(self, letter: str) -> Path | None:
        """The set's archive, or else its folder."""
        names = [f"set-{letter}{suffix}" for suffix in (*_PACKED, "")]
        there = [self._by_name[name] for name in names if name in self._by_name]
        found = [path for path in there if path.is_file() and path.suffix] + [path for path in there if path.is_dir()]
        if not found:
            return None
        self._beside += [f"'{path.name}' is not read: '{found[0].name}' is" for path in found[1:]]
        return found[0]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say what is wrong with a set in words of our own: a message of another library may name a stay."""
    try:
        yield
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path.name, f"a truncated or corrupt archive ({type(error).__name__})") from None
    except OSError as error:
        raise SourceError(
            f"'{path.name}'", "files that can be read", type(error).__name__, "check their permissions"
        ) from None


def _check_no_stay(path: Path, name: PurePosixPath, content: Callable[[], bytes]) -> None:
    """Refuse a stay under another name than its RecordID: to pass it over would lose a patient."""
    if name.suffix.lower() == ".txt" and content().removeprefix(_BOM).startswith(HEADER.encode()):
        raise SourceError(
            f"'{path.name}'",
            "stays named by their RecordID",
            "a stay's file whose name is not a RecordID",
            "name it RecordID.txt, or remove it if it is a copy",
        )


def _of_folder(folder: Path) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """Relative path of each file below a folder, and its content."""
    there = sorted(folder.rglob("*"))
    refuse_broken_links(folder, there)
    for path in there:
        if path.is_file():
            yield PurePosixPath(path.relative_to(folder).as_posix()), path.read_bytes


def _of_archive(path: Path) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """The same of an archive; whether it is packed is told by its content, for browsers unpack what they fetch."""
    with path.open("rb") as raw:
        magic = raw.peek(len(_ZIP))
        if magic.startswith(_ZIP):
            raise SourceError(f"'{path.name}'", "a tar archive", "a zip archive", f"unpack it to {_folder_of(path)}/")
        # tarfile takes the end of a cut-off gzip for the end of the archive; gzip itself does not
        handle = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if magic.startswith(_GZIP) else raw
        with tarfile.open(fileobj=handle, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield PurePosixPath(member.name), partial(_member, archive, member)
        while handle.read(1 << 20):  # the checksum stands at the very end
            pass


def _folder_of(archive: Path) -> str:
    return archive.name.lower().partition(".")[0]


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None  # of a regular file there is one
    return content.read()


def text_of(place: str, content: bytes) -> str:
    """The lines of a stay's file or of outcomes, each ended by a newline alone.

    Args:
        place: Name of the set or file, for the message.
        content: UTF-8 with or without a mark at its beginning, or UTF-16 with one; line ends of any system.

    Raises:
        SourceError: It is no text.
    """
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError:
        raise damaged(place, "a file that is no text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
