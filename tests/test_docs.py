"""The site's pages: every public name, every verb, every line of the command that a page shows."""

from __future__ import annotations

import importlib
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

import mmnar
from mmnar.cli import app
from mmnar.config import RunConfig, keys_of
from tests.test_readme import script

ROOT = Path(__file__).parents[1]
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if p.name not in ("command.md", "settings.md", "methods.md"))
PAGES = [p for p in PAGES if p.parent.name != "gallery" or p.stem == "index"]  # the others are made by make docs
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)


def verbs(of: App, path: str = "mmnar") -> Iterator[str]:
    for name in of:
        if not name.startswith("-"):
            yield f"{path} {name}"
            yield from verbs(of[name], f"{path} {name}")


def public_modules() -> list[str]:
    """Those that ARCHITECTURE says are public."""
    section = (ROOT / "ARCHITECTURE.md").read_text().split("## What is public")[1].split("##")[0]
    (named,) = re.findall(r"may be relied on: (.*?);", section, re.S)
    return re.findall(r"`([\w.]+)`", named)


def test_every_public_name_is_on_a_page() -> None:
    page = (ROOT / "docs" / "reference" / "index.md").read_text()
    told = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)$", page, re.M)
    assert sorted(told) == dir(mmnar), "docs/reference/index.md"


def test_every_public_module_is_on_a_page() -> None:
    page = (ROOT / "docs" / "reference" / "modules.md").read_text()
    told = re.findall(r"^\.\. automodule:: mmnar\.([\w.]+)\n   :members:$", page, re.M)
    assert told == public_modules(), "docs/reference/modules.md"
    for name in told:
        assert importlib.import_module(f"mmnar.{name}").__all__


def test_every_verb_and_every_setting_is_on_a_page() -> None:
    reference = script("make_reference")
    page = reference.command()
    every = list(verbs(app))
    assert len(every) > 20
    assert [v for v in every if f"\n## {v}\n" not in page and f"\n### {v}\n" not in page] == []
    settings = reference.settings()
    assert [key for key in keys_of(RunConfig()) if f"| `{key}" not in settings] == []


def test_every_make_on_a_page_is_a_target() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
    said = {(p.name, name) for p in pages for name in re.findall(r"`make ([\w-]+)`", p.read_text(encoding="utf-8"))}
    assert len(said) > 5
    assert {of for of in said if of[1] not in targets} == set()


def test_the_version_is_said_alike() -> None:
    """In pyproject.toml, which the next release is made of, and for who cites it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (cited,) = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert project["version"] == cited
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def shown() -> Iterator[tuple[str, str]]:
    """(page, line) of every command in a block of shell."""
    for page in (ROOT / "README.md", *PAGES):
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            lines = re.sub(r"\s*\\\n\s*", " ", textwrap.dedent(block)).splitlines()
            yield from ((page.name, line) for line in lines if line.startswith("mmnar "))


@pytest.mark.parametrize("page", sorted({page for page, _ in shown()}))
def test_every_command_on_a_page_is_one(page: str) -> None:
    """Verbs, options and how many arguments; nothing is run."""
    for where, line in shown():
        if where == page:
            words = shlex.split(line.split(" > ")[0], comments=True)[1:]
            app.parse_args(words, print_error=False, exit_on_error=False)


def test_every_page_is_in_the_navigation() -> None:
    """A page without a place in it also fails ``make docs``; this says so earlier."""
    docs = ROOT / "docs"
    named = set()
    for page in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.S):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    named |= set(page.parent.glob(f"{line}.md"))
    assert sorted(str(p.relative_to(docs)) for p in set(PAGES) - named) == ["index.md"]


def test_the_gallerys_scripts_are_short_and_have_a_title() -> None:
    """``make docs`` runs all of them, and fails where one does."""
    gallery = script("make_gallery")
    assert len(gallery.scripts()) == 8
    for path in gallery.scripts():
        assert len(path.read_text().splitlines()) <= 40, path.name
        assert gallery.page(path, "printed").startswith("# "), path.name
