"""The README's Python runs as it stands."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from mmnar import cli

README = Path(__file__).parents[1] / "README.md"


def test_the_python_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    cli.prepare.synthetic(out=Path("store"), patients=600)
    capsys.readouterr()
    exec(compile(block, "README.md", "exec"), {})
    assert "Estimate(value=0." in capsys.readouterr().out


def test_every_command_in_the_readme_exists() -> None:
    verbs = {name for line in README.read_text().splitlines() for name in re.findall(r"^mmnar (\w+)", line)}
    assert verbs >= {"prepare", "describe", "train", "report", "evaluate"}
    for verb in verbs:
        assert verb in cli.app or verb == "prepare"


def script(name: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, README.parent / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_methods_is_that_of_the_cards() -> None:
    page = (README.parent / "docs" / "methods.md").read_text(encoding="utf-8")
    assert page == script("make_methods").methods(), "run python docs/make_methods.py"


def test_the_pages_of_results_are_those_of_the_saved_studies() -> None:
    wanted = script("make_results").documents()
    there = set((README.parent / "docs" / "results").glob("*.md"))
    assert {page for page in there if page.stem not in ("index", "measured")} == set(wanted), (
        "run python docs/make_results.py"
    )
    for path, text in wanted.items():
        assert path.read_text(encoding="utf-8") == text, "run python docs/make_results.py"
