"""The one training loop.

Whatever a method needs is expressed as what to differentiate (``Model.objectives``) and with which weights
(``Model.phases``), never as another loop. Device, precision and DDP come from Lightning Fabric.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mmnar.config import TrainConfig
from mmnar.errors import ConfigError, TrainingError, nearest
from mmnar.models.base import Model, Phase, TaskLoss
from mmnar.ops.losses import masked_label_loss, mean_label_loss
from mmnar.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from mmnar.training.monitor import Monitor, Silent
from mmnar.types import Output, PatientBatch


@dataclass
class Progress:
    """Where a fit stands; plain JSON."""

    phase: int = 0
    epoch: int = 0  # epochs done in this phase
    best: float = math.inf
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    model: Model,
    data: PatientBatch,
    tune: PatientBatch,
    config: TrainConfig,
    seed: int,
    monitor: Monitor,
    checkpoint: Path | None = None,
    name: str = "fit",
) -> list[dict[str, Any]]:
    """Train ``model`` in place; it ends with the weights of its best tune epoch, on the CPU, in eval mode.

    Args:
        data, tune: The whole training and tune fold.
        seed: Order of batches and dropout of epoch e follow from (seed, phase, e) alone.
        checkpoint: Written every ``checkpoint_seconds``; an existing one is continued, to the same numbers.

    Returns:
        One record per epoch (see ``Monitor.epoch``).

    Raises:
        TrainingError: A loss or weight is not finite; names the epoch and the term.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    several = config.devices > 1
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        precision=_precision(config),
        # a step may leave parameters out, e.g. the decoder of a modality that nobody in the batch had hidden
        strategy=DDPStrategy(start_method="spawn", find_unused_parameters=True) if several else "auto",
    )
    fit = _Fit(model, data, tune, config, seed, monitor, checkpoint, name)
    best, history = _in_processes(fabric, fit) if several else _run(fabric, fit)
    model.to("cpu").load_state_dict(best)
    model.eval()
    model.finish()
    return history


@dataclass
class _Fit:
    """What stays the same over a fit."""

    model: Model
    data: PatientBatch
    tune: PatientBatch
    config: TrainConfig
    seed: int
    monitor: Monitor
    checkpoint: Path | None
    name: str

    def epochs(self, phase: Phase) -> int:
        return epochs_of(self.config, len(self.data), phase.epochs)


Trained = tuple[dict[str, Tensor], list[dict[str, Any]]]
"""The best weights, on the CPU, and the history."""


def _in_processes(fabric: Any, fit: _Fit) -> Trained:
    """``_run`` in several processes. Bars live in this one, so the records are shown when the others are back."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trained.safetensors"
        # the model travels as an argument, so that Fabric gives each process weights of its own; it refuses frozen
        # dataclasses among arguments, so the rest travels inside the function
        fabric.launch(partial(_worker, fit=replace(fit, monitor=Silent()), out=out), fit.model)
        trained = load_checkpoint(out)
    assert trained is not None
    history = trained.state["history"]
    fit.monitor.start(fit.name, len(history))
    for record in history:
        fit.monitor.epoch(record)
    fit.monitor.stop()
    return trained.tensors, history


def _worker(fabric: Any, model: Model, fit: _Fit, out: Path) -> None:
    """One of the processes. The result goes through a file: Fabric's queue holds 64 KB, then blocks."""
    best, history = _run(fabric, replace(fit, model=model))
    if fabric.is_global_zero:
        save_checkpoint(out, Checkpoint(best, {"history": history}))


def _run(fabric: Any, fit: _Fit) -> Trained:
    """All phases, in one process of possibly several."""
    model, monitor = fit.model, fit.monitor
    fit = replace(fit, data=fit.data.to(fabric.device), tune=fit.tune.to(fabric.device))
    torch.manual_seed(_mix(fit.seed, 0, 0))
    model.to(fabric.device).prepare(fit.data)
    saved = load_checkpoint(fit.checkpoint) if fit.checkpoint else None
    progress = Progress(**saved.state) if saved else Progress()
    best = saved.group("best") if saved else _cpu_state(model)
    phases = model.phases()
    monitor.start(fit.name, sum(fit.epochs(phase) for phase in phases))
    for record in progress.history:
        monitor.epoch(record)
    for number in range(progress.phase, len(phases)):
        begun = saved if saved and saved.state["phase"] == number and progress.epoch else None
        best = _phase(fabric, fit, number, phases[number], progress, best, begun)
        progress.phase, progress.epoch, progress.best, progress.best_epoch = number + 1, 0, math.inf, 0
    monitor.stop()
    return best, progress.history


def _phase(
    fabric: Any,
    fit: _Fit,
    number: int,
    phase: Phase,
    progress: Progress,
    best: dict[str, Tensor],
    begun: Checkpoint | None,
) -> dict[str, Tensor]:
    """Epochs of one phase from the weights ``best``, or from where ``begun`` broke off; the best weights."""
    model, config = fit.model, fit.config
    model.load_state_dict(best)
    everybody = fit.data
    fit = _begin(fit, number, phase)
    if not fit.epochs(phase):
        return _cpu_state(model)
    if begun:
        model.load_state_dict(begun.group("model"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    if begun:
        restore_optimizer(optimizer, begun.group("optimizer"))
    wrapped, optimizer = fabric.setup(_Unpacked(model), optimizer)
    model.task_loss = _task_loss(fit.data, config, fabric.device)
    last_saved = time.monotonic()
    while progress.epoch < fit.epochs(phase) and not _stopped(progress, phase, fit):
        started = time.perf_counter()
        torch.manual_seed(_mix(fit.seed, number + 1, progress.epoch))
        terms = _epoch(fabric, wrapped, optimizer, fit, phase, progress.epoch)
        model.eval()
        with torch.no_grad():
            model.after_epoch(everybody)
        tune_loss = evaluate_loss(model, fit.tune)
        progress.epoch += 1
        # with a fixed length (no labels used) the last weights are the phase's result
        if tune_loss < progress.best or phase.epochs is not None:
            progress.best, progress.best_epoch, best = tune_loss, progress.epoch, _cpu_state(model)
        record = {
            "fit": fit.name,
            "phase": phase.name,
            "epoch": progress.epoch,
            "train": terms,
            "tune": {"task": tune_loss},
            "lr": optimizer.param_groups[0]["lr"],
            "seconds": round(time.perf_counter() - started, 3),
        }
        progress.history.append(record)
        fit.monitor.epoch(record)
        if fit.checkpoint and fabric.is_global_zero and time.monotonic() - last_saved >= config.checkpoint_seconds:
            _save(fit.checkpoint, model, optimizer, best, progress)
            last_saved = time.monotonic()
    return best


def _begin(fit: _Fit, number: int, phase: Phase) -> _Fit:
    """Weights of the losses, and what the model does first, with random numbers of its own.

    Returns:
        The fit with the data of those whom the phase learns from.
    """
    fit.model.loss_weights = phase.weights
    torch.manual_seed(_mix(fit.seed, number + 1, _BEGIN))
    fit.model.eval()
    with torch.no_grad():
        fit.model.begin_phase(phase, fit.data)
        learners = fit.model.learners(phase, fit.data)
    return fit if learners is None else replace(fit, data=fit.data.take(learners.to(fit.data.rows.device)))


class _Unpacked(torch.nn.Module):
    """What Fabric wraps. It walks through the fields of whatever passes its wrapper and refuses frozen dataclasses,
    so a batch goes in behind a function and an Output comes out as a dict."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Callable[[], PatientBatch]) -> dict[str, Any]:
        return dict(vars(self.model(batch())))


def _epoch(fabric: Any, wrapped: Any, optimizer: Any, fit: _Fit, phase: Phase, epoch: int) -> dict[str, float]:
    """One pass over the training fold; returns the mean of each loss term."""
    model, config, epochs = fit.model, fit.config, fit.epochs(phase)
    wrapped.train()
    batches = torch.split(torch.randperm(len(fit.data)), config.batch_size)
    mine = batches[fabric.global_rank :: fabric.world_size]
    mine = mine[: len(batches) // fabric.world_size] or mine  # equal counts, or DDP would wait for ever
    sums: dict[str, Tensor] = {}
    steps = 0

    def forward(batch: PatientBatch) -> Output:
        return Output(**wrapped(lambda: batch))

    for i, rows in enumerate(mine):
        batch = fit.data.take(rows.to(fit.data.rows.device))
        for objective in model.objectives(batch, forward):
            rate = phase.rate * _rate(config, (epoch + i / len(mine)) / epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(objective.total)
            model.after_backward()
            if config.clip_norm:
                fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
            optimizer.step()
            with torch.no_grad():
                model.after_step(rate)
            steps += 1
            for term, value in objective.terms.items():
                sums[term] = sums.get(term, torch.zeros((), device=value.device)) + value
        if i % 20 == 0:
            _finite(objective.total, "loss", f"epoch {epoch + 1}, batch {i + 1}", objective.terms)
            fit.monitor.step(float(objective.total.detach()))
    means = {term: float(value) / steps for term, value in sums.items()}
    _check(model, means, epoch)
    return means


def _check(model: Model, means: dict[str, float], epoch: int) -> None:
    """Stop at the first epoch that leaves a loss or a weight that is not a number, and say which."""
    for term, mean in means.items():
        if not math.isfinite(mean):
            raise _not_finite(f"loss term '{term}'", f"epoch {epoch + 1}")
    for weight_name, weight in model.named_parameters():
        _finite(weight.detach().sum(), f"weights '{weight_name}'", f"epoch {epoch + 1}", {})


def evaluate_loss(model: Model, tune: PatientBatch, rows: int = 4096) -> float:
    """Mean cross-entropy of the tune fold over questions: proper, whatever the training loss is."""
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(part).logits.float() for part in batches_of(tune, rows)])
    return float(mean_label_loss(logits, tune))


def epochs_of(config: TrainConfig, patients: int, fixed: int | None = None) -> int:
    """Number of epochs of a phase.

    Args:
        fixed: ``Phase.epochs``. On a small fold such a phase gets more passes, too: until it has made the share of
            ``min_steps`` that ``fixed`` is of ``max_epochs``, at most all of them.

    >>> epochs_of(TrainConfig(max_epochs=12, min_steps=600, batch_size=256), 2560)
    60
    >>> epochs_of(TrainConfig(max_epochs=12, min_steps=600, batch_size=256), 2560, 4)
    20
    """
    steps = math.ceil(patients / config.batch_size)
    if fixed is None:
        return max(config.max_epochs, math.ceil(config.min_steps / steps))
    share = min(1.0, fixed / config.max_epochs)
    return max(fixed, math.ceil(config.min_steps * share / steps))


def patience_of(config: TrainConfig, patients: int) -> int:
    """Epochs to wait for a better one: the same share of all epochs on a small fold, where an epoch is few steps.

    >>> patience_of(TrainConfig(max_epochs=12, patience=6, min_steps=600, batch_size=256), 2560)
    30
    """
    return math.ceil(config.patience * epochs_of(config, patients) / config.max_epochs)


def batches_of(data: PatientBatch, rows: int) -> Iterator[PatientBatch]:
    """``data`` in order, ``rows`` patients at a time; as it is where they are no more."""
    if len(data) <= rows:
        if len(data):
            yield data
        return
    for index in torch.split(torch.arange(len(data), device=data.rows.device), rows):
        yield data.take(index)


def _task_loss(data: PatientBatch, config: TrainConfig, device: torch.device) -> TaskLoss:
    tasks = data.schema.task_names
    for name in config.task_weights:
        if name not in tasks and name not in TrainConfig().task_weights:
            raise ConfigError(
                f"train.task_weights.{name}", "a task of this store", "an unknown one", nearest(name, tasks)
            )
    weights = torch.tensor([config.task_weights.get(name, 1.0) for name in tasks], device=device)
    focal = config.label_loss == "focal"
    return partial(
        _label_loss,
        weights=weights,
        gamma=config.focal_gamma if focal else 0.0,
        alpha=config.focal_alpha if focal else -1.0,
    )


def _label_loss(logits: Tensor, batch: PatientBatch, weights: Tensor, gamma: float, alpha: float) -> Tensor:
    exclusive = batch.schema.exclusive
    return masked_label_loss(logits.float(), batch.labels, batch.label_mask, weights, exclusive, gamma, alpha)


def _rate(config: TrainConfig, done: float) -> float:
    """Linear warm-up, then cosine decay to zero or nothing more; ``done`` in [0, 1)."""
    factor = 1.0
    if done < config.warmup:
        factor = (done + 1e-3) / (config.warmup + 1e-3)
    elif config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))
    return config.lr * factor


def _stopped(progress: Progress, phase: Phase, fit: _Fit) -> bool:
    waited = progress.epoch - progress.best_epoch
    return phase.epochs is None and waited >= patience_of(fit.config, len(fit.data))


def _precision(config: TrainConfig) -> Any:
    if config.precision != "auto":
        return config.precision
    on_gpu = config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu else "32-true"


_BEGIN: Final = 2**31
"""In place of an epoch's number: what is random at the start of a phase."""


def _mix(seed: int, phase: int, epoch: int) -> int:
    """A seed of its own for every epoch, so that a resumed fit needs no generator state."""
    return int(np.random.SeedSequence([seed, phase, epoch]).generate_state(1)[0])


def _cpu_state(model: Model) -> dict[str, Tensor]:
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}


def _finite(value: Tensor, what: str, where: str, terms: dict[str, Tensor]) -> None:
    if not bool(torch.isfinite(value)):
        bad = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
        raise _not_finite(f"{what} {bad}" if bad else what, where)


def _not_finite(what: str, where: str) -> TrainingError:
    return TrainingError(
        f"training: {what}", "finite numbers", f"NaN or infinity at {where}", "lower train.lr or look at the inputs"
    )


def _save(path: Path, model: Model, optimizer: Any, best: dict[str, Tensor], progress: Progress) -> None:
    tensors = {f"model.{k}": v for k, v in _cpu_state(model).items()}
    tensors |= {f"best.{k}": v for k, v in best.items()}
    tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(optimizer).items()}
    save_checkpoint(path, Checkpoint(tensors, vars(progress)))
