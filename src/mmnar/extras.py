"""Extras: the optional packages, and what to run where one of them is missing. ``mmnar`` itself is on no index."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import requires

from mmnar.errors import RequirementError


def packages(extra: str) -> tuple[str, ...]:
    """The requirements of an extra, as the installed package states them.

    >>> packages("study")
    ('optuna>=4',)
    """
    stated = (line.partition(";") for line in requires("mmnar") or ())
    return tuple(what.strip() for what, _, when in stated if re.search(rf"extra == ['\"]{extra}['\"]", when))


def install(extra: str) -> str:
    """What to run to have an extra: in a checkout, and anywhere else.

    >>> install("study")
    "run pip install '.[study]' in a checkout, or pip install 'optuna>=4' anywhere"
    """
    return f"run pip install '.[{extra}]' in a checkout, or pip install {shlex.join(packages(extra))} anywhere"


def lacking(what: str, package: str, extra: str, instead: str = "") -> RequirementError:
    """The refusal where a package of an extra is not installed.

    Args:
        what: What needs it.
        package: By its name on the index.
        extra: That brings it.
        instead: What else can be done, e.g. ``leave --images out``.
    """
    remedy = install(extra) + (f"; or {instead}" if instead else "")
    return RequirementError(what, f"the package '{package}' of the extra mmnar[{extra}]", "none", remedy)
