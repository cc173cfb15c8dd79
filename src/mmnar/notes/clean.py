"""What of a note is text: marks of de-identification, ruled lines and broken encodings go, everything clinical stays.

The paper (appendix C.1) cleans de-identification marks and also normalises abbreviations. We leave abbreviations alone:
no public list of them is unambiguous ("MS": mitral stenosis, multiple sclerosis, morphine), and models trained on
clinical text know them as written. Upper case stays too; lowering it is the tokenizer's business.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

CLEANING: Final = "1"
"""Version of these rules; part of every encoder's identity. Raise it with any change that alters an output."""

_OVER_AGE = re.compile(r"\[\*\*\s*Age over (\d+)\s*(?:\d+)?\s*\*\*\]", re.IGNORECASE)
_BRACKETED = re.compile(r"\[\*\*[^\[\]]{0,100}?\*\*\]")  # bounded: one left open must not swallow the note
_RULED = re.compile(r"[_=~*#-]{3,}|\.{4,}")
_BREAKS = re.compile(r"\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPECIAL = re.compile(r"[^\n -~]")
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def clean(text: str) -> str:
    """The text of a note, or ``""`` where no letter or digit is left: such a note counts as no text at all.

    * De-identification marks become a space: runs of underscores (MIMIC-IV) and ``[** … **]`` (MIMIC-III). A shifted
      date or an invented name carries nothing; only ``[**Age over 90**]`` does, and its "over 90" is kept.
    * Ruled lines and dotted leaders (three or more of ``_ = ~ * # -``, four or more dots) become a space. Plus signs
      stay: "edema +++" is a finding.
    * Unicode is brought to NFC, not NFKC, which would make 10⁹ into 109. Control, zero-width and unassigned
      characters become a space, soft hyphens vanish.
    * Every kind of line break becomes ``\\n``; a form feed is one too. Spaces are squeezed and lines stripped; of blank
      lines one stays, because headings and paragraphs end there. Other line breaks stay for the segmentation.

    Cleaning twice is cleaning once.

    >>> clean("Name:  ___    Unit No: ___\\f\\nSex: F\\n\\n\\n\\n=====\\nPt is a ___ yo")
    'Name: Unit No:\\n\\nSex: F\\n\\nPt is a yo'
    >>> clean("[**Known lastname 12**] is [**Age over 90 **], seen [**2118-6-2**] for edema +++")
    'is over 90, seen for edema +++'
    >>> clean(" ___ \\n -- ---- ")
    ''
    """
    text = unicodedata.normalize("NFC", _BREAKS.sub("\n", text).replace("\xad", ""))
    text = _SPECIAL.sub(lambda m: " " if unicodedata.category(m[0]) in _INVISIBLE else m[0], text)
    while True:
        bare = _RULED.sub(" ", _BRACKETED.sub(" ", _OVER_AGE.sub(r" over \1 ", text)))
        bare = _squeezed(bare)
        if bare == text:
            break
        text = bare
    return text if any(c.isalnum() for c in text) else ""


def _squeezed(text: str) -> str:
    """Single spaces, stripped lines, at most one blank line in a row, no space before a comma or full stop."""
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r" (?=[,.;](?:\s|$))", "", re.sub(r"\n{3,}", "\n\n", text)).strip()
