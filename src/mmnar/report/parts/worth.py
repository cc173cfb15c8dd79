"""What a summary says of a model's alerts."""

from __future__ import annotations

from mmnar.evaluation.decided import EVERYONE, NOBODY, TaskDecisions
from mmnar.evaluation.result import Result
from mmnar.render.wording import per_100, percent, threshold_text


def alert_sentences(result: Result, task: str, model: str) -> list[str]:
    """Alerts at the main threshold, how many of them are right, who is found, and whether it is worth it."""
    decided, said = result.tasks[task][model].decided, result.decisions.get(task)
    if decided is None or said is None:
        return []
    figures = next((p.figures for p in decided.points if p.kind == "stated" and p.threshold == said.main), {})
    right, found = (figures[name].value if name in figures else None for name in ("ppv", "sensitivity"))
    if right is None or found is None:
        return _worth(said, model)
    alerts = (
        f"With alerts from a risk of {threshold_text(said.main)} on, {per_100(figures['alerts'])} of 100 patients "
        f"would get one; {percent(right)} of the alerts would be right, and {percent(found)} of those with the outcome "
        "found."
    )
    return [alerts, *_worth(said, model)]


def _worth(said: TaskDecisions, model: str) -> list[str]:
    """Whether it beats both rules that need no model."""
    mine = {d.against: d.difference.low for d in said.differences if d.model == model and d.threshold == said.main}
    lows = [mine.get(EVERYONE), mine.get(NOBODY)]
    if any(low is None for low in lows):
        return []
    surely = all(low is not None and low > 0 for low in lows)
    compared = "was worth more than" if surely else "was not shown to be worth more than"
    return [f"In net benefit at {threshold_text(said.main)} it {compared} alerting everyone or nobody."]
