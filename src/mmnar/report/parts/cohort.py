"""Who is described: the source, what was asked of whom, and which rules left whom out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.atlas import Atlas, pooled_flows
from mmnar.evaluation.result import Result, TaskCounts
from mmnar.render.blocks import Block, Cell, Flow, Flows, Fold, Paragraph, Step, Table, named, table_of
from mmnar.render.cells import share_cell
from mmnar.render.wording import UNFOLDED, count, events

HINDSIGHT: Final = (
    "A rule that uses hindsight looks at what is known only after the prediction time. Such a cohort cannot be "
    "selected at the bedside, and results may not carry over. A step that leaves out fewer than 10 stays is merged "
    "with its neighbour."
)


def source_of(manifest: Mapping[str, Any]) -> str:
    """Name and version of where a store's data come from."""
    parts = [str(manifest[key]) for key in ("source", "source_version") if manifest.get(key)]
    return " ".join(parts) or "unnamed source"


def questions_of(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """task → what is asked and when, from the schema, where the manifest has one."""
    return {t["name"]: t for t in manifest.get("schema", {}).get("tasks", [])}


def asked_words(task: str, manifest: Mapping[str, Any]) -> str:
    """Outcome and moment of a task in a sentence each; "" where they are not recorded."""
    question = questions_of(manifest).get(task)
    return f"Outcome: {question['outcome']}. Asked: {question['asked_at']}." if question else ""


def cohort(manifest: Mapping[str, Any], atlas: Atlas | None, questions: Table | None) -> Iterator[Block]:
    """Source, questions, attrition."""
    size = f" {count(atlas.samples)} samples of {count(atlas.patients)} patients." if atlas else ""
    meaning = " A sample is one stay at one prediction time." if atlas else ""
    yield Paragraph(f"Source: {source_of(manifest)}.{size}{meaning}")
    if questions is not None:
        many = len(questions.rows) > UNFOLDED
        yield (
            Fold(f"{questions.caption} {len(questions.rows)} tasks.", (questions,), look="long") if many else questions
        )
    flows = attrition(manifest)
    if flows.flows:
        yield flows
        yield Paragraph(HINDSIGHT, "note")


def asked_of_the_scored(manifest: Mapping[str, Any], result: Result) -> Table:
    """Questions with how many were scored."""
    whose, where = ("Scored", "out of fold") if result.out_of_fold else ("Test", "in the test fold")
    if result.elsewhere:
        whose, where = "Scored", "on the other store"
    head = ("Task", "Asked", "Outcome", f"{whose} samples", f"{whose} patients", "Events")
    return table_of(
        f"What was asked, when, and of whom {where}.",
        head,
        [[named(task), *_question(task, manifest), *_sizes(result.counts.get(task))] for task in result.tasks],
    )


def asked_of_all(manifest: Mapping[str, Any], atlas: Atlas) -> Table | None:
    """Questions with the outcome rate of everyone asked."""
    tasks = questions_of(manifest)
    body = [[named(task), *_question(task, manifest), share_cell(atlas.outcomes[task].rate)] for task in tasks]
    head = ("Task", "Asked", "Outcome", "Rate among those asked")
    return table_of("What is asked, and when.", head, body) if body else None


def _question(task: str, manifest: Mapping[str, Any]) -> list[Cell]:
    question = questions_of(manifest).get(task)
    return [Cell(str(question[key]) if question else "not recorded", "") for key in ("asked_at", "outcome")]


def _sizes(of: TaskCounts | None) -> list[Cell]:
    if of is None:
        return [Cell("not recorded", "refused")] * 3
    return [Cell(count(of.n)), Cell(count(of.subjects)), Cell(events(of.events))]


def attrition(manifest: Mapping[str, Any]) -> Flows:
    """One flow for the cohort, one for each task not asked of all of it; steps that leave out few are merged."""
    ruled = {name for name, steps in manifest.get("attrition", {}).items() if name == "cohort" or len(steps) > 1}
    flows = [(name, steps) for name, steps in attrition_steps(manifest).items() if name in ruled]
    return Flows(tuple(Flow("Cohort" if name == "cohort" else name, _steps(steps)) for name, steps in flows))


def _steps(steps: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(
        Step(
            s["rule"],
            f"{count(s['kept'])} stays",
            f"{count(s['subjects'])} patients",
            f"{count(s['left_out'])} left out" if s["left_out"] else "none left out",
            s["share"],
            "uses hindsight" if s.get("hindsight") else "",
        )
        for s in steps
    )


def attrition_steps(manifest: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Flow → its steps, with how many each left out and the share of the first step that is kept."""
    return {flow: _with_left_out(steps) for flow, steps in pooled_flows(manifest).items()}


def _with_left_out(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    before = [steps[0], *steps[:-1]] if steps else []
    return [
        {**step, "left_out": last["kept"] - step["kept"], "share": step["kept"] / max(steps[0]["kept"], 1)}
        for last, step in zip(before, steps, strict=True)
    ]
