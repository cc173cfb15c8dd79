"""The chosen model in full: every question with its figures, charts and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from mmnar.evaluation.atlas import Atlas
from mmnar.evaluation.result import Estimate, ModelTask, Result
from mmnar.render.blocks import Block, Figure, Fold, Heading, Listing, Paragraph, Picture
from mmnar.render.charts import legend
from mmnar.render.decision_charts import RISK_LEGEND, net_benefit
from mmnar.render.svg import BLUE, DASHES, MUTED
from mmnar.render.wording import RECTIFIED, threshold_text
from mmnar.report.inputs import Choices
from mmnar.report.parts.alerts import benefit_lines, benefit_of_everyone, threshold_tables, thresholds_words
from mmnar.report.parts.calibration import calibration_table, risk_pictures, smooth_pictures
from mmnar.report.parts.cohort import asked_words
from mmnar.report.parts.decided import alone, decided_of, undecided
from mmnar.report.parts.gaps import gap_sentences
from mmnar.report.parts.groups import group_table
from mmnar.report.parts.panels import outcomes_picture, panel_table
from mmnar.report.parts.performance import HEADLINE, WITHIN, compared_table, known, metric_table, model_cell
from mmnar.report.parts.steadiness import hidden_table, spread_table
from mmnar.report.parts.summary import panel_sentences, summarise

WORTH: Final = "Are alerts worth it? Above both dotted lines: yes"
MEANT: Final = "Do its risks mean what they say? On the dotted line: yes"
APART: Final = "Where its risks lie. The further apart, the better"


def chosen_in_full(
    result: Result, manifest: Mapping[str, Any], choices: Choices, atlas: Atlas | None
) -> Iterator[Block]:
    """Each task, then each panel of several."""
    for task in alone(result):
        if task in choices.models:
            yield Heading(f"{task}: {choices.models[task]}")
            yield from _task(only(result, task, choices), manifest, task, choices, atlas)
    for panel in result.gathered:
        if panel in choices.models:
            yield Heading(f"{panel}: {choices.models[panel]}")
            yield from _panel(result, panel, choices)


def only(result: Result, task: str, choices: Choices) -> Result:
    """A task's chosen model, with and without rectifier, and its plain control."""
    names = [choices.models[task], choices.models[task] + RECTIFIED]
    names += [choices.controls[task]] if task in choices.controls else []
    kept = {name: of for name, of in result.tasks[task].items() if name in names}
    return replace(result, tasks={task: kept})


def _task(
    result: Result, manifest: Mapping[str, Any], task: str, choices: Choices, atlas: Atlas | None
) -> Iterator[Block]:
    model, control = choices.models[task], choices.controls.get(task, "")
    entry = result.tasks[task][model]
    if words := asked_words(task, manifest):
        yield Paragraph(words, "note")
    yield Listing(tuple(summarise(result, task, model, control)))
    names = known(result.tasks[task], (*HEADLINE, *WITHIN[:1]))
    yield metric_table(result, task, names, f"Performance on {task}.", "auroc")
    if compared := [c for c in result.comparisons if (c.task, c.metric, c.model) == (task, "auroc", model)]:
        yield compared_table(task, "auroc", compared)
    yield from _decisions(result, task, model, control)
    if entry.patterns:
        yield group_table(f"{model} on {task} by observation pattern.", "Pattern", entry.patterns, atlas)
    yield from _leanings(result, task, model)
    yield from _groups(task, model, entry)


def _leanings(result: Result, task: str, model: str) -> Iterator[Block]:
    """What changes with a modality hidden, and how far the model's fits lie apart."""
    decided, said = result.tasks[task][model].decided, result.decisions.get(task)
    if decided is None or said is None:
        return
    main = threshold_text(said.main)
    if decided.hidden:
        yield hidden_table(model, task, main, decided.hidden)
    if decided.spread is not None:
        table = spread_table(task, main, {model: decided.spread})
        yield Fold("How far the fits behind the model lie apart", (table,), look="long")


def _groups(task: str, model: str, entry: ModelTask) -> Iterator[Block]:
    if entry.decided is not None and entry.decided.fairness:
        yield Listing(tuple(gap_sentences(entry.decided.fairness)))
    plain = {attribute.replace("_", " "): rows for attribute, rows in entry.subgroups.items()}
    tables = tuple(group_table(f"{model} on {task} by {what}.", what, rows, None) for what, rows in plain.items())
    if tables:
        yield Fold("Each group of patients", tables, look="long")


def _decisions(result: Result, task: str, model: str, control: str) -> Iterator[Block]:
    """Charts side by side, then alerts at thresholds, then calibration."""
    decided, said = decided_of(result, task), result.decisions.get(task)
    if reason := undecided(result, task):
        yield Paragraph(f"Alerts and calibration are not given: {reason}.", "note")
    if said is None or model not in decided:
        return
    own = {name: of for name, of in decided.items() if name.removesuffix(RECTIFIED) == model}
    looks = {model: (BLUE, "")} | ({control: (MUTED, DASHES[1])} if control and control != model else {})
    lines = benefit_lines(decided, looks)
    chart = net_benefit(task, lines[::-1], benefit_of_everyone(said), (250, 235))
    mine = replace(result, tasks={task: {n: m for n, m in result.tasks[task].items() if n in own}})
    bars = tuple(replace(bar, name=APART) for bar in risk_pictures(task, own))
    smooth = tuple(replace(curve, name=MEANT) for curve in smooth_pictures(mine, task, own))
    yield Figure("", (Picture(chart, WORTH), *smooth, *bars), "row", legend(lines) + RISK_LEGEND)
    yield Paragraph(thresholds_words(said), "note")
    yield from threshold_tables(task, own)
    yield calibration_table(mine, task, own)


def _panel(result: Result, panel: str, choices: Choices) -> Iterator[Block]:
    model, control = choices.models[panel], choices.controls.get(panel, "")
    rows = {n: of for n, of in result.panels[panel].items() if n.removesuffix(RECTIFIED) == model or n == control}
    yield Listing(tuple(panel_sentences(result, panel, model, control)))
    yield from panel_table(panel, rows, lambda name: model_cell(name, result))
    if compared := [
        c for c in result.panel_comparisons if (c.task, c.metric, c.model) == (panel, "macro_auroc", model)
    ]:
        yield compared_table(panel, "macro_auroc", compared)
    own = _aurocs(result, panel, model)
    other = {} if control in ("", model) else _aurocs(result, panel, control)
    yield outcomes_picture(panel, model, own, control, other)


def _aurocs(result: Result, panel: str, model: str) -> dict[str, Estimate]:
    return {task: result.tasks[task][model].metrics["auroc"] for task in result.gathered[panel]}
