"""What summaries say of a model's risks: whether they mean what they say, and what alerts from a risk on would do."""

from __future__ import annotations

from mmnar.evaluation.decided import EVERYONE, NOBODY, Calibrated, TaskDecisions
from mmnar.evaluation.result import Estimate, Result
from mmnar.render.wording import per_100, percent, threshold_text


def alert_figures(result: Result, task: str, model: str) -> dict[str, Estimate]:
    """Figures of alerts at the main threshold; {} where there are none or they are withheld."""
    decided, said = result.tasks[task][model].decided, result.decisions.get(task)
    if decided is None or said is None:
        return {}
    figures = next((p.figures for p in decided.points if p.kind == "stated" and p.threshold == said.main), {})
    known = all(name in figures and figures[name].value is not None for name in ("alerts", "ppv", "sensitivity"))
    return figures if known else {}


def alert_sentences(result: Result, task: str, model: str) -> list[str]:
    """Alerts at the main threshold, how many of them are right, who is found, and whether it is worth it."""
    said, figures = result.decisions.get(task), alert_figures(result, task, model)
    if said is None or result.tasks[task][model].decided is None:
        return []
    worth = worth_words(said, model)
    judged = [f"In net benefit at {threshold_text(said.main)} it {worth} alerting everyone or nobody."] if worth else []
    if not figures:
        return judged
    right, found = figures["ppv"].value or 0.0, figures["sensitivity"].value or 0.0
    alerts = (
        f"With alerts from a risk of {threshold_text(said.main)} on, {per_100(figures['alerts'])} of 100 patients "
        f"would get one; {percent(right)} of the alerts would be right, and {percent(found)} of those with the outcome "
        "found."
    )
    return [alerts, *judged]


def worth_words(said: TaskDecisions, model: str) -> str:
    """Whether alerts at the main threshold beat both rules that need no model; "" where that is not known."""
    mine = {d.against: d.difference.low for d in said.differences if d.model == model and d.threshold == said.main}
    lows = [mine.get(EVERYONE), mine.get(NOBODY)]
    if any(low is None for low in lows):
        return ""
    surely = all(low is not None and low > 0 for low in lows)
    return "was worth more than" if surely else "was not shown to be worth more than"


def calibration_words(of: Calibrated) -> str:
    """Whether risks are right on the whole, and at both ends, as far as their intervals tell."""
    total, slope = of.o_to_e, of.slope
    if total.value is None:
        return f"Whether risks mean what they say is not given: {total.reason}"
    seen = f"of 100 expected with the outcome there were {per_100(total)}"
    found = []
    if total.low is not None and total.low > 1:
        found.append("too low on the whole")
    if total.high is not None and total.high < 1:
        found.append("too high on the whole")
    if slope.high is not None and slope.high < 1:
        found.append("too far apart, high ones too high and low ones too low")
    if slope.low is not None and slope.low > 1:
        found.append("too close together, high ones too low and low ones too high")
    verdict = f"Risks are {' and '.join(found)}" if found else "Risks were not shown to be off"
    return f"{verdict}: {seen}"
