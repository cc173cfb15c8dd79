"""Deep methods by name, imported on demand. One literal line each; a test asserts that it agrees with the folder.

Other packages bring theirs as entry points of the group ``mmnar.models`` (name = "module:Class"), and a class can be
named as it is: ``module:Class``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from mmnar.errors import ConfigError, nearest

if TYPE_CHECKING:  # names are looked up before torch is imported
    from mmnar.models.base import Model

MODELS: Final[dict[str, str]] = {
    "aug": "mmnar.models.aug:AUG",
    "cm-ae": "mmnar.models.cm_ae:CMAE",
    "com": "mmnar.models.com:COM",
    "crl-mmnar": "mmnar.models.crl_mmnar:CRLMMNAR",
    "daft": "mmnar.models.daft:DAFT",
    "drfuse": "mmnar.models.drfuse:DrFuse",
    "early-fusion": "mmnar.models.early_fusion:EarlyFusion",
    "flex-moe": "mmnar.models.flex_moe:FlexMoE",
    "flexgen-ehr": "mmnar.models.flexgen_ehr:FlexGenEHR",
    "grape": "mmnar.models.grape:GRAPE",
    "gru-d": "mmnar.models.gru_d:GRUD",
    "gru-d-static": "mmnar.models.gru_d:GRUDStatic",
    "healnet": "mmnar.models.healnet:HEALNet",
    "hgmf": "mmnar.models.hgmf:HGMF",
    "inforeg": "mmnar.models.inforeg:InfoReg",
    "joint-fusion": "mmnar.models.joint_fusion:JointFusion",
    "late-fusion": "mmnar.models.late_fusion:LateFusion",
    "lstm": "mmnar.models.lstm:LSTM",
    "m3care": "mmnar.models.m3care:M3Care",
    "medfuse": "mmnar.models.medfuse:MedFuse",
    "missmodal": "mmnar.models.missmodal:MissModal",
    "mmtm": "mmnar.models.mmtm:MMTM",
    "mt": "mmnar.models.mt:MT",
    "muse-plus": "mmnar.models.muse:MUSE",
    "raindrop": "mmnar.models.raindrop:Raindrop",
    "raindrop-static": "mmnar.models.raindrop:RaindropStatic",
    "resnet": "mmnar.models.resnet:ResNet",
    "shaspec": "mmnar.models.shaspec:ShaSpec",
    "simmlm": "mmnar.models.simmlm:SimMLM",
    "smil": "mmnar.models.smil:SMIL",
    "transformer": "mmnar.models.transformer:Transformer",
    "umse": "mmnar.models.umse:UMSE",
    "unified": "mmnar.models.unified:Unified",
    "utde": "mmnar.models.utde:UTDE",
    "zero-fill": "mmnar.models.zero_fill:ZeroFill",
}


CAREBENCH_MODELS: Final = (
    *("transformer", "lstm", "resnet", "late-fusion", "medfuse", "mmtm", "daft", "utde", "shaspec", "flex-moe"),
    *("drfuse", "smil", "healnet", "m3care", "umse", "aug", "inforeg"),
)
"""The seventeen of the CareBench benchmark, in the order of its tables."""

GROUP: Final = "mmnar.models"
"""Entry points by which other packages bring methods."""


@cache
def brought() -> dict[str, str]:
    """Name → "module:Class" of the methods of other packages.

    Raises:
        ConfigError: Two methods of one name.
    """
    found: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        if point.name in MODELS or found.get(point.name, point.value) != point.value:
            raise ConfigError(f"model '{point.name}'", "one method of a name", f"also {point.value}", "rename it")
        found[point.name] = point.value
    return found


def target_of(name: str) -> str:
    """ "module:Class" of a method.

    Raises:
        ConfigError: No such model; the nearest name is offered.
    """
    if ":" in name:
        return name
    known = {**MODELS, **brought()}
    if name not in known:
        raise ConfigError(f"model '{name}'", "a registered model", "an unknown name", nearest(name, known))
    return known[name]


def model_class(name: str) -> type[Model]:
    """The class registered under ``name``, or of that place (``module:Class``).

    Raises:
        ConfigError: No such model, or it is none.
    """
    from mmnar.models.base import Model

    module, _, attribute = target_of(name).partition(":")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(f"model '{name}'", "a module that can be imported", str(error), "install it") from None
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ConfigError(f"model '{name}'", "a subclass of mmnar.models.base.Model", "something else", "correct it")
    return found
