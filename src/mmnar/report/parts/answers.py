"""What a report answers with: each question in a row, in words that need no glossary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmnar.evaluation.result import Comparison, Estimate, Result, TaskCounts
from mmnar.render.blocks import Block, Cell, Paragraph, Table, table_of
from mmnar.render.wording import (
    asked,
    count,
    favours_model,
    interval,
    p_value,
    per_100,
    percent,
    survives,
    threshold_text,
)
from mmnar.report.inputs import Choices
from mmnar.report.parts.cohort import questions_of
from mmnar.report.parts.decided import alone
from mmnar.report.parts.summary import OUT_OF_FOLD, made_elsewhere
from mmnar.report.parts.worth import alert_figures, calibration_words, worth_words

HEAD = (
    "Question",
    "Patients",
    "Chosen model",
    "Against the best plain control",
    "Do its risks mean what they say?",
    "If everyone from a risk on got an alert",
    "Missed",
)
SINGLY = "outcome by outcome, in result.json"


def answers(result: Result, manifest: Mapping[str, Any], choices: Choices) -> Iterator[Block]:
    """One table, and how its models were chosen."""
    if result.out_of_fold:
        yield Paragraph(OUT_OF_FOLD, "note")
    rows = [_task(result, manifest, task, choices) for task in alone(result)]
    rows += [_panel(result, panel, choices) for panel in result.gathered]
    yield _table(result, rows)
    yield Paragraph(choices.how, "note")
    if said := made_elsewhere(result):
        yield Paragraph(said, "note")


def _table(result: Result, rows: list[list[Cell]]) -> Table:
    where = "of the test fold, whom no model saw"
    if result.elsewhere:
        where = "of the other store, whom no model saw"
    if result.out_of_fold:
        where = "each by the fit that never saw them"
    return table_of(f"Judged on patients {where}. In brackets: 95 % intervals.", HEAD, rows, look="cards")


def _task(result: Result, manifest: Mapping[str, Any], task: str, choices: Choices) -> list[Cell]:
    question = questions_of(manifest).get(task)
    note = f"{question['outcome']}; asked: {question['asked_at']}" if question else ""
    first = Cell(task, "name", note=note)
    size = _size(result.counts.get(task))
    model = choices.models.get(task)
    if model is None or model not in result.tasks[task]:
        return [first, size, *[Cell("no model", "muted")] * 5]
    entry = result.tasks[task][model]
    compared = [c for c in result.comparisons if (c.task, c.metric, c.model) == (task, "auroc", model)]
    against = _against(model, choices.controls.get(task), compared)
    return [first, size, _ranks(model, entry.metrics.get("auroc")), against, *_decisions(result, task, model)]


def _panel(result: Result, panel: str, choices: Choices) -> list[Cell]:
    tasks, model = result.gathered[panel], choices.models.get(panel)
    first = Cell(panel, "name", note=f"a panel of {len(tasks)} outcomes")
    sizes = {_size(result.counts.get(task), with_events=False) for task in tasks}
    size = sizes.pop() if len(sizes) == 1 else Cell("not the same for each outcome", "")
    if model is None or model not in result.panels[panel]:
        return [first, size, *[Cell("no model", "muted")] * 5]
    compared = [c for c in result.panel_comparisons if (c.task, c.metric, c.model) == (panel, "macro_auroc", model)]
    mean = result.panels[panel][model].metrics.get("macro_auroc")
    against = _against(model, choices.controls.get(panel), compared)
    return [first, size, _ranks(model, mean, ", on average over outcomes"), against, *[Cell(SINGLY, "muted")] * 3]


def _size(of: TaskCounts | None, with_events: bool = True) -> Cell:
    if of is None:
        return Cell("not recorded", "refused")
    if not with_events:
        return Cell(_whom(of), "")
    if not of.n or of.events is None:
        return Cell(_whom(of), "", note="with the outcome: withheld")
    return Cell(_whom(of), "", note=f"{count(of.events)} ({percent(of.events / of.n)}) with the outcome")


def _whom(of: TaskCounts) -> str:
    return f"{of.n:,} patients" if of.n is not None and of.n == of.subjects else asked(of)


def _ranks(model: str, auroc: Estimate | None, how: str = "") -> Cell:
    if auroc is None or auroc.value is None:
        return Cell(model, "", note=f"not given: {auroc.reason}" if auroc else "not computed")
    return Cell(model, "sure", note=f"ranks {_pairs(auroc)} of 100 pairs rightly{how}")


def _pairs(auroc: Estimate, digits: int = 0) -> str:
    """An AUROC as pairs of a patient with and one without the outcome."""
    value, low, high = (None if v is None else 100 * v for v in (auroc.value, auroc.low, auroc.high))
    return interval(Estimate(value, low, high), digits)


def _against(model: str, control: str | None, compared: list[Comparison]) -> Cell:
    """The verdict of the paired test, corrected for all that were made."""
    if model == control:
        return Cell("itself a plain control", "")
    of = next((c for c in compared if c.control == control), None)
    if control is None or of is None:
        return Cell("not compared with a plain control", "muted")
    if of.difference.value is None:
        return Cell(f"not compared with {control}", "muted", note=of.difference.reason)
    facts = f"difference {_pairs(of.difference, 1)} of 100 pairs, corrected p {p_value(of.p_holm)}"
    if not survives(of):
        return Cell(f"no better than {control} was shown", "", note=facts)
    better = favours_model(of)
    return Cell(f"{'better' if better else 'worse'} than {control}", "better" if better else "worse", note=facts)


def _decisions(result: Result, task: str, model: str) -> list[Cell]:
    """Calibration, alerts, and who is missed."""
    decided, said = result.tasks[task][model].decided, result.decisions.get(task)
    if decided is None or decided.reason or said is None:
        why = decided.reason if decided is not None and decided.reason else "not computed"
        return [Cell(f"not given: {why}", "refused")] * 3
    words = "not given" if decided.calibrated is None else calibration_words(decided.calibrated)
    verdict, _, facts = words.partition(": ")
    means = Cell(verdict.removeprefix("Risks ").removeprefix("were ").removeprefix("are "), "", note=facts)
    figures = alert_figures(result, task, model)
    worth = worth_words(said, model)
    judged = f"{worth.removeprefix('was ')} alerting all or none" if worth else ""
    at = threshold_text(said.main)
    if not figures:
        return [means, Cell(f"{at}: withheld", "refused", note=judged), Cell("withheld", "refused")]
    alerts, right = per_100(figures["alerts"]), percent(figures["ppv"].value or 0.0, 0)
    given = Cell(f"{at}: {alerts} of 100 get one, {right} rightly", "", note=judged)
    missed = figures["missed"]
    if missed.value is None:
        return [means, given, Cell("withheld", "refused")]
    found = percent(figures["sensitivity"].value or 0.0, 0)
    return [means, given, Cell(f"{per_100(missed)} of 100", "", note=f"{found} with the outcome found")]
