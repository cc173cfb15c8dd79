"""The pages' templates: everything escaped, nothing undefined, one style sheet."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmnar.privacy import briefly
from mmnar.report import figures, summary, wording


def filled(template: str, **context: Any) -> str:
    """A whole page as text; ``css`` is the style sheet."""
    environment = Environment(
        loader=PackageLoader("mmnar", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(figures=figures, wording=wording, summary=summary, metric_words=wording.metric_words)
    environment.filters.update(
        interval=wording.interval,
        percent_interval=wording.percent_interval,
        percent=wording.percent,
        number=wording.number,
        count=wording.count,
        events=wording.events,
        group_count=wording.group_count,
        p=wording.p_value,
        pretty=_pretty,
        briefly=briefly,
    )
    # the style sheet is ours and holds no data
    css = Markup(resources.files("mmnar.report").joinpath("report.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(css=css, **context)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, default=str)
