"""Writes docs/reference/command.md and settings.md out of the code; ``make docs`` does so, they are not kept.

python docs/make_reference.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mmnar.cli import app
from mmnar.config import RunConfig
from mmnar.estimators.registry import defaults, known_names
from mmnar.report.cards import settings_of

FOLDER: Final = Path(__file__).parent / "reference"
COMMAND: Final = """# The command

`mmnar VERB --help` says the same in the terminal; `mmnar --install-completion` completes verbs and options in bash,
zsh and fish. What can be expected to fail is one line and exit status 2.
"""
SETTINGS: Final = """# Settings

What `mmnar train STORE key=value …` takes, and so do `set`, `deep` and `settings` of a [study](../studies.md). An
unknown key is refused with the nearest name. `preset=original` and `preset=carebench` set several at once
([methods](../methods.md)); what is said beside them wins.
"""


def command() -> str:
    """Every verb with its arguments."""
    text = app.generate_docs(usage_name="mmnar")
    verbs = text[text.index("\n## mmnar ") :]
    return COMMAND + re.sub(r"\[(`[^`]+`)\]\(#[^)]*\)", r"\1", verbs)


def settings() -> str:
    """Every key: of all runs, then of each method."""
    parts = [SETTINGS, "## Of every run\n", *_table(RunConfig(), "")]
    for name in known_names():
        parts += [f"\n## `{name}`\n", *(_table(defaults(name), "model.") or ["No settings of its own."])]
    return "\n".join(parts) + "\n"


def _table(config: Any, where: str) -> list[str]:
    rows = list(_rows(config, where))
    return ["| key | default | meaning |", "|---|---|---|", *rows] if rows else []


def _rows(config: Any, where: str) -> Iterator[str]:
    for key, default, meaning in settings_of(config, where):
        yield f"| `{key}` | `{default}` | {meaning.replace('|', '&#124;').replace('*', '&#42;')} |"


def main() -> None:
    for name, text in {"command": command(), "settings": settings()}.items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
