"""Every method by name, deep or not: ``estimator("crl-mmnar", "train.lr=3e-4", ensemble=5)``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from mmnar.config import PRESETS, RunConfig, TrainConfig, keys_of, override, parse_overrides
from mmnar.errors import ConfigError, nearest
from mmnar.models.registry import CAREBENCH_MODELS, MODELS, brought, target_of

if TYPE_CHECKING:
    from mmnar.estimators.base import Estimator

TABULAR: Final[dict[str, str]] = {
    "pattern-only": "mmnar.estimators.tabular.pattern_only:PatternOnly",
    "logistic-pattern": "mmnar.estimators.tabular.logistic_pattern:LogisticPattern",
    "boosting-pattern": "mmnar.estimators.tabular.boosting_pattern:BoostingPattern",
    "lightgbm-pattern": "mmnar.estimators.tabular.lightgbm_pattern:LightGBMPattern",
    "late-logistic": "mmnar.estimators.tabular.late_logistic:LateLogistic",
    "pattern-submodels": "mmnar.estimators.tabular.pattern_submodels:PatternSubmodels",
    "factor-posterior": "mmnar.estimators.tabular.factor_posterior:FactorPosterior",
}

OWN_WEIGHTS: Final[dict[str, str]] = {"tabicl-pattern": "mmnar.estimators.tabular.tabicl_pattern:TabICLPattern"}
"""Controls that were trained elsewhere and run by weights that the user brings."""

STACK: Final = "stack"
"""Several of them, weighed by their out-of-fold risks."""

SWITCH: Final = "switch-ensemble"
"""Two of them: one for patients who have all modalities, one for the others."""


def model_names() -> tuple[str, ...]:
    """All methods that need no file of the user's, deep ones first."""
    return (*MODELS, *TABULAR, STACK, SWITCH)


def known_names() -> tuple[str, ...]:
    """All registered names: these, those that other packages bring, and those that run by weights of the user's own."""
    return (*model_names(), *brought(), *OWN_WEIGHTS)


def is_trained(name: str) -> bool:
    """Whether ``train.…`` keys tell: it is a network, or may hold one."""
    return name not in TABULAR and name not in OWN_WEIGHTS


def is_network(name: str) -> bool:
    """Whether it is a deep method by itself: of the registry, of another package, or a class by its place."""
    return is_trained(name) and name not in (STACK, SWITCH)


def method_target(name: str) -> str:
    """ "module:attribute" of a method, deep or not."""
    return (TABULAR | OWN_WEIGHTS).get(name) or target_of(name)


def estimator(name: str, *overrides: str, ensemble: int = 1) -> Estimator:
    """A recipe by name.

    Args:
        name: One of ``known_names()``.
        overrides: Such as ``model.width=64`` or ``train.lr=3e-4``.
        ensemble: More than 1 wraps it in a seed ensemble.

    Raises:
        ConfigError: An unknown name or key; the nearest one is offered.
    """
    changes, model = _parsed(name, overrides, published=("model.", "train."))
    train = {key.removeprefix("train."): changes.pop(key) for key in list(changes) if key.startswith("train.")}
    for key in changes:
        raise ConfigError(f"key '{key}'", "model.… or train.…", "another key", "split and seed are arguments of fit")
    return build_estimator(name, model, override(TrainConfig(), train, "train.", lambda: keys(name)), ensemble)


def build_estimator(name: str, model: Mapping[str, Any], train: TrainConfig, ensemble: int = 1) -> Estimator:
    """The same from parts: ``model`` overrides the method's own configuration."""
    base = _base(name, model, train)
    if ensemble == 1:
        return base
    from mmnar.estimators.ensemble import EnsembleEstimator

    return EnsembleEstimator(base, ensemble)


def _base(name: str, model: Mapping[str, Any], train: TrainConfig) -> Estimator:
    if name == STACK:
        from mmnar.estimators.stack import Stack

        config = override(defaults(name), model, "model.", lambda: keys(name))
        for member in config.members:
            if member in OWN_WEIGHTS:
                raise ConfigError("model.members", "methods that need no file of weights", member, "leave it out")
        return Stack({member: _base(member, {}, train) for member in config.members}, config.spread)
    if name == SWITCH:
        from mmnar.estimators.switch import MEMBERS, Switch

        config = override(defaults(name), model, "model.", lambda: keys(name))
        recipes = {which: _base(getattr(config, which), _own(config, which), train) for which in MEMBERS}
        return Switch(recipes, config.modalities)
    if is_network(name):
        from mmnar.estimators.fusion import FusionEstimator
        from mmnar.models.registry import model_class

        return FusionEstimator(name, override(model_class(name).Config(), model, "model.", lambda: keys(name)), train)
    recipe: Estimator = defaults(name)
    return override(recipe, model, "model.", lambda: keys(name)) if model else recipe


def _own(config: Any, which: str) -> dict[str, Any]:
    """The settings of a switch's member.

    Raises:
        ConfigError: They are not key=value, or the member runs by weights that the user brings.
    """
    if getattr(config, which) in OWN_WEIGHTS:
        raise ConfigError(f"model.{which}", "a method that needs no file of weights", "one that does", "choose another")
    return parse_overrides(getattr(config, f"{which}_with"))


def check_name(name: str) -> None:
    """Refuse a model that is neither registered nor the place of a class; no method is imported for it.

    Raises:
        ConfigError: An unknown name; the nearest one is offered.
    """
    if ":" not in name and name not in known_names():
        raise ConfigError(f"model '{name}'", "a registered model", "an unknown name", nearest(name, known_names()))


def defaults(name: str) -> Any:
    """The method's own configuration as it stands: its ``Config``, or a recipe that is its own configuration."""
    check_name(name)
    if is_network(name):
        from mmnar.models.registry import model_class

        return model_class(name).Config()
    if name == STACK:
        from mmnar.estimators.stack import StackConfig

        return StackConfig()
    if name == SWITCH:
        from mmnar.estimators.switch import SwitchConfig

        return SwitchConfig()
    module, attribute = (TABULAR | OWN_WEIGHTS)[name].split(":")
    return getattr(import_module(module), attribute)()


def keys(name: str) -> list[str]:
    """Every key that tells in a run of method ``name``."""
    common = [key for key in keys_of(RunConfig()) if is_trained(name) or not key.startswith("train.")]
    return [*common, *keys_of(defaults(name), "model.")]


def resolve_run(name: str, overrides: Sequence[str]) -> tuple[RunConfig, dict[str, Any]]:
    """Split overrides into the run's configuration and those of method ``name``'s own (``model.…``)."""
    changes, model = _parsed(name, overrides)
    return override(RunConfig(), changes, known=lambda: keys(name)), model


def _parsed(
    name: str, overrides: Sequence[str], published: tuple[str, ...] = ("",)
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides, those of the method's own configuration apart.

    Args:
        published: How the keys begin that a preset may set: a recipe alone has no rectifier.

    Raises:
        ConfigError: No such method or preset, or a setting of the training loop for a method without.
    """
    check_name(name)
    presets = {
        preset: {key: value for key, value in _preset(name, preset).items() if key.startswith(published)}
        for preset in PRESETS
        if f"preset={preset}" in overrides
    }
    changes = parse_overrides(overrides, presets)
    for key in changes:
        if key.startswith("train.") and not is_trained(name):
            fact = "one that is fitted without it"
            raise ConfigError(f"'{key}' of '{name}'", "a method of the training loop", fact, "leave it out")
    model = {key.removeprefix("model."): changes.pop(key) for key in list(changes) if key.startswith("model.")}
    return changes, model


def _preset(name: str, preset: str) -> Mapping[str, Any]:
    """What a preset of a method stands for.

    Raises:
        ConfigError: Its published settings are not known, or it is no published method.
    """
    settings = _published(name, preset) if is_network(name) else {}
    if not settings:
        known = ", ".join(other for other in MODELS if _published(other, preset))
        raise ConfigError(
            f"preset={preset} of '{name}'", f"one of {known}", "a method without", "leave it out for our defaults"
        )
    return {"fit": "single", **settings}


def _published(name: str, preset: str) -> Mapping[str, Any]:
    from mmnar.models.registry import model_class

    card = model_class(name).card
    if preset == "original":
        return card.original
    return (card.carebench or card.original) if name in CAREBENCH_MODELS else {}


def model_settings(recipe: Estimator) -> dict[str, Any]:
    """The method's resolved configuration as plain JSON; of a stack or switch, that of each member.

    Raises:
        ConfigError: A file of weights that is absent, or of another network than the settings say.
    """
    from mmnar.estimators.stack import Stack
    from mmnar.estimators.switch import Switch

    base = getattr(recipe, "base", recipe)
    if isinstance(base, Stack):
        return {"spread": base.spread, "members": {n: model_settings(of) for n, of in base.members.items()}}
    if isinstance(base, Switch):
        members = {which: {"model": of.name, "settings": model_settings(of)} for which, of in base.members.items()}
        return {"modalities": list(base.modalities), **members}
    config = base.settings()
    return dataclasses.asdict(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else {}
