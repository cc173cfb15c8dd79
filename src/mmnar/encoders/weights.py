"""Weights of image encoders from a local file: read without running anything in it, refused unless they fit whole."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from mmnar.encoders.image import ImageEncoder, is_head, network_of
from mmnar.encoders.resnet import DESIGNS, Design
from mmnar.encoders.settings import ImageConfig
from mmnar.errors import ConfigError
from mmnar.files import sha256_of

C = TypeVar("C")
State = dict[str, Tensor]

_DENSENET121: Final = (6, 12, 24, 16)
_UNUSED: Final = "num_batches_tracked"


def load_weights(network: nn.Module) -> None:
    """Put its file of weights into each image encoder of a network that has one, the last layer excepted.

    Raises:
        ConfigError: The file is absent, no file of weights, or of another network.
    """
    for module in network.modules():
        if isinstance(module, ImageEncoder) and module.config.weights:
            module.backbone.load_state_dict(_fitting(module.config), strict=False)


def identified(config: C) -> C:
    """A method's settings, its file of weights named by what is in it instead of where it lies: ``NAME sha256:HASH``.

    Raises:
        ConfigError: See ``load_weights``.
    """
    image = getattr(config, "image", None)
    if not isinstance(image, ImageConfig) or not image.weights:
        return config
    named = replace(image, weights=_identity(image, *_stamp(_path(image))))
    return replace(config, image=named)  # type: ignore[type-var]


@lru_cache(maxsize=64)
def _identity(image: ImageConfig, size: int, changed: int) -> str:
    """Read once while neither size nor time of change are others."""
    _fitting(image)
    return f"{_path(image).name} sha256:{sha256_of(_path(image))}"


def _path(image: ImageConfig) -> Path:
    return Path(image.weights).expanduser()


def _stamp(file: Path) -> tuple[int, int]:
    if not file.is_file():
        raise ConfigError(f"weights '{file.name}'", "a file", "none", "check the path")
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _fitting(image: ImageConfig) -> State:
    """The file's arrays for the backbone, without the last layer.

    Raises:
        ConfigError: They are not all of this backbone's and no others.
    """
    file = _path(image)
    with torch.device("meta"):  # shapes alone
        network = network_of(image, 1)
    wanted = {name: value for name, value in network.state_dict().items() if not is_head(name)}
    found = {name: value for name, value in _read(file).items() if not is_head(name)}
    wrong = wanted.keys() ^ found.keys()
    wrong |= {name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape}
    if not wrong:
        return found
    here, there = _described(wanted), _described(found)
    if here != there:
        raise ConfigError(f"weights '{file.name}'", here, there, "set model.image.backbone, .channels and .norm to it")
    lack = f"{len(wrong)} of its arrays lack, are too many or have another shape, e.g. '{min(wrong)}'"
    raise ConfigError(f"weights '{file.name}'", here, lack, "export the weights again")


def _read(file: Path) -> State:
    """Arrays by MONAI's names, which for a ResNet are torchvision's."""
    _stamp(file)
    try:
        raw = _raw(file)
        state = raw.get("state_dict", raw)
        arrays = {name.removeprefix("module."): value for name, value in state.items()}
        if not arrays or not all(isinstance(value, Tensor) for value in arrays.values()):
            raise TypeError
    except Exception as error:
        # both libraries raise many kinds on a file that is something else
        raise ConfigError(
            f"weights '{file.name}'", "safetensors or a state dict", type(error).__name__, "export the weights again"
        ) from None
    return {_monai(name): value for name, value in arrays.items() if not name.endswith(_UNUSED)}


def _raw(file: Path) -> dict[str, Any]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(file))
    return dict(torch.load(file, map_location="cpu", weights_only=True))


def _monai(name: str) -> str:
    """
    >>> _monai("features.denseblock1.denselayer2.norm1.weight")
    'features.denseblock1.denselayer2.layers.norm1.weight'
    """
    name = re.sub(r"(denselayer\d+)\.((?:norm|conv)\d)", r"\1.layers.\2", name)
    return re.sub(r"^classifier\.", "class_layers.out.", name)


def _described(state: State) -> str:
    """What network arrays are of, in words.

    >>> _described({"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.running_mean": torch.zeros(64)})
    'another network of 3 channels with batch normalisation'
    """
    name, first = "another network", state.get("conv1.weight", state.get("features.conv0.weight"))
    dense = tuple(_count(state, rf"features\.denseblock{i}\.denselayer(\d+)\.") for i in (1, 2, 3, 4))
    blocks = tuple(_count(state, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4))
    if all(dense):
        name = "densenet121" if dense == _DENSENET121 else "another DenseNet"
    elif all(blocks) and all(f"layer{i}.0.conv1.weight" in state for i in (1, 2, 3, 4)):
        planes = tuple(len(state[f"layer{i}.0.conv1.weight"]) for i in (1, 2, 3, 4))
        design = Design(blocks, planes, "layer1.0.conv3.weight" in state)  # type: ignore[arg-type]
        name = next((known for known, of in DESIGNS.items() if of == design), "another ResNet")
    channels = "" if first is None or first.ndim != 4 else f" of {first.shape[1]} channel{'s' * (first.shape[1] > 1)}"
    norm = "batch" if any(array.endswith("running_mean") for array in state) else "group"
    return f"{name}{channels} with {norm} normalisation"


def _count(state: State, pattern: str) -> int:
    return len({match[1] for match in (re.match(pattern, name) for name in state) if match})
