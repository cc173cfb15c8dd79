"""The site of these pages: ``make docs`` writes it to site/. A warning is an error, and nothing outside is asked for.

Sphinx, for docstrings here are its; Furo, which loads no font, script or picture from elsewhere.
"""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

import mmnar

project = "mmnar"
author = "mmnar maintainers"
release = version = mmnar.__version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"mmnar {mmnar.__version__}"
html_show_sourcelink = False
html_copy_source = False
html_show_copyright = False

_DOCSTRINGS = Config()


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", _told_elsewhere)
    app.connect("autodoc-process-signature", _plain)
    app.connect("autodoc-process-docstring", _sections)


def _told_elsewhere(_app: Sphinx, what: str, name: str, thing: Any, _skip: bool, _options: Any) -> bool | None:
    """Names that ``import mmnar`` gives have their own page, members of other libraries none."""
    if what == "class" and not (getattr(thing, "__module__", None) or "mmnar").startswith("mmnar"):
        return True
    if what == "module" and name in mmnar.__all__ and getattr(mmnar, name) is thing:
        return True
    return None


def _plain(
    _app: Sphinx, what: str, _name: str, thing: Any, _options: Any, _said: str | None, _returned: str | None
) -> tuple[str, None] | None:
    """A class by the names of what makes it: types and shapes are in the words below."""
    if what != "class" or inspect.isabstract(thing):
        return None
    try:
        names = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):  # made by no call of its own
        return None
    return f"({', '.join(names)})", None


def _sections(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Args, Raises and Returns. A property's first line is a sentence, in spite of its colon."""
    kind = "method" if what in ("property", "attribute", "data") else what
    lines[:] = GoogleDocstring(lines, _DOCSTRINGS, app, kind, name, thing, options).lines()
