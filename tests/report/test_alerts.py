"""What a report says of alerts, calibration and groups: in words, in charts with axes, no number that is not saved."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from mmnar.evaluation import Result, evaluate
from mmnar.evaluation.thresholds import stated
from mmnar.report.inputs import ReportInputs, StoreFacts
from mmnar.report.parts.worth import alert_sentences
from mmnar.report.runs import write_report
from mmnar.report.terminal import result_text
from mmnar.roles import Test

SECTION = re.compile(r'<section aria-labelledby="s\d+"[^>]*>.*?</section>', re.DOTALL)


@pytest.fixture(scope="module")
def result() -> Result:
    from tests.conftest import draw_predictions

    good = draw_predictions(1500, Test)
    flat = good.with_proba(good.proba[::-1], model="flat")  # risks of others: no better than chance
    shifted = good.with_proba(expit(logit(good.proba) + 0.1), model="made_up+rectifier")
    at = {"death": replace(stated([0.2, 0.1], "death"), per_100={"made_up": {10: 0.4321}})}
    return evaluate(good, flat, shifted, controls=["flat"], resamples=60, thresholds=at)


@pytest.fixture(scope="module")
def page(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(ReportInputs("Alerts", StoreFacts({}), result), tmp_path_factory.mktemp("alerts"))


def section(page: Path, title: str) -> str:
    return next(s for s in SECTION.findall(page.read_text()) if title in s[:300])


def words(text: str) -> str:
    return " ".join(
        html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", " ", text, flags=re.DOTALL))).split()
    )


def test_the_table_says_what_was_computed(page: Path, result: Result) -> None:
    text = words(section(page, "Alerts at thresholds"))
    point = next(
        p
        for p in result.disclosed().tasks["death"]["made_up"].decided.points
        if (p.kind, p.threshold) == ("stated", 0.2)
    )
    assert f"{100 * point.figures['alerts'].value:.1f}" in text
    assert f"{100 * point.figures['ppv'].value:.1f} %" in text
    assert "43.21 % 10 of 100 out of fold" in text
    assert "stated by the user; the main one is 20 %" in text
    assert "alert everyone" in text


def test_every_number_is_in_the_json(page: Path) -> None:
    document = json.loads((page.parent / "result.json").read_text())
    known: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict | list):
            for v in value.values() if isinstance(value, dict) else value:
                look(v)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            known.update(f"{abs(v):,.{d}f}" for v in (value, 100 * value) for d in range(5))
            known.update({f"{round(100 * value, 2):g}", f"{value:g}"})

    look(document)
    for title in ("Alerts at thresholds", "Do risks mean what they say?", "Alerts by group"):
        found = re.findall(r"(?<![\w.,E-])\d[\d,]*(?:\.\d+)?(?![\w-])", words(section(page, title)))
        assert len(found) > 20, title
        assert not {f.rstrip(",") for f in found} - known - {"0", "1", "2", "90", "95", "98", "100", "10", "0.001"}, (
            title
        )


def test_charts_have_axes_and_a_good_direction(page: Path) -> None:
    curve = next(
        s for s in re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL) if "Decision curves for Death" in s
    )
    for said in ("Threshold: alert from this risk on", "Net benefit", "higher is better", "nobody", "everyone"):
        assert said in curve, said
    for x, y in re.findall(r'c[xy]="([\d.]+)" c[xy]="([\d.]+)"', curve):
        assert 50 <= float(x) <= 430
        assert 0 <= float(y) <= 300
    smooth = next(s for s in re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL) if "Smooth calibration" in s)
    for said in ("Predicted risk", "Observed rate", "risks too low", "risks too high"):
        assert said in smooth, said


def test_the_summary_says_whether_alerts_are_worth_it(result: Result, page: Path) -> None:
    first, second = alert_sentences(result, "death", "made_up")
    assert re.match(
        r"With alerts from a risk of 20 % on, [\d.]+ \([\d.]+ to [\d.]+\) of 100 patients would get one; ", first
    )
    assert second == "In net benefit at 20 % it was worth more than alerting everyone or nobody."
    assert first in words(section(page, "The chosen model"))
    assert "was not shown to be worth more" in alert_sentences(result, "death", "flat")[-1]
    assert f"  made_up: {first}\n  made_up: {second}\n" in result_text(result)


def test_what_is_withheld_is_said_so(draw: Any, tmp_path: Path) -> None:
    p = draw(90, Test, tasks=("death",))
    thin = evaluate(p, resamples=20, thresholds={"death": stated([0.2, 0.21, 0.22], "death")})
    text = words(section(write_report(ReportInputs("Thin", StoreFacts({}), thin), tmp_path), "Alerts at thresholds"))
    assert "withheld" in text.lower()
    none = evaluate(replace(p, labels=p.labels & (np.arange(90) < 8)[:, None]), resamples=20)
    text = write_report(ReportInputs("None", StoreFacts({}), none), tmp_path).read_text()
    assert "Alerts at thresholds" not in text
