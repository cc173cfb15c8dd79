"""What comes with the package besides code, found by name from any folder: studies, example specs, versions."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from mmnar.errors import ConfigError, nearest

Kind = Literal["studies", "examples"]

FOLDER: Final = Path(__file__).parent
CONSTRAINTS: Final = FOLDER / "constraints.txt"
"""Versions that are known to install and pass together."""


def names(kind: Kind) -> tuple[str, ...]:
    """Names of the studies or examples.

    >>> names("examples")
    ('diabetes130',)
    """
    return tuple(sorted(path.stem for path in (FOLDER / kind).glob("*.yaml")))


def named(kind: Kind, word: str | Path) -> Path:
    """The file that ``word`` is the path of or, where there is none, the one that comes with the package.

    Raises:
        ConfigError: Neither; the nearest name is offered.

    >>> named("examples", "diabetes130").name
    'diabetes130.yaml'
    """
    path = Path(word)
    if path.is_file():  # a folder may have a study's name: its own results
        return path
    ours = FOLDER / kind / f"{path.name.removesuffix('.yaml')}.yaml"
    if ours.is_file() and str(path.parent) in (".", kind):
        return ours
    what = f"a file, or the name of one of the {kind} that come with the package"
    raise ConfigError(f"'{word}'", what, "neither", nearest(path.name.removesuffix(".yaml"), names(kind)))


def listing(kind: Kind) -> str:
    """A line each: the name, and a study's title or an example's first comment.

    >>> print(listing("examples"))
    diabetes130    Diabetes 130-US hospitals, 1999-2008: will a patient come back within 30 days of discharge?
    """
    lines = []
    for name in names(kind):
        words = named(kind, name).read_text(encoding="utf-8").splitlines()
        titles = [line.removeprefix("title:").strip() for line in words if line.startswith("title:")]
        lines.append(f"{name:14} {titles[0] if titles else words[0].removeprefix('#').strip()}")
    return "\n".join(lines)
