"""A page as one offline HTML file: everything escaped, nothing undefined, one style sheet."""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmnar.render.blocks import Page
from mmnar.render.svg import share_bar


def html_of(page: Page) -> str:
    """The whole page as text."""
    environment = Environment(
        loader=PackageLoader("mmnar", "render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(share_bar=share_bar)
    # the style sheet is ours and holds no data
    css = Markup(resources.files("mmnar.render").joinpath("page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html").render(css=css, page=page)
