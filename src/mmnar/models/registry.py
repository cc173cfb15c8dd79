"""Deep methods by name, imported on demand. One literal line each; a test asserts that it agrees with the folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from mmnar.errors import ConfigError, nearest

if TYPE_CHECKING:  # names are looked up before torch is imported
    from mmnar.models.base import Model

MODELS: Final[dict[str, str]] = {
    "cm-ae": "mmnar.models.cm_ae:CMAE",
    "com": "mmnar.models.com:COM",
    "crl-mmnar": "mmnar.models.crl_mmnar:CRLMMNAR",
    "daft": "mmnar.models.daft:DAFT",
    "drfuse": "mmnar.models.drfuse:DrFuse",
    "flex-moe": "mmnar.models.flex_moe:FlexMoE",
    "flexgen-ehr": "mmnar.models.flexgen_ehr:FlexGenEHR",
    "grape": "mmnar.models.grape:GRAPE",
    "gru-d": "mmnar.models.gru_d:GRUD",
    "gru-d-static": "mmnar.models.gru_d:GRUDStatic",
    "hgmf": "mmnar.models.hgmf:HGMF",
    "late-fusion": "mmnar.models.late_fusion:LateFusion",
    "lstm": "mmnar.models.lstm:LSTM",
    "m3care": "mmnar.models.m3care:M3Care",
    "missmodal": "mmnar.models.missmodal:MissModal",
    "mt": "mmnar.models.mt:MT",
    "muse-plus": "mmnar.models.muse:MUSE",
    "raindrop": "mmnar.models.raindrop:Raindrop",
    "raindrop-static": "mmnar.models.raindrop:RaindropStatic",
    "resnet": "mmnar.models.resnet:ResNet",
    "simmlm": "mmnar.models.simmlm:SimMLM",
    "smil": "mmnar.models.smil:SMIL",
    "transformer": "mmnar.models.transformer:Transformer",
    "utde": "mmnar.models.utde:UTDE",
    "zero-fill": "mmnar.models.zero_fill:ZeroFill",
}


def model_class(name: str) -> type[Model]:
    """The class registered under ``name``.

    Raises:
        ConfigError: No such model; the nearest name is offered.
    """
    if name not in MODELS:
        raise ConfigError(f"model '{name}'", "a registered model", "an unknown name", nearest(name, MODELS))
    module, attribute = MODELS[name].split(":")
    found: type[Model] = getattr(import_module(module), attribute)
    return found
