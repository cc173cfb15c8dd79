"""Weights of image encoders from a local file: read without running anything in it, refused unless they fit whole."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmnar.encoders.image import ImageEncoder, is_head, network_of
from mmnar.encoders.resnet import DESIGNS, Design
from mmnar.encoders.settings import ImageConfig
from mmnar.encoders.vector_weights import is_of_vectors, load_vectors, vector_layers
from mmnar.errors import ConfigError
from mmnar.files import sha256_of, write_whole

C = TypeVar("C")
State = dict[str, Tensor]

_DENSENET121: Final = (6, 12, 24, 16)
_UNUSED: Final = "num_batches_tracked"
_SEEN: Final = "mmnar.seen"
"""Under which a file of weights keeps digests of the subjects it was trained on."""

MADE: Final = "mmnar.made"
"""Under which it says what it was made of and how."""


def load_weights(network: nn.Module) -> None:
    """Put its file of weights into each image encoder of a network that has one, the last layer excepted; one for
    released embeddings, into the encoder of these.

    Raises:
        ConfigError: The file is absent, no file of weights, or of another network.
    """
    image = getattr(getattr(network, "config", None), "image", None)
    if isinstance(image, ImageConfig) and image.weights and is_of_vectors(_path(image)):
        load_vectors(network, image, _path(image))
    for module in network.modules():
        if isinstance(module, ImageEncoder) and module.config.weights:
            module.backbone.load_state_dict(_fitting(module.config), strict=False)


def seen_by(config: Any) -> NDArray[np.uint64]:
    """Sorted digests of the subjects whose films a method's file of weights was trained on, with the mark of their key;
    empty where the file keeps no such record, as none does that was made elsewhere.

    Raises:
        ConfigError: See ``load_weights``; or the record cannot be read.
    """
    image = getattr(config, "image", None)
    if not isinstance(image, ImageConfig) or not image.weights or _path(image).suffix != ".safetensors":
        return np.zeros(0, dtype=np.uint64)
    return _record(image, *_stamp(_path(image)))


@lru_cache(maxsize=64)
def _record(image: ImageConfig, size: int, changed: int) -> NDArray[np.uint64]:
    """Read once while neither size nor time of change are others."""
    from safetensors import safe_open

    _check(image)
    with safe_open(_path(image), framework="pt") as file:
        written = (file.metadata() or {}).get(_SEEN, "")
    try:
        return np.frombuffer(base64.b64decode(written, validate=True), dtype="<u8").astype(np.uint64)
    except ValueError:
        what, remedy = f"weights '{_path(image).name}'", "make them again with `mmnar pretrain images`"
        raise ConfigError(what, "a record of whom they have seen", "one that is damaged", remedy) from None


def save_weights(network: nn.Module, file: Path, seen: NDArray[np.uint64], made: Mapping[str, Any]) -> None:
    """Write the encoder of films of a network, with the record of whom it has seen and of how it was made; whole or not
    at all. Of an image encoder the backbone without its last layer, in torchvision's names; of vectors what is done to
    each.

    Args:
        network: With one image encoder, or else one encoder of vectors.
        seen: See ``seen_by``; keyed digests, which tell nothing to who lacks the key.
        made: For people; plain JSON.
    """
    from safetensors.torch import save_file

    backbones = [module.backbone for module in network.modules() if isinstance(module, ImageEncoder)]
    state = backbones[0].state_dict() if backbones else vector_layers(network)
    arrays = {name: value.detach().cpu().contiguous().clone() for name, value in state.items() if not is_head(name)}
    written = base64.b64encode(np.sort(seen).astype("<u8").tobytes()).decode()
    write_whole(file, lambda path: save_file(arrays, path, metadata={_SEEN: written, MADE: json.dumps(made)}))


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
    _check(image)
    return f"{_path(image).name} sha256:{sha256_of(_path(image))}"


def _path(image: ImageConfig) -> Path:
    return Path(image.weights).expanduser()


def _stamp(file: Path) -> tuple[int, int]:
    if not file.is_file():
        raise ConfigError(f"weights '{file.name}'", "a file", "none", "check the path")
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _check(image: ImageConfig) -> None:
    """
    Raises:
        ConfigError: See ``load_weights``. Whether vectors fit is seen where the network is.
    """
    if not is_of_vectors(_path(image)):
        _fitting(image)


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
