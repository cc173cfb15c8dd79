"""Strict configuration."""

from __future__ import annotations

import pytest

from mmnar.config import RunConfig, TrainConfig, override, parse_words, to_plain
from mmnar.errors import ConfigError
from mmnar.estimators.registry import build_estimator, resolve_run


def test_words_override_and_types_are_kept() -> None:
    words = ["train.lr=3e-4", "seed=2", "split.folds=5", "train.task_weights.mortality=2", "rectifier.rule=threshold"]
    config = override(RunConfig(), parse_words(words))
    assert config.train.lr == 3e-4
    assert config.seed == 2
    assert config.split.folds == 5
    assert config.train.task_weights["mortality"] == 2.0
    assert config.train.task_weights["readmission"] == 1.2
    assert config.rectifier.rule == "threshold"
    assert RunConfig().train.lr != 3e-4


def test_the_paper_preset_yields_to_explicit_words() -> None:
    config = override(RunConfig(), parse_words(["preset=paper", "train.lr=1e-3"]))
    assert (config.train.batch_size, config.train.weight_decay, config.train.label_loss) == (32, 1e-6, "focal")
    assert config.train.lr == 1e-3
    assert override(RunConfig(), parse_words(["train.lr=1e-3", "preset=paper"])).train.lr == 1e-3


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("trian.lr=1", "did you mean 'train.lr'"),
        ("train.learning_rate=1", "did you mean 'train.lr'"),
        ("trian.lrr=1", "did you mean 'train.lr'"),
        ("learning-rate=1", "did you mean 'train.lr'"),
        ("train.wd=0", "did you mean 'train.weight_decay'"),
        ("epochs=3", "did you mean 'train.max_epochs'"),
        ("random_state=3", "did you mean 'seed'"),
        ("train.random_state=3", "did you mean 'seed'"),
        ("split.validation=.1", "did you mean 'split.tune'"),
        ("split.n_splits=5", "did you mean 'split.folds'"),
        ("rectifier.zzz=5", "known: rectifier.folds, rectifier.prior_no_effect, rectifier.rule"),
        ("zzz=5", "known: ensemble, rectifier.…, seed, split.…, train.…"),
        ("split=5", "known: split.seed"),
        ("train.task_weights=2", "train.task_weights.NAME=2"),
        ("train.lr=fast", "type float"),
        ("train.max_epochs=2.5", "type int"),
        ("seed", "no '='"),
        ("preset=papper", "preset"),
        ("rectifier.rule=latice", "lattice"),
        ("seed.x=1", "a single value"),
    ],
)
def test_mistakes_are_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(RunConfig(), parse_words([word]))


@pytest.mark.parametrize(
    ("model", "word", "meant"),
    [
        ("crl-mmnar", "width=64", "model.width"),
        ("crl-mmnar", "train.hidden_size=64", "model.width"),
        ("crl-mmnar", "model.lr=1e-3", "train.lr"),
        ("mt", "model.num_layers=3", "model.layers"),
        ("boosting-pattern", "model.n_estimators=10", "model.max_trees"),
        ("boosting-pattern", "model.lr=.1", "model.learning_rate"),
        ("boosting-pattern", "lr=.1", "model.learning_rate"),
        ("boosting-pattern", "model.learning_rte=.1", "model.learning_rate"),
        ("logistic-pattern", "model.inverse_penalty=1", "model.inverse_penalties"),
    ],
)
def test_a_methods_own_keys_are_offered(model: str, word: str, meant: str) -> None:
    def built() -> None:
        config, settings = resolve_run(model, [word])
        build_estimator(model, settings, config.train)

    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        built()


def test_round_trip_through_plain_json() -> None:
    config = override(RunConfig(), {"train.task_weights": {"a": 2.0}, "ensemble": 5})
    assert override(RunConfig(), to_plain(config)) == config
    assert override(TrainConfig(), to_plain(config.train)) == config.train


def test_preset_original_is_the_methods_own_published_settings() -> None:
    config, model = resolve_run("crl-mmnar", ["preset=original", "train.lr=1e-3", "model.width=64"])
    assert (config.train.batch_size, config.train.label_loss, config.train.lr) == (32, "focal", 1e-3)
    assert model == {"width": "64"}
    with pytest.raises(ConfigError, match="expected paper, got 'original'"):
        resolve_run("pattern-only", ["preset=original"])
