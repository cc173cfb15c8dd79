"""The summary: sentences that follow from the numbers by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.result import Comparison, Estimate, ModelTask, Result
from mmnar.privacy import FEW_OUTCOMES
from mmnar.render.blocks import Block, Heading, Listing, Paragraph
from mmnar.render.wording import RECTIFIED, asked, count, favours_model, interval, number, p_value, percent, survives
from mmnar.report.parts.cohort import questions_of
from mmnar.report.parts.worth import alert_sentences

Pair = tuple[str, str | None]
LEANS: Final = (
    "The leading model is named after the same test patients were scored, so its value leans to the optimistic side. "
    "Intervals are 95 % unless said otherwise."
)


OUT_OF_FOLD: Final = (
    "No test fold was set apart. Internal validation by cross-fitting: each patient's risk is that of the one fit that "
    "never saw the patient, so what is judged are the fits one by one, not their mean, which scores new patients. "
    "Judge the mean on other records with evaluate --on."
)


def made_elsewhere(result: Result) -> str:
    """What must be said of risks that no run made; "" where there are none."""
    names = result.outside
    if not names:
        return ""
    was, they, their = ("was", "it", "its") if len(names) == 1 else ("were", "they", "their")
    return (
        f"{', '.join(names)} {was} made elsewhere: whom {they} learned from is not known here. If patients who are "
        f"scored were among them, {their} figures are too good."
    )


def is_rectified(name: str) -> bool:
    return name.endswith(RECTIFIED)


def model_pairs(models: dict[str, ModelTask]) -> list[Pair]:
    """(model, its rectified form or None), best AUROC first; refused values last.

    >>> e = {"a": 0.7, "b": 0.8, "b+rectifier": 0.81}
    >>> model_pairs({k: ModelTask({"auroc": Estimate(v)}) for k, v in e.items()})
    [('b', 'b+rectifier'), ('a', None)]
    """
    bases = [m for m in models if not (is_rectified(m) and m.removesuffix(RECTIFIED) in models)]
    bases.sort(key=lambda m: -_auroc(models[m]))
    return [(m, m + RECTIFIED if m + RECTIFIED in models else None) for m in bases]


def _auroc(entry: ModelTask) -> float:
    estimate = entry.metrics.get("auroc")
    return -1.0 if estimate is None or estimate.value is None else estimate.value


def best_model(models: dict[str, ModelTask]) -> str | None:
    """The model with the highest AUROC, rectified forms apart; None where every AUROC is refused."""
    pairs = model_pairs(models)
    return pairs[0][0] if pairs and _auroc(models[pairs[0][0]]) >= 0 else None


def summary(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Sentences about every task, and how to read that models were compared."""
    yield from findings(result, manifest)
    yield Paragraph(LEANS, "note")


def findings(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Sentences about every task."""
    questions = questions_of(manifest)
    if result.out_of_fold:
        yield Paragraph(OUT_OF_FOLD, "note")
    if said := made_elsewhere(result):
        yield Paragraph(said, "note")
    inside = {task for tasks in result.gathered.values() for task in tasks}
    for task in (task for task in result.tasks if task not in inside):
        yield Heading(task)
        if task in questions:
            yield Paragraph(f"Asked: {questions[task]['asked_at']}. Outcome: {questions[task]['outcome']}.", "note")
        yield Listing(tuple(summarise(result, task)))
    for panel in result.gathered:
        yield Heading(panel)
        yield Listing(tuple(panel_sentences(result, panel)))


def panel_sentences(result: Result, panel: str) -> Iterator[str]:
    """Sentences about a panel of several outcomes."""
    models, tasks = result.panels[panel], result.gathered[panel]
    means = {name: of.metrics["macro_auroc"] for name, of in models.items() if not is_rectified(name)}
    known = {name: of.value for name, of in means.items() if of.value is not None}
    yield f"A panel of {len(tasks)} outcomes, of which {len(next(iter(models.values())).counted)} enter its means."
    if not known:
        yield f"No mean AUROC can be given: {next(iter(means.values())).reason}."
        return
    best = max(known, key=lambda name: known[name])
    lead = f"{best} had the highest mean AUROC" if len(known) > 1 else "Mean AUROC"
    yield f"{lead}, {interval(means[best])}."
    yield from _against_controls(
        [c for c in result.panel_comparisons if (c.task, c.metric) == (panel, "macro_auroc")], best, result.outside
    )
    of_outcomes = {t: result.tasks[t][best].metrics["auroc"].value for t in models[best].counted}
    each = {task: value for task, value in of_outcomes.items() if value is not None}
    if len(each) > 1:
        low, high = min(each, key=lambda t: each[t]), max(each, key=lambda t: each[t])
        yield f"By outcome its AUROC ran from {number(each[low])} ({low}) to {number(each[high])} ({high})."


def summarise(result: Result, task: str) -> list[str]:
    """Sentences about one task."""
    models, best = result.tasks[task], best_model(result.tasks[task])
    if best is None:
        return [_asked(result, task), *_refusals(models)]
    entry = models[best]
    auroc = entry.metrics["auroc"]
    several = len(model_pairs(models)) > 1
    lead = f"{best} had the highest AUROC, {interval(auroc)}." if several else f"AUROC {interval(auroc)}."
    sentences = [_asked(result, task), f"{lead} {_of_100_pairs(auroc)}"]
    mine = [c for c in result.comparisons if c.task == task and c.metric == "auroc"]
    sentences += _against_controls(mine, best, result.outside)
    sentences += _within_pattern(entry)
    sentences += _calibration(entry)
    sentences += alert_sentences(result, task, best)
    return sentences + _with_rectifier(models, best)


def alarms(result: Result) -> list[str]:
    """One sentence for each rectifier gain that is larger than patterns can explain."""
    return [
        f"Leakage alarm: on {task}, the gain of {model} is more than offsets can explain. {entry.oracle.words}"
        for task, models in result.tasks.items()
        for model, entry in models.items()
        if entry.oracle is not None and entry.oracle.alarm
    ]


def _held(result: Result) -> str:
    if result.elsewhere:
        return "Scored on the other store:"
    return "Scored out of fold:" if result.out_of_fold else "The test fold held"


def _asked(result: Result, task: str) -> str:
    c = result.counts.get(task)
    if c is None:
        return "How many scored patients were asked is not recorded."
    if not c.n or c.events is None:
        reason = (c.reason or FEW_OUTCOMES).removeprefix("withheld: ")
        return f"{_held(result)} {asked(c)}. How often the outcome occurred is withheld: {reason}."
    return f"{_held(result)} {asked(c)}. The outcome occurred in {count(c.events)} ({percent(c.events / c.n)})."


def _refusals(models: dict[str, ModelTask]) -> list[str]:
    reasons = sorted({m.metrics["auroc"].reason for m in models.values() if "auroc" in m.metrics})
    return [f"No AUROC can be given: {reason}." for reason in reasons]


def _of_100_pairs(auroc: Estimate) -> str:
    assert auroc.value is not None
    return (
        "Of a patient with the outcome and one without, it gave the higher risk to the first "
        f"in about {number(100 * auroc.value, 0)} of 100 such pairs."
    )


def _against_controls(comparisons: list[Comparison], best: str, outside: Sequence[str]) -> list[str]:
    said = [_one_comparison(c, outside) for c in comparisons if c.model == best]
    rivals = [c for c in comparisons if c.control == best]
    if not rivals:
        return said or ["It was not compared with a control, so nothing can be said about superiority."]
    itself = "was made elsewhere" if best in outside else "is itself a control"
    ahead = [c.model for c in rivals if survives(c) and favours_model(c)]
    if ahead:
        what = itself.replace("itself ", "")
        return [*said, f"It {what}, but the paired test favours {', '.join(ahead)}. Read the comparisons with care."]
    return [*said, f"It {itself}. No model compared with it was shown to rank patients better."]


def _one_comparison(c: Comparison, outside: Sequence[str]) -> str:
    other = f"{c.control}, made elsewhere," if c.control in outside else f"the control {c.control}"
    if c.difference.value is None:
        return f"The comparison with {other} could not be made: {c.difference.reason}."
    what = "mean AUROC" if c.metric == "macro_auroc" else "AUROC"
    facts = f"difference in {what} {interval(c.difference, 3)}, Holm-corrected p {_p_phrase(c.p_holm)}"
    if not survives(c):
        return f"Against {other} no difference was shown: it does not survive correction ({facts})."
    if favours_model(c):
        return f"It ranked patients better than {other} ({facts})."
    return f"The paired test found it worse than {other} ({facts})."


def _p_phrase(p: float | None) -> str:
    text = p_value(p)
    return text if text[0] in "<n" else f"= {text}"


def _within_pattern(entry: ModelTask) -> list[str]:
    within = entry.metrics.get("auroc_within_pattern")
    if within is None or within.value is None:
        return []
    return [f"Among patients who have the same modalities, its AUROC was {interval(within)}."]


def _calibration(entry: ModelTask) -> list[str]:
    ece = entry.metrics.get("ece")
    if ece is None or ece.value is None:
        return []
    return [f"Its risks differed from observed rates by {number(ece.value, 3)} on average (ECE)."]


def _with_rectifier(models: dict[str, ModelTask], best: str) -> list[str]:
    entry = models.get(best + RECTIFIED)
    if entry is None or _auroc(entry) < 0:
        return []
    return [f"With pattern calibration offsets (the rectifier) its AUROC was {interval(entry.metrics['auroc'])}."]
