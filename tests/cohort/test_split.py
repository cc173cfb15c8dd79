"""Splits by an attribute: the subjects with a held-out value are the test fold, nobody is on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from mmnar.cohort.split import Split
from mmnar.config import RunConfig, override, to_plain
from mmnar.errors import ConfigError, LeakageError
from tests.populations import population


def test_held_out_values_are_the_test_fold() -> None:
    data = population(600)
    split = Split.by_attribute(data, "sex", ["Female"], tune=0.2)
    female = data.attributes["sex"] == "Female"
    assert (data.fold(split, "test").rows == np.flatnonzero(female)).all()
    rest = np.r_[data.fold(split, "train").rows, data.fold(split, "tune").rows]
    assert sorted(rest) == np.flatnonzero(~female).tolist()
    share = len(data.fold(split, "tune")) / (~female).sum()
    assert 0.14 < share < 0.26  # .2 of about 300


def test_the_configuration_makes_the_same_split() -> None:
    data = population(300)
    config = override(RunConfig(), {"split.by": "sex", "split.held_out": "Female,Other"})
    split = Split(**to_plain(config.split))
    assert set(data.attributes["sex"][data.fold(split, "test").rows]) == {"Female"}
    assert set(data.attributes["sex"][data.fold(split, "train").rows]) == {"Male"}


def test_a_subject_on_both_sides_is_refused() -> None:
    data = population(300, subjects=40)
    with pytest.raises(LeakageError, match="each subject on one side"):
        Split.by_attribute(data, "sex", ["Female"])


@pytest.mark.parametrize(
    ("by", "held_out", "message"),
    [("sexx", ["Female"], "did you mean 'sex'"), ("sex", ["Woman"], "none that occurs")],
)
def test_names_that_do_not_exist_are_refused(by: str, held_out: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Split.by_attribute(population(100), by, held_out)


def test_everybody_held_out_is_refused() -> None:
    with pytest.raises(LeakageError, match="'train'"):
        Split.by_attribute(population(100), "sex", ["Female", "Male"])


@pytest.mark.parametrize(
    "arguments",
    [{"by": "sex"}, {"held_out": ("Female",)}, {"by": "sex", "held_out": ("Female",), "folds": 5}],
)
def test_half_a_split_by_attribute_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"split\.by"):
        Split(**arguments)  # type: ignore[arg-type]
