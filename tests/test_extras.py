"""What a message says to install is what the project states, and every message says it in the same words."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from mmnar.extras import lacking, packages

REPOSITORY = Path(__file__).parents[1]
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OURS = {"dev", "docs"}
"""Extras for who works on the package: no message names them."""


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - OURS))
def test_packages_of_an_extra_are_those_of_the_project(extra: str) -> None:
    plain = {re.sub(r"\W", "", requirement) for requirement in packages(extra)}
    assert plain == {re.sub(r"\W", "", requirement) for requirement in EXTRAS[extra]}
    message = str(lacking("this", "that", extra))
    assert f"pip install '.[{extra}]' in a checkout" in message
    assert all(requirement in message for requirement in packages(extra))


def test_no_other_place_says_how_to_install_an_extra() -> None:
    named = set()
    for path in (REPOSITORY / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path.name == "extras.py" or not re.search(r"pip install '?(\.|mmnar)", text), path
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        named |= {ast.literal_eval(c.args[2]) for c in calls if isinstance(c.func, ast.Name) and c.func.id == "lacking"}
    assert named == set(EXTRAS) - OURS
