"""Findings of an audit, and their text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Severity = Literal["leak", "suspect", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("leak", "suspect", "note")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Args:
        severity: ``leak``: the data cannot be right; ``suspect``: look at it; ``note``: know about it.
        check: Which question found it.
        where: The column, table or rule.
        words: What was found; no small count, no identifier, no value of a patient.
    """

    severity: Severity
    check: str
    where: str
    words: str


@dataclass(frozen=True)
class Audit:
    """Findings, the gravest first, and what was and was not looked at."""

    subject: str
    looked_at: tuple[str, ...]
    not_looked_at: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> int:
        return sum(f.severity == "leak" for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "leaks": self.leaks}


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def audit_text(audit: Audit) -> str:
    """The audit for a terminal."""
    lines = [f"Audit of {audit.subject}", ""]
    lines += [f"  {f.severity.upper():8} {f.where}: {f.words}  [{f.check}]" for f in audit.findings]
    counts = [f"{sum(f.severity == s for f in audit.findings)} {s}" for s in SEVERITIES]
    lines += [] if audit.findings else ["  nothing found"]
    lines += ["", f"Found: {', '.join(counts)}.", "", "Looked at"]
    lines += [f"  - {words}" for words in audit.looked_at]
    if audit.not_looked_at:
        lines += ["Not looked at", *(f"  - {words}" for words in audit.not_looked_at)]
    return "\n".join(lines)
