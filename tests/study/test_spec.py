"""A study that cannot be run as written is refused before anything runs, with the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mmnar.errors import ConfigError
from mmnar.study.plan import overrides
from mmnar.study.spec import Row, read_study, study_of

STUDY: dict[str, Any] = {
    "title": "Two controls",
    "data": {"small": {"planted": {"mechanism": "pattern", "patients": 300}}},
    "rows": {"pattern-only": {}, "logistic": {"model": "logistic-pattern"}},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layuot": "comparison"}, "did you mean 'layout'"),
        ({"layout": "comparisons"}, "did you mean 'comparison'"),
        ({"rows": {"pattern-onyl": {}}}, "did you mean 'pattern-only'"),
        ({"rows": {"pattern-only": {"modle": "x"}}}, "did you mean 'model'"),
        ({"rows": {}}, "the key 'rows'"),
        ({"data": {"small": {"stor": "x"}}}, "did you mean 'store'"),
        ({"data": {"small": {"planted": {"mechanism": "single", "patients": 90}, "subjects": 9}}}, "a store to draw"),
        ({"data": {"small": {}}}, "--data small=PATH"),
        ({"data": {"small": {"store": "x", "planted": {"mechanism": "single", "patients": 9}}}}, "several"),
        ({"data": {"small": {"carebench": {"patients": 90, "matched": "some"}}}}, "true or false"),
        ({"data": {"small": {"medfuse": {"patients": 90, "task": "mortalty"}}}}, "did you mean 'mortality'"),
        ({"metrics": ["aurok"]}, "did you mean 'auroc'"),
        ({"controls": ["logistics"]}, "did you mean 'logistic'"),
        ({"folds": 0}, "whole number ≥ 1"),
        ({"seeds": [0, -1]}, "whole number ≥ 0"),
        ({"search": {"trials": 2, "spaec": {}}}, "did you mean 'space'"),
        ({"search": {"trials": 0}}, "whole number ≥ 1"),
        ({"search": {"trials": 2, "sampler": "random"}}, "known name"),
        ({"search": {"trials": 2, "spaces": {"logistik": {}}}}, "did you mean 'logistic'"),
        ({"search": {"trials": 2, "space": {"train.lr": {"low": 1, "high": 0.1}}}}, "low < high"),
        ({"search": {"trials": 2, "space": {"train.lr": {"low": 0, "high": 0.1, "log": True}}}}, "low > 0 where log"),
        ({"search": {"trials": 2, "space": {"train.lr": {"low": "a", "high": 0.1}}}}, "low < high"),
        ({"search": {"trials": 2, "space": {"train.lr": []}}}, "a list of values"),
        (
            {"search": {"trials": 2, "sampler": "grid", "space": {"train.lr": {"low": 1, "high": 2}}}},
            "a list of values",
        ),
    ],
)
def test_every_mistake_has_a_remedy(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        study_of({**STUDY, **change})


def test_the_command_line_names_stores_and_the_demo_replaces_sections(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "folds": 5, "demo": {"folds": 2}}), encoding="utf-8")
    assert read_study(path).folds == 5
    assert read_study(path, demo=True).folds == 2
    given = read_study(path, stores={"small": "stores/x"}).data[0]
    assert (given.store, given.planted) == ("stores/x", {})
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        read_study(path, stores={"smal": "stores/x"})
    assert read_study(path, only=["small"]) == read_study(path)
    two = {**STUDY, "data": {**STUDY["data"], "other": {"store": "y"}}}
    path.write_text(yaml.safe_dump(two), encoding="utf-8")
    part = read_study(path, only=["other"])
    assert [d.name for d in part.data] == ["other"]
    assert part.title == f"{STUDY['title']}: other alone"
    path.write_text("title: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="a YAML file"):
        read_study(path)


def test_a_row_searches_what_deep_methods_do_and_its_own() -> None:
    search = study_of(
        {
            **STUDY,
            "search": {"trials": 2, "space": {"train.lr": [1]}, "spaces": {"pattern-only": {"model.strength": [1]}}},
        }
    ).search
    assert search is not None
    assert search.of(Row("pattern-only", "pattern-only")) == {"model.strength": [1]}
    assert search.of(Row("logistic", "logistic-pattern")) == {}
    assert search.of(Row("zero-fill", "zero-fill")) == {"train.lr": [1]}


def test_settings_of_shared_encoders_tell_where_a_method_has_them() -> None:
    raw = {
        "title": "Shared",
        "data": {
            "planted": {"simulated": {"patients": 10}},
            "long": {"simulated": {"patients": 10}, "set": {"model.series.step": 2, "seed": 4}},
        },
        "rows": {"zero-fill": {}, "gru-d": {}, "flexgen-ehr": {}, "pattern-only": {}, "stack": {}},
        "set": {"model.image.backbone": "tiny", "seed": 3},
        "deep": {"model.series.encoder": "lstm", "model.width": 8},
        "settings": {"far": {"model.series.hours": 12}, "wrong": {"model.image.bakbone": "tiny"}},
    }
    spec = study_of(raw)
    told = {row.name: overrides(spec, spec.data[0], row, {}, spec.settings["far"]) for row in spec.rows}
    image, series = {"model.image.backbone": "tiny"}, {"model.series.encoder": "lstm", "model.series.hours": 12}
    deep = {"seed": 3, "model.width": 8}
    assert told["zero-fill"] == {**image, **series, **deep}
    assert told["gru-d"] == {**image, **deep}
    assert told["flexgen-ehr"] == deep
    assert told["pattern-only"] == told["stack"] == {"seed": 3}
    told = {row.name: overrides(spec, spec.data[1], row, {}, spec.settings["far"]) for row in spec.rows}
    assert told["zero-fill"] == {**image, **series, **deep, "model.series.step": 2, "seed": 4}
    assert told["pattern-only"] == {"seed": 4}
    for row in spec.rows:  # what is no such setting goes on, to be refused
        assert "model.image.bakbone" in overrides(spec, spec.data[0], row, {}, spec.settings["wrong"])
