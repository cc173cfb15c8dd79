"""Errors of one form: subject, expectation, fact, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "EmptyFoldError",
    "LeakageError",
    "MmnarError",
    "RequirementError",
    "SchemaError",
    "SourceError",
    "StoreError",
    "TrainingError",
    "nearest",
]


class MmnarError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        subject: What is wrong, e.g. ``"table 'patient'"``.
        expected: What it should have been.
        got: What was found. Never a patient's text or identifier.
        remedy: What the reader can do now.

    >>> print(SchemaError("modality 'cxr'", "(B, 5)", "(B, 4)", "re-run prepare"))
    modality 'cxr': expected (B, 5), got (B, 4); re-run prepare
    """

    def __init__(self, subject: str, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"{subject}: expected {expected}, got {got}; {remedy}")
        self.subject, self.expected, self.got, self.remedy = subject, expected, got, remedy


class SchemaError(MmnarError):
    """Arrays, batches or stores that do not fit the schema."""


class SourceError(MmnarError):
    """Raw records that cannot be read as they are."""


class StoreError(MmnarError):
    """A prepared store or a run folder that cannot be used."""


class ConfigError(MmnarError):
    """A configuration key or value that does not exist."""


class EmptyFoldError(ConfigError):
    """A choice of patients that leaves a fold without anybody, or without anybody who has, or lacks, an outcome."""


class LeakageError(MmnarError):
    """Information would flow from where it must not: a subject in two folds, a fit on scored rows."""


class RequirementError(MmnarError):
    """A method asked for something this dataset or machine does not have."""


class TrainingError(MmnarError):
    """Training that cannot go on, e.g. a loss that is not a number."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word.

    >>> nearest("trian.lr", ["train.lr", "train.seed"])
    "did you mean 'train.lr'?"
    >>> nearest("zzz", ["a", "b"])
    'known: a, b'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(names)
