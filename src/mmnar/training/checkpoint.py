"""Checkpoints without pickle: tensors in safetensors, everything else as JSON in its header. Replaced atomically."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmnar.errors import StoreError


@dataclass
class Checkpoint:
    """All that a fit needs to go on: ``tensors`` by dotted name, ``state`` as plain JSON."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under ``prefix.``, without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(prefix + ".")}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write whole or not at all.

    Raises:
        StoreError: The disk is full or the folder not writable; an older checkpoint stays.
    """
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.tensors.items()}
        state = json.dumps(checkpoint.state)
        save_file(tensors, str(temporary), metadata={"state": state, "digest": _digest(tensors, state)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        fact = getattr(error, "strerror", None) or "none"
        raise StoreError(f"checkpoint '{path.name}'", "room to write", fact, "free space and --resume") from error


def load_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint at ``path``; None where there is none, or a damaged one, which is said: the fit begins again then,
    to the same numbers."""
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as handle:
            about = handle.metadata()
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
        if about["digest"] == _digest(tensors, about["state"]):
            return Checkpoint(tensors, json.loads(about["state"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        pass
    warnings.warn(f"checkpoint '{path.name}' is damaged; this fit begins again", stacklevel=2)
    return None


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    found = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer with one parameter group as ``<index>.<name>`` tensors."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
