"""Titles in place of code names: pages say "ICU admission", result.json says icu_admission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from mmnar.evaluation.atlas import Atlas
from mmnar.evaluation.result import PanelModel, Result
from mmnar.report.inputs import ReportInputs, RunRecord, StoreFacts

ACRONYMS: Final = {"aki", "ards", "chf", "copd", "cxr", "ecg", "ed", "ehr", "icu", "los", "mi"}
T = TypeVar("T")


def title(name: str) -> str:
    """A code name as words.

    >>> title("icu_admission"), title("los_7_days"), title("in-hospital death")
    ('ICU admission', 'LOS 7 days', 'In-hospital death')
    """
    words = [word.upper() if word.lower() in ACRONYMS else word for word in name.split("_") if word]
    text = " ".join(words) or name
    return text[:1].upper() + text[1:]


def entitled(inputs: ReportInputs) -> ReportInputs:
    """The same with titles of tasks and panels; code names where two would have one title."""
    result = inputs.result
    titles = titles_of(inputs.store, [*result.tasks, *result.gathered])
    return replace(
        inputs,
        store=_store(inputs.store, titles),
        result=_result(result, titles),
        runs=tuple(_run(run, titles) for run in inputs.runs),
        choices=None if inputs.choices is None else inputs.choices.renamed(titles),
        abstentions=tuple(replace(of, tasks=_keys(of.tasks, titles)) for of in inputs.abstentions),
        tilts=tuple(replace(of, tasks=_keys(of.tasks, titles)) for of in inputs.tilts),
    )


def entitled_store(store: StoreFacts) -> StoreFacts:
    """A store alone with titles of its tasks."""
    return _store(store, titles_of(store))


def titles_of(store: StoreFacts, names: Iterable[str] = ()) -> dict[str, str]:
    """Code name → title, of a store's tasks and others; {} where two would have one title."""
    asked = [] if store.atlas is None else list(store.atlas.outcomes)
    titles = {name: title(name) for name in [*names, *asked]}
    return titles if len(set(titles.values())) == len(titles) else {}


def _keys(mapping: Mapping[str, T], titles: Mapping[str, str]) -> dict[str, T]:
    return {titles.get(name, name): value for name, value in mapping.items()}


def _result(result: Result, titles: Mapping[str, str]) -> Result:
    return replace(
        result,
        tasks=_keys(result.tasks, titles),
        counts=_keys(result.counts, titles),
        comparisons=tuple(replace(c, task=titles.get(c.task, c.task)) for c in result.comparisons),
        provenance={**result.provenance, "panels": [_panel(p, titles) for p in result.provenance.get("panels", ())]},
        panels=_keys({panel: _models(of, titles) for panel, of in result.panels.items()}, titles),
        panel_comparisons=tuple(replace(c, task=titles.get(c.task, c.task)) for c in result.panel_comparisons),
        decisions=_keys(result.decisions, titles),
    )


def _panel(panel: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """A panel of a result's provenance."""
    tasks = [titles.get(task, task) for task in panel["tasks"]]
    kinds = [(titles.get(task, task), kind) for task, kind in panel["kinds"]]
    return {**panel, "name": titles.get(panel["name"], panel["name"]), "tasks": tasks, "kinds": kinds}


def _models(models: Mapping[str, PanelModel], titles: Mapping[str, str]) -> dict[str, PanelModel]:
    return {
        name: replace(
            of, counted=tuple(titles.get(task, task) for task in of.counted), left_out=_keys(of.left_out, titles)
        )
        for name, of in models.items()
    }


def _store(store: StoreFacts, titles: Mapping[str, str]) -> StoreFacts:
    atlas, signal, manifest = store.atlas, store.informative, store.manifest
    schema = dict(manifest.get("schema", {}))
    if "tasks" in schema:
        schema["tasks"] = [{**task, "name": titles.get(task["name"], task["name"])} for task in schema["tasks"]]
    told = {**manifest, "schema": schema}
    if "attrition" in manifest:
        told["attrition"] = _keys(manifest["attrition"], titles)
    return StoreFacts(
        told,
        None if atlas is None else _atlas(atlas, titles),
        None if signal is None else replace(signal, tasks=_keys(signal.tasks, titles)),
    )


def _atlas(atlas: Atlas, titles: Mapping[str, str]) -> Atlas:
    patterns = tuple(replace(row, outcomes=_keys(row.outcomes, titles)) for row in atlas.patterns)
    return replace(atlas, outcomes=_keys(atlas.outcomes, titles), patterns=patterns)


def _run(run: RunRecord, titles: Mapping[str, str]) -> RunRecord:
    rectifier = None if run.rectifier is None else _keys(run.rectifier, titles)
    return replace(run, rectifier=rectifier, weights=_keys(run.weights, titles))
