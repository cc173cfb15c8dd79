"""Long notes in segments: whole sentences, headings with their text, nothing dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Final

from mmnar.errors import ConfigError

SEGMENTATION: Final = "1"
"""Version of these rules; part of every encoder's identity. Raise it with any change that alters an output."""

SHORTEST: Final = 8
"""Fewest tokens a segment may be limited to: one character can be four tokens of a byte-level tokenizer."""

Count = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, special tokens not counted."""

Split = Callable[[str], list[str]]

_WRAPPED = 60  # a line at least this long may go on in the next one

_ABBREVIATION = re.compile(
    r"(?:\b(?:dr|drs|mr|mrs|ms|prof|st|vs|no|nos|approx|ca|cf|etc|e\.g|i\.e|fig|pt|pts|dept|hosp|resp|temp|max|min|"
    r"avg|hx|dx|tx|rx|sx|fx|q|p\.o|i\.v|b\.i\.d|t\.i\.d|q\.i\.d|p\.r\.n|q\.d|q\.h\.s|h\.s|s\.c|i\.m|a\.m|p\.m)|"
    r"\b[A-Z]|^\s*\d{1,2})\.$",
    re.IGNORECASE,
)
_STOP = re.compile(r"(?<![.!?])[.!?]+[\"')\]]*(?P<space>\s+)(?=[\"'(\[]?[A-Z0-9])")
_ITEM = re.compile(r"(?:[-*•+>]|\(?\d{1,2}[.)]|[a-z][.)])\s")
_HEADING = re.compile(r"(?:[A-Z][\w /&(),'-]{0,60}:|[A-Z][A-Z0-9 /&(),'-]{2,60})\s*")
_OPENS = re.compile(r"[A-Z][\w /&()-]{0,40}:")


def segments(text: str, count: Count, limit: int, max_segments: int | None = None) -> list[str]:
    """Cut a note into segments of at most ``limit`` tokens.

    Segments are filled from the front with whole sentences. A heading stays with the sentence after it where both fit
    into one segment. Only a sentence that alone is longer than ``limit`` is cut, between words; a word that alone is
    longer, between characters. ``"".join(segments)`` is the note.

    Args:
        text: One cleaned note, not blank.
        count: Tokens of each text by the encoder's own tokenizer. Need not be additive.
        limit: Most tokens of a segment, at least 8.
        max_segments: Keep only the first ⌈max/2⌉ and the last ⌊max/2⌋ segments: why the patient came and what was
            concluded. None (default) drops nothing.

    Raises:
        ConfigError: ``limit`` is below 8 or ``max_segments`` below 1.

    >>> words = lambda texts: [len(t.split()) for t in texts]
    >>> segments("Chest pain since noon. No fever.\\n\\nPLAN:\\nAspirin now. Angiography in the morning.", words, 8)
    ['Chest pain since noon. No fever.\\n\\n', 'PLAN:\\nAspirin now. Angiography in the morning.']
    """
    if limit < SHORTEST:
        raise ConfigError("tokens per segment", f"at least {SHORTEST}", str(limit), "raise max_tokens")
    if max_segments is not None and max_segments < 1:
        raise ConfigError("max_segments", "at least 1, or None for all", str(max_segments), "raise it")
    cut = _cut(text, count, limit, (_units, sentences, _words, _halves))
    if max_segments is None or len(cut) <= max_segments:
        return cut
    last = max_segments // 2
    return cut[: max_segments - last] + cut[len(cut) - last :]


def sentences(text: str) -> list[str]:
    """Sentences with the white space that follows them; joined they are the text.

    A sentence ends at ``.``, ``!`` or ``?`` before a capital or digit, unless the stop belongs to an abbreviation, an
    initial or a list number; at a blank line; and at a line break before a list item or heading, after a heading, or
    after a line too short to have been wrapped. A wrapped line goes on.

    >>> sentences("Seen by Dr. Li. BP 120/80.\\n1. Aspirin 81 mg daily\\n2. Lasix")
    ['Seen by Dr. Li. ', 'BP 120/80.\\n', '1. Aspirin 81 mg daily\\n', '2. Lasix']
    """
    ends: list[int] = []
    start = 0
    for line in text.splitlines(keepends=True):
        end = start + len(line)
        for stop in _STOP.finditer(line):
            last = stop.start("space")
            if not _ABBREVIATION.search(line, max(0, last - 16), last):
                ends.append(start + stop.end())
        if _ends_here(line, text[end : end + 80]):
            ends.append(end)
        start = end
    return _pieces(text, ends)


def _ends_here(line: str, following: str) -> bool:
    """Whether a sentence ends with this line."""
    if following[:1] in ("", "\n"):
        return False  # the blank line itself ends it, so that no piece is white space alone
    return (
        not line.strip()
        or _HEADING.fullmatch(line) is not None
        or _ITEM.match(following) is not None
        or _OPENS.match(following) is not None
        or (len(line) < _WRAPPED and (following[0].isupper() or following[0].isdigit()))
        or line.rstrip()[-1] in ".!?"
    )


def _units(text: str) -> list[str]:
    """Sentences, each with the headings right before it."""
    units: list[str] = []
    headings = ""
    for sentence in sentences(text):
        headings += sentence
        if not _HEADING.fullmatch(sentence):
            units.append(headings)
            headings = ""
    return [*units, headings] if headings else units


def _words(text: str) -> list[str]:
    return _pieces(text, [m.end() for m in re.finditer(r"\S\s+", text)])


def _halves(text: str) -> list[str]:
    return _pieces(text, [len(text) // 2])


def _pieces(text: str, ends: Sequence[int]) -> list[str]:
    inner = sorted({e for e in ends if 0 < e < len(text)})
    return [text[a:b] for a, b in pairwise([0, *inner, len(text)])]


def _cut(text: str, count: Count, limit: int, splits: tuple[Split, ...]) -> list[str]:
    """The text in parts of at most ``limit`` tokens, by the first split; what is too long alone, by the next ones."""
    if count([text])[0] <= limit or len(text) == 1:
        return [text]
    pieces = splits[0](text)
    finer = splits[1:] or splits
    if len(pieces) == 1:
        return _cut(text, count, limit, finer)
    sizes = count(pieces)
    parts: list[str] = []
    for piece, size in zip(pieces, sizes, strict=True):
        parts.extend([piece] if size <= limit else _cut(piece, count, limit, finer))
    return _packed(parts, count, limit)


def _packed(parts: list[str], count: Count, limit: int) -> list[str]:
    """Neighbours joined as long as the sum of their tokens fits; checked, because tokens need not add up."""
    groups: list[list[str]] = []
    room = 0
    for part, size in zip(parts, count(parts), strict=True):
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(part)
        room -= size
    sizes = count(["".join(group) for group in groups])
    return [s for group, size in zip(groups, sizes, strict=True) for s in _fitting(group, size, count, limit)]


def _fitting(group: list[str], size: int, count: Count, limit: int) -> list[str]:
    """The group as one segment, or halved until each half fits."""
    if size <= limit or len(group) == 1:
        return ["".join(group)]
    ends = list(accumulate(map(len, group)))
    middle = min(range(1, len(group)), key=lambda i: abs(2 * ends[i - 1] - ends[-1]))
    halves = [group[:middle], group[middle:]]
    sizes = count(["".join(h) for h in halves])
    return [s for half, n in zip(halves, sizes, strict=True) for s in _fitting(half, n, count, limit)]
