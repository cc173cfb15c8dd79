"""The model a report answers with: chosen by risks out of fold alone, or by order with the reason said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmnar.evaluation import Result, evaluate
from mmnar.predictions import OUT_OF_FOLD, Predictions
from mmnar.report.choosing import BY_RISKS, NONE_KEPT, OF_CONTROLS, THE_SAME, UNLIKE, choose
from mmnar.report.inputs import ReportInputs, StoreFacts
from mmnar.report.runs import write_report
from mmnar.roles import Calibration, Test


def named(draw: Any, role: type, good: dict[str, bool]) -> list[Predictions[Any]]:
    """Predictions of models whose risks are their own patients', or those of others."""
    risks = draw(600, role, first_subject=0 if role is Calibration else 10_000)
    return [risks.with_proba(risks.proba if own else risks.proba[::-1], model=name) for name, own in good.items()]


@pytest.fixture(scope="module")
def result() -> Result:
    """On the test fold "a" is better than "b", and control "d" than "c"."""
    from tests.conftest import draw_predictions

    scored = named(draw_predictions, Test, {"a": True, "b": False, "c": False, "d": True})
    return evaluate(*scored, controls=["c", "d"], resamples=20)


def test_risks_out_of_fold_decide_whatever_the_test_fold_says(result: Result, draw: Any) -> None:
    risks = named(draw, Calibration, {"a": False, "b": True, "c": True, "d": False})
    chosen = choose(result, dict(zip("abcd", risks, strict=True)))
    assert chosen.models == {"death": "b", "los": "b"}
    assert chosen.controls == {"death": "c", "los": "c"}
    assert chosen.how == BY_RISKS


def test_each_question_is_chosen_for_by_itself(result: Result, draw: Any) -> None:
    first, second, *controls = named(draw, Calibration, {"a": True, "b": True, "c": True, "d": True})
    spoilt = first.proba.copy()
    spoilt[:, 1] = spoilt[::-1, 1]
    others = second.proba.copy()
    others[:, 0] = others[::-1, 0]
    risks = [first.with_proba(spoilt), second.with_proba(others), *controls]
    assert choose(result, dict(zip("abcd", risks, strict=True))).models == {"death": "a", "los": "b"}


@pytest.mark.parametrize("why", [NONE_KEPT, UNLIKE, THE_SAME])
def test_without_them_order_decides_and_the_reason_is_said(result: Result, draw: Any, why: str) -> None:
    risks: dict[str, Any] = dict(zip("abcd", named(draw, Calibration, dict.fromkeys("abcd", True)), strict=True))
    if why == NONE_KEPT:
        risks["d"] = None
    elif why == UNLIKE:
        risks["a"] = replace(risks["a"], stay_id=risks["a"].stay_id + 1)
    else:
        told = {name: {**of, "validation": OUT_OF_FOLD} for name, of in result.provenance["models"].items()}
        result = replace(result, provenance={**result.provenance, "models": told})
        risks["b"] = risks["b"].with_proba(np.clip(risks["b"].labels, 0.01, 0.99))
    chosen = choose(result, risks)
    assert chosen.models == {"death": "a", "los": "a"}
    assert chosen.controls == {"death": "c", "los": "c"}
    assert why in chosen.how


def test_of_controls_alone_one_is_chosen_and_called_a_control(draw: Any, tmp_path: Path) -> None:
    only = evaluate(*named(draw, Test, {"c": True}), controls=["c"], resamples=20)
    assert choose(only, {"c": named(draw, Calibration, {"c": True})[0]}).how == OF_CONTROLS
    page = write_report(ReportInputs("Control", StoreFacts({}), only), tmp_path)
    assert "itself a plain control" in page.read_text()
    told = json.loads((tmp_path / "result.json").read_text())["provenance"]["report"]["chosen"]
    assert told["models"] == {"death": "c", "los": "c"}
