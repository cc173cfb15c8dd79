"""What the page for trying a patient shows: the fields of a run's recipe, and the page itself."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from mmnar.dataset.recipe import Recipe
from mmnar.sources.events import Rule
from mmnar.sources.meds.rules import AGE
from mmnar.sources.meds.survey import BIRTH, DEATH
from mmnar.sources.table.spec import ColumnSpec, TableSpec

PAGE: Final = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
"""Address → file and kind."""

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""The browser fetches nothing from elsewhere, and nobody else's page shows this one."""


def page(name: str) -> str:
    """A file of the page."""
    return resources.files("mmnar.workflow.service").joinpath("page", name).read_text(encoding="utf-8")


def fields(recipe: Recipe, run: str) -> dict[str, Any]:
    """What can be filled in, plain JSON: ``groups`` of fields of a table, ``codes`` of MEDS."""
    tasks = [{"name": task.name, "asked_at": task.asked_at, "outcome": task.outcome} for task in recipe.tasks]
    shown = {"run": run, "door": recipe.door, "tasks": tasks}
    if recipe.door == "table":
        return {**shown, "groups": _groups(TableSpec.from_dict(recipe.options["spec"]))}
    return {**shown, "codes": _codes(recipe.rules)}


def _groups(spec: TableSpec) -> list[dict[str, Any]]:
    needed = {spec.subject: "1", spec.sample: "1", spec.prediction_time: ""}
    question = [_field(name, required=True, value=value) for name, value in needed.items() if name]
    question += [
        _field(rule.column, hint=f"left out: {', '.join(rule.values)}") for rule in spec.exclude if not rule.hindsight
    ]
    groups = [{"name": "Patient", "fields": question}]
    for modality in dict.fromkeys(column.modality for column in spec.columns):
        own = [column for column in spec.columns if column.modality == modality]
        times = dict.fromkeys(column.known_at for column in own if column.known_at)
        listed = [_of_column(column) for column in own]
        groups.append({"name": modality, "fields": [*listed, *(_field(name, hint="time") for name in times)]})
    return groups


def _of_column(column: ColumnSpec) -> dict[str, Any]:
    low, high = ("any" if bound is None else f"{bound:g}" for bound in (column.low, column.high))
    ranged = "" if column.low is None and column.high is None else f"{low} to {high}"
    hint = ", ".join(part for part in (column.unit, ranged) if part)
    return _field(column.name, kind=column.type or "number", categories=column.categories, hint=hint)


def _field(
    name: str,
    *,
    kind: str = "text",
    categories: tuple[str, ...] = (),
    hint: str = "",
    required: bool = False,
    value: str = "",
) -> dict[str, Any]:
    listed = list(categories)
    return {"name": name, "kind": kind, "categories": listed, "hint": hint, "required": required, "value": value}


def _codes(rules: tuple[Rule, ...]) -> list[str]:
    read = {code.removesuffix("*") for rule in rules for code in rule.codes}
    return sorted({*read, BIRTH, DEATH} - {AGE})
