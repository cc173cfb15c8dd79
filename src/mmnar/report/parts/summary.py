"""The summary: sentences that follow from the numbers by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmnar.evaluation.result import Comparison, Estimate, ModelTask, Result
from mmnar.privacy import FEW_OUTCOMES
from mmnar.render.blocks import Block, Heading, Listing, Paragraph
from mmnar.render.wording import RECTIFIED, asked, count, favours_model, interval, number, p_value, percent, survives
from mmnar.report.parts.cohort import asked_words
from mmnar.report.parts.worth import alert_sentences, calibration_words

Pair = tuple[str, str | None]
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


def findings(result: Result, manifest: Mapping[str, Any]) -> Iterator[Block]:
    """Sentences about every task, of the model with the highest AUROC."""
    if result.out_of_fold:
        yield Paragraph(OUT_OF_FOLD, "note")
    if said := made_elsewhere(result):
        yield Paragraph(said, "note")
    inside = {task for tasks in result.gathered.values() for task in tasks}
    for task in (task for task in result.tasks if task not in inside):
        yield Heading(task)
        if words := asked_words(task, manifest):
            yield Paragraph(words, "note")
        yield Listing(tuple(summarise(result, task, best_model(result.tasks[task]))))
    for panel in result.gathered:
        yield Heading(panel)
        yield Listing(tuple(panel_sentences(result, panel, best_on_panel(result, panel))))


def best_on_panel(result: Result, panel: str) -> str | None:
    """The model with the highest mean AUROC, rectified forms apart; None where every one is refused."""
    means = {n: of.metrics["macro_auroc"].value for n, of in result.panels[panel].items() if not is_rectified(n)}
    known = {name: value for name, value in means.items() if value is not None}
    return max(known, key=lambda name: known[name]) if known else None


def panel_sentences(result: Result, panel: str, model: str | None, control: str = "") -> Iterator[str]:
    """Sentences about a panel of several outcomes, of one model; ``control``: the only one it is held against."""
    models, tasks = result.panels[panel], result.gathered[panel]
    yield f"A panel of {len(tasks)} outcomes, of which {len(next(iter(models.values())).counted)} enter its means."
    mean = models[model].metrics["macro_auroc"] if model else next(iter(models.values())).metrics["macro_auroc"]
    if model is None or mean.value is None:
        yield f"No mean AUROC can be given: {mean.reason}."
        return
    yield f"Mean AUROC of {model}: {interval(mean)}."
    compared = [c for c in result.panel_comparisons if (c.task, c.metric) == (panel, "macro_auroc")]
    yield from _against_controls(_with_control(compared, control, result.outside), model, result.outside)
    of_outcomes = {t: result.tasks[t][model].metrics["auroc"].value for t in models[model].counted}
    each = {task: value for task, value in of_outcomes.items() if value is not None}
    if len(each) > 1:
        low, high = min(each, key=lambda t: each[t]), max(each, key=lambda t: each[t])
        yield f"By outcome its AUROC ran from {number(each[low])} ({low}) to {number(each[high])} ({high})."


def summarise(result: Result, task: str, model: str | None, control: str = "") -> list[str]:
    """Sentences about one task, of one model; ``control``: the only one it is held against."""
    models = result.tasks[task]
    if model is None or _auroc(models[model]) < 0:
        return [_asked(result, task), *_refusals(models)]
    entry = models[model]
    auroc = entry.metrics["auroc"]
    sentences = [_asked(result, task), f"AUROC of {model}: {interval(auroc)}. {_of_100_pairs(auroc)}"]
    compared = [c for c in result.comparisons if (c.task, c.metric) == (task, "auroc")]
    sentences += _against_controls(_with_control(compared, control, result.outside), model, result.outside)
    sentences += _within_pattern(entry)
    sentences += _calibration(entry)
    sentences += alert_sentences(result, task, model)
    return sentences + _with_rectifier(models, model)


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


def _with_control(comparisons: list[Comparison], control: str, outside: Sequence[str]) -> list[Comparison]:
    """Of all comparisons those with one control, if it is named, and with what was made elsewhere."""
    return [c for c in comparisons if control in ("", c.control, c.model) or c.control in outside]


def _against_controls(comparisons: list[Comparison], model: str, outside: Sequence[str]) -> list[str]:
    said = [_one_comparison(c, outside) for c in comparisons if c.model == model]
    rivals = [c for c in comparisons if c.control == model]
    if not rivals:
        return said or ["It was not compared with a control, so nothing can be said about superiority."]
    itself = "was made elsewhere" if model in outside else "is itself a control"
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
    ece, decided = entry.metrics.get("ece"), entry.decided
    words = [] if decided is None or decided.calibrated is None else [f"{calibration_words(decided.calibrated)}."]
    if ece is None or ece.value is None:
        return words
    return [*words, f"Its risks differed from observed rates by {number(ece.value, 3)} on average (ECE)."]


def _with_rectifier(models: dict[str, ModelTask], best: str) -> list[str]:
    entry = models.get(best + RECTIFIED)
    if entry is None or _auroc(entry) < 0:
        return []
    return [f"With pattern calibration offsets (the rectifier) its AUROC was {interval(entry.metrics['auroc'])}."]
