"""Is missingness informative? Tests of the observation pattern, and what may be said after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mmnar.evaluation.informative import Informativeness, TaskSignal
from mmnar.render.blocks import Block, Cell, Fold, Listing, Paragraph, Table, named, table_of
from mmnar.render.cells import refused_cell, value_cell
from mmnar.render.wording import ALPHA, UNFOLDED, count, number, p_value, percent

CANNOT_TELL: Final = (
    "No test can tell whether the pattern stands for what made clinicians look or changes the outcome itself."
)
HOW: Final = (
    "The pattern alone: outcome rate of each pattern, smoothed and taken from other folds; its p value comes from "
    "{permutations:,} permutations of patients. Beyond what is always observed: generalised covariance measure with "
    "cross-fitted ridge-logistic regressions of outcome and presence; each patient counts once. The gain is the "
    "cross-fitted log-likelihood of the outcome with the pattern minus without it."
)


def missingness(signal: Informativeness) -> Iterator[Block]:
    """The verdict of each task, the tests, each modality by itself, and how this was tested."""
    yield from verdicts(signal)
    anchor = ""
    if signal.always:
        anchor = f" to {', '.join(signal.always)} ({signal.rule}; {percent(signal.kept)} of samples)"
    yield Paragraph(
        f"{CANNOT_TELL} A pattern that follows what was measured, and nothing else, also ranks patients: the test "
        f"beside it asks whether the pattern adds anything{anchor}.",
        "note",
    )
    table = tests(signal)
    yield Fold("Tests of each outcome", (table,), look="long") if len(table.rows) > UNFOLDED else table
    told = {task: tuple(_each(task, of)) for task, of in signal.tasks.items() if of.conditional is not None}
    each = [Fold(f"{task}: each modality by itself", blocks) for task, blocks in told.items()]
    yield from each if len(each) <= UNFOLDED else [Fold("Each modality by itself", tuple(each), look="long")]
    how = HOW.format(permutations=signal.permutations)
    yield Fold("How this was tested", (Paragraph(how + f" {drawn}" if (drawn := sampled(signal)) else how),))


def sampled(signal: Informativeness) -> str:
    """How many patients the tests looked at, where those are not all."""
    if signal.subjects_used >= signal.subjects:
        return ""
    return f"{count(signal.subjects_used)} of {count(signal.subjects)} patients were drawn at random for these tests."


def verdicts(signal: Informativeness) -> Iterator[Block]:
    """A sentence for each task; of many tasks the most are folded."""
    said = tuple(signal_verdict(task, answer) for task, answer in signal.tasks.items())
    yield Listing(said[:UNFOLDED])
    if rest := said[UNFOLDED:]:
        yield Fold(f"{len(rest)} more outcomes", (Listing(rest),), look="long")


def tests(signal: Informativeness) -> Table:
    """One row a task."""
    return table_of(
        "Tests of the observation pattern. p values are corrected with Holm's method over the tasks.",
        (
            "Task",
            "AUROC of the pattern alone",
            "p",
            "Beyond what is always observed",
            "p",
            "Gain, nats a sample",
            "Bits",
        ),
        [[named(task), *_alone(answer), *_beyond(answer)] for task, answer in signal.tasks.items()],
    )


def _alone(answer: TaskSignal) -> list[Cell]:
    return [value_cell(answer.pattern_auroc), Cell(p_value(answer.pattern_p_holm))]


def _beyond(answer: TaskSignal) -> list[Cell]:
    c = answer.conditional
    if c is None:
        return [refused_cell(answer.reason), *[Cell("–", "muted")] * 3]
    bits = Cell("not given", "refused") if c.bits is None else Cell(number(c.bits, 4))
    statistic = Cell(f"χ² {number(c.statistic, 1)}, df {c.df}")
    return [statistic, Cell(p_value(c.p_holm)), value_cell(c.gain, 4), bits]


def _each(task: str, answer: TaskSignal) -> Iterator[Block]:
    assert answer.conditional is not None
    body = [[named(m.modality), Cell(number(m.z, 1)), Cell(p_value(m.p_holm))] for m in answer.conditional.modalities]
    caption = f"{task}: z above 0: patients who have it have the outcome more often than the always observed part says."
    yield table_of(caption, ("Modality", "z", "Holm p"), body, look="narrow")
    if answer.left_out:
        names = ", ".join(answer.left_out)
        yield Paragraph(f"Left out, because fewer than 10 of the patients asked have it or lack it: {names}.", "note")


def signal_verdict(task: str, answer: TaskSignal) -> str:
    """What may be said about the missingness of one task, in a sentence."""
    if answer.pattern_auroc.value is None:
        return f"{task}: not tested: {answer.pattern_auroc.reason}."
    alone = answer.pattern_p_holm is not None and answer.pattern_p_holm < ALPHA
    if answer.conditional is None:
        start = "what is missing tells patients apart" if alone else "no sign that what is missing tells patients apart"
        return f"{task}: {start}; whether beyond what was measured is {answer.reason}."
    p = answer.conditional.p_holm
    if p is not None and p < ALPHA:
        return f"{task}: what is missing says something that the always observed part does not: informative."
    if alone:
        return f"{task}: what is missing tells patients apart, but nothing beyond the always observed part was shown."
    return f"{task}: no sign that missingness is informative. That does not prove it is not."
