"""Strict configuration."""

from __future__ import annotations

import dataclasses
import re

import pytest

from mmnar.config import RunConfig, TrainConfig, meanings, override, parse_overrides, to_plain
from mmnar.errors import ConfigError
from mmnar.estimators.registry import build_estimator, defaults, estimator, is_trained, keys, known_names, resolve_run
from mmnar.models.registry import CAREBENCH_MODELS, MODELS, model_class
from mmnar.report.cards import settings_text
from mmnar.training.loop import _rate


def test_words_override_and_types_are_kept() -> None:
    words = ["train.lr=3e-4", "seed=2", "split.folds=5", "train.task_weights.mortality=2", "rectifier.rule=threshold"]
    config = override(RunConfig(), parse_overrides(words))
    assert config.train.lr == 3e-4
    assert config.seed == 2
    assert config.split.folds == 5
    assert config.train.task_weights["mortality"] == 2.0
    assert config.train.task_weights["readmission"] == 1.2
    assert config.rectifier.rule == "threshold"
    assert RunConfig().train.lr != 3e-4


def test_a_preset_yields_to_explicit_words_wherever_they_stand() -> None:
    for words in (["preset=original", "train.lr=1e-3"], ["train.lr=1e-3", "preset=original"]):
        assert resolve_run("crl-mmnar", words)[0].train.lr == 1e-3


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
        ("rectifier.zzz=5", "known: rectifier.kappas, rectifier.prior_no_effect, rectifier.rule"),
        ("zzz=5", "known: ensemble, fit, fits, hide.…, modalities, rectifier.…, rows.…, seed, split.…, train.…"),
        ("split=5", "known: split.seed"),
        ("train.task_weights=2", "train.task_weights.NAME=2"),
        ("train.lr=fast", "type float"),
        ("train.max_epochs=2.5", "type int"),
        ("train.lr=-1", "0 or more"),
        ("train.lr=nan", "0 or more"),
        ("train.batch_size=0", "1 or more"),
        ("train.warmup=5", "a share"),
        ("fits=1", "2 or more"),
        ("rectifier.prior_no_effect=1", "between 0 and 1"),
        ("ensemble=0", "1 or more"),
        ("seed", "no '='"),
        ("preset=paper", "expected original or carebench, got 'paper'"),
        ("rectifier.rule=latice", "lattice"),
        ("seed.x=1", "a single value"),
    ],
)
def test_mistakes_are_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(RunConfig(), parse_overrides([word]))


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


@pytest.mark.parametrize("name", known_names())
def test_every_setting_is_listed_with_a_default_that_the_command_takes_and_a_meaning(name: str) -> None:
    own, run = defaults(name), RunConfig()
    inner = [value for value in vars(own).values() if dataclasses.is_dataclass(value)]
    for config in (own, *inner, run, run.train, run.split, run.rectifier):
        said = meanings(type(config))
        assert set(said) == {f.name for f in dataclasses.fields(config)}
        assert all(len(meaning) > 5 and meaning.endswith(".") for meaning in said.values()), said
    text = settings_text(own, deep=is_trained(name))
    listed = dict(re.findall(r"^  ([\w.]+) = (\S+)", text, re.M))
    assert {re.sub(r"(task_weights)\..*", r"\1", key) for key in listed} == set(keys(name))
    words = [f"{key}={value.strip(chr(34))}" for key, value in listed.items()]
    config, changes = resolve_run(name, words)
    assert config == run
    assert override(own, changes) == own


def test_round_trip_through_plain_json() -> None:
    config = override(RunConfig(), {"train.task_weights": {"a": 2.0}, "ensemble": 5})
    assert override(RunConfig(), to_plain(config)) == config
    assert override(TrainConfig(), to_plain(config.train)) == config.train


def test_preset_original_is_the_methods_own_published_settings() -> None:
    config, model = resolve_run("crl-mmnar", ["preset=original", "model.width=64"])
    t = config.train
    assert (t.batch_size, t.lr, t.weight_decay, t.patience, t.label_loss) == (32, 2e-4, 1e-6, 30, "focal")  # its 4.2
    assert (t.schedule, t.warmup, t.clip_norm, t.min_steps) == ("constant", 0, 0, 0)  # of which it says nothing
    assert (config.rectifier.rule, config.fit, config.fits) == ("threshold", "single", 2)  # its 3.3
    assert model == {"holdout": "all", "width": "64"}  # its 3.2.2: each observed modality
    assert resolve_run("drfuse", ["preset=original"])[0].train.label_loss == "bce"  # not those of CRL-MMNAR
    # a recipe by itself has no rectifier
    assert estimator("crl-mmnar", "preset=original").train == t  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["hgmf", "missmodal", "zero-fill", "logistic-pattern"])
def test_a_preset_is_refused_where_nothing_is_published_and_the_others_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"preset=original of '{name}'.*crl-mmnar.*smil"):
        resolve_run(name, ["preset=original"])


@pytest.mark.parametrize("name", MODELS)
def test_published_settings_are_settings_of_the_method(name: str) -> None:
    original = model_class(name).card.original
    if original:
        config, model = resolve_run(name, ["preset=original"])
        assert config.train.min_steps in (0, 600, 8000)
        build_estimator(name, model, config.train)
        assert not original.get("train.max_epochs") or config.train.patience <= config.train.max_epochs


@pytest.mark.parametrize("name", [name for name in CAREBENCH_MODELS if name in MODELS])
def test_carebenchs_settings_are_those_of_its_methods_alone(name: str) -> None:
    config, model = resolve_run(name, ["preset=carebench"])
    train = config.train
    assert (train.lr, train.batch_size, train.max_epochs, train.patience) == (1e-4, 16, 50, 10)
    assert model["width"] == 256
    build_estimator(name, model, train)
    with pytest.raises(ConfigError, match=r"preset=carebench of 'gru-d'.*drfuse"):
        resolve_run("gru-d", ["preset=carebench"])


def test_a_constant_rate_stays_where_a_cosine_falls() -> None:
    rates = {}
    for schedule in ("cosine", "constant"):
        config = TrainConfig(lr=2e-3, warmup=0.1, schedule=schedule)  # type: ignore[arg-type]
        rates[schedule] = [_rate(config, done) for done in (0.0, 0.1, 0.5, 0.999)]
    assert rates["constant"][0] < 1e-4
    assert rates["constant"][1:] == [2e-3] * 3
    assert rates["cosine"][3] < 1e-6


def test_settings_of_the_training_loop_are_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"'train\.lr' of 'logistic-pattern'.*fitted without it"):
        resolve_run("logistic-pattern", ["train.lr=1"])
    assert resolve_run("stack", ["train.lr=1"])[0].train.lr == 1
