"""Weights of the layers that read released embeddings of films, from a local file that ``pretrain images`` made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import Tensor, nn

from mmnar.encoders.settings import ImageConfig
from mmnar.encoders.vectors import VectorsEncoder
from mmnar.errors import ConfigError

FILMS: Final = "cxr"
"""The modality of films, whose vectors such a file is for."""

_KEPT: Final = ("norm.", "vector.", "mlp.")
"""What is done to each vector; its time and the pooling are learned where there are times and several vectors."""
_FIRST: Final = "vector.weight"


def is_of_vectors(file: Path) -> bool:
    """Whether a file of weights is for vectors instead of images."""
    if file.suffix != ".safetensors":
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as handle:
            return _FIRST in handle.keys()  # noqa: SIM118 (not a dict)
    except SafetensorError:
        return False  # said where it is read


def vector_layers(network: nn.Module) -> dict[str, Tensor]:
    """Of the one encoder of vectors of a network, what is kept."""
    (encoder,) = (module for module in network.modules() if isinstance(module, VectorsEncoder))
    return {name: value for name, value in encoder.state_dict().items() if name.startswith(_KEPT)}


def load_vectors(network: nn.Module, image: ImageConfig, file: Path) -> None:
    """Put a file of weights into the encoders of vectors of films; ``frozen`` keeps them as they are.

    Raises:
        ConfigError: They are for vectors of another length or width.
    """
    from safetensors.torch import load_file

    state = load_file(file)
    for module in network.modules():
        if isinstance(module, VectorsEncoder) and module.of == FILMS:
            wanted = {name: value for name, value in module.state_dict().items() if name.startswith(_KEPT)}
            shapes = [{name: tuple(value.shape) for name, value in of.items()} for of in (wanted, state)]
            if shapes[0] != shapes[1]:
                (d, n), (width, length) = (tuple(of[_FIRST].shape) for of in (wanted, state))
                expected, fact = (f"those of {b} numbers in a width of {a}" for a, b in ((d, n), (width, length)))
                raise ConfigError(f"weights '{file.name}'", expected, fact, "set model.width to it, or pre-train again")
            module.load_state_dict(state, strict=False)
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(not (image.frozen and name.startswith(_KEPT)))
