"""Published figures that a study shows beside its own, from a CSV file.

A row is one figure: ``data, task, row, metric, value, spread`` (± over seeds, or empty), and where the file has such
columns ``setting`` (of the study, empty = any) and the ends of the interval that was published, ``low, high``. ``task``
may also be a panel, a kind of its outcomes or a group of patients, whatever the study's tables are of.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from mmnar.errors import ConfigError
from mmnar.shipped import FOLDER

_ALWAYS: Final = ("data", "task", "row", "metric", "value", "spread")
_SOMETIMES: Final = ("setting", "low", "high")


def figures_of(path: Path) -> tuple[dict[str, str], ...]:
    """Published figures of a CSV file: beside the study or, of a copy of one of ours, beside ours.

    Raises:
        ConfigError: No such file, or not these columns.
    """
    if not path.is_file() and (FOLDER / "studies" / "reference" / path.name).is_file():
        path = FOLDER / "studies" / "reference" / path.name
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            figures = tuple(csv.DictReader(handle))
    except OSError as error:
        fact = error.strerror or "none"
        raise ConfigError("reference", "a CSV file beside the study", fact, "correct its name") from None
    except (UnicodeError, csv.Error):
        raise ConfigError("reference", "a CSV file in UTF-8", "another file", "correct it") from None
    for figure in figures:
        named = set(figure) - set(_SOMETIMES)
        if named != set(_ALWAYS) or not all(isinstance(of, str) for of in figure.values()):
            raise ConfigError("reference", f"the columns {', '.join(_ALWAYS)}", "others", "correct the CSV file")
    return figures
