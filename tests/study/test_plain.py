"""A study file of any shape is a study or a refusal that names the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmnar.errors import ConfigError
from mmnar.study.spec import read_study

GOOD: dict[str, Any] = {
    "title": "Study",
    "layout": "comparison",
    "notes": "",
    "data": {
        "a": {"planted": {"mechanism": "single", "patients": 300, "seed": 1}},
        "b": {"simulated": {"patients": 9}},
    },
    "rows": {"pattern-only": {}, "deep": {"model": "zero-fill", "set": {"train.lr": 1e-3}, "modalities": ["m0"]}},
    "settings": {"default": {}, "slow": {"train.lr": 1e-4}},
    "folds": 2,
    "seeds": [0, 1],
    "set": {"fits": 2},
    "deep": {"train.max_epochs": 2},
    "search": {"trials": 2, "space": {"train.lr": [1e-3, 1e-4]}, "spaces": {"deep": {"model.width": [8, 16]}}},
    "metrics": ["auroc"],
    "controls": ["pattern-only"],
    "resamples": 20,
    "demo": {"folds": 2, "seeds": [0]},
}
WRONG: tuple[Any, ...] = ([], {}, [[1]], {"x": {"y": [1]}}, "abc", -3, 2.5, None, True, [None], {3: 4}, 2**70)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, of in inner for place in places(of, (*at, key)))]


def replaced(at: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(GOOD)
    inner = tree
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return tree


def read(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    for demo in (False, True):
        read_study(path, demo=demo)


def test_every_value_of_every_wrong_form_is_read_or_refused(tmp_path: Path) -> None:
    """Nothing but a ConfigError comes out, whichever value stands at whichever key."""
    read(tmp_path / "study.yaml", yaml.safe_dump(GOOD))
    refused = 0
    for at in places(GOOD)[1:]:
        for value in WRONG:
            try:
                read(tmp_path / "study.yaml", yaml.safe_dump(replaced(at, value)))
            except ConfigError:
                refused += 1
    assert refused > 300


@pytest.mark.parametrize(
    "text",
    [
        "",
        "~",
        "2",
        "- 1",
        "[1",
        "\t- x",
        "&a [*a]",
        "a: *b",
        "[" * 5000,
        "{a: " * 5000,
        "!!python/object:os.x {}",
        "\0",
    ],
)
def test_what_is_no_mapping_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"study 'study\.yaml'"):
        read(tmp_path / "study.yaml", text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(b"title: \xff\xfe")
    with pytest.raises(ConfigError):
        read_study(tmp_path / "study.yaml")


def test_published_figures_of_another_form_are_refused(tmp_path: Path) -> None:
    for figures in (b"a,b\n1,2\n", b"data,task,row,metric,value,spread\n1\n", b"\xff\xfe,\n1\n"):
        (tmp_path / "figures.csv").write_bytes(figures)
        with pytest.raises(ConfigError, match="reference"):
            read(tmp_path / "study.yaml", yaml.safe_dump({**GOOD, "reference": "figures.csv"}))
