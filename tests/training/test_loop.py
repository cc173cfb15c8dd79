"""The loop: resume to the same numbers, stop at NaN, focal = bce at gamma 0, phases in order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F

from mmnar.config import TrainConfig
from mmnar.encoders.settings import ImageConfig
from mmnar.errors import ConfigError, TrainingError
from mmnar.models.base import Phase, summed_label_loss
from mmnar.models.crl_mmnar import CRLMMNAR, CRLMMNARConfig
from mmnar.models.zero_fill import ZeroFill
from mmnar.ops.losses import info_nce, masked_label_loss
from mmnar.schema import Schema
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import Output, PatientBatch
from tests.conformance.test_models import batch, build, mixed
from tests.populations import SCHEMA


class KilledError(Exception):
    pass


class KilledAfter(Silent):
    """Stops the fit from outside after some epochs, as a kill would."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch(self, record: dict[str, Any]) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


@pytest.mark.parametrize(
    ("schedule", "killed_after"), [("joint", 1), ("joint", 3), ("pretrain", 1), ("pretrain", 3), ("pretrain", 5)]
)
def test_resume_gives_the_same_numbers(tmp_path: Path, killed_after: int, schedule: Any) -> None:
    b, config = batch(150), TrainConfig(min_steps=0, max_epochs=4, batch_size=32, checkpoint_seconds=0)
    settings = CRLMMNARConfig(width=16, schedule=schedule, pretrain_epochs=3)

    def fresh() -> CRLMMNAR:
        torch.manual_seed(5)
        return CRLMMNAR(SCHEMA, settings)

    whole = fresh()
    history = train(whole, b, b, config, 5, Silent())
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KilledError):
        train(fresh(), b, b, config, 5, KilledAfter(killed_after), path)
    assert path.is_file()
    resumed = fresh()
    again = train(resumed, b, b, config, 5, Silent(), path)
    assert [(h["phase"], h["epoch"], h["tune"], h["train"]) for h in again] == [
        (h["phase"], h["epoch"], h["tune"], h["train"]) for h in history
    ]
    assert all(torch.equal(a, c) for a, c in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_resume_changes_images_as_it_would_have(tmp_path: Path) -> None:
    b, config = mixed(60), TrainConfig(min_steps=0, max_epochs=3, batch_size=32, patience=9, checkpoint_seconds=0)
    image = ImageConfig("tiny", augment="strong")
    path = tmp_path / "checkpoint.safetensors"

    def fitted(monitor: Silent, checkpoint: Path | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = ZeroFill(b.schema, ZeroFill.Config(width=8, image=image))
        train(model, b, b, config, 5, monitor, checkpoint)
        return model.state_dict()

    whole = fitted(Silent(), None)
    with pytest.raises(KilledError):
        fitted(KilledAfter(2), path)
    resumed = fitted(Silent(), path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_fit_with_a_damaged_checkpoint_begins_again_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"not a checkpoint")
    fits = [build("zero-fill", schema=SCHEMA) for _ in range(2)]
    settings = TrainConfig(min_steps=0, max_epochs=1)
    with pytest.warns(UserWarning, match="checkpoint.safetensors' is damaged; this fit begins again"):
        train(fits[0], batch(), batch(), settings, 0, Silent(), path)
    train(fits[1], batch(), batch(), settings, 0, Silent())
    assert all(torch.equal(a, b) for a, b in zip(fits[0].parameters(), fits[1].parameters(), strict=True))


def test_nan_in_weights_stops_with_a_place() -> None:
    model = build("crl-mmnar", schema=SCHEMA)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match="epoch 1"):
        train(model, batch(), batch(), TrainConfig(min_steps=0, max_epochs=1), 0, Silent())


def test_unknown_task_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="mortality"):
        train(
            build("zero-fill", schema=SCHEMA),
            batch(),
            batch(),
            TrainConfig(task_weights={"mortalty": 2.0}),
            0,
            Silent(),
        )


def test_the_model_holds_the_label_loss_that_it_is_trained_on() -> None:
    """For auxiliary heads: the tasks' weights and the focal exponent of this training, not a loss of their own."""
    b, pairs = batch(), []

    class Auxiliary(ZeroFill):
        def forward(self, batch: PatientBatch) -> Output:
            out = super().forward(batch)
            if self.training:
                pairs.append((self.task_loss(out.logits, batch).item(), out.logits.detach(), batch))
            return out

    config = TrainConfig(
        min_steps=0,
        max_epochs=1,
        batch_size=32,
        label_loss="focal",
        task_weights={"mortality": 1.5, "readmission": 0.7},
    )
    train(Auxiliary(SCHEMA, ZeroFill.Config(width=16)), b, b, config, 0, Silent())
    weights = torch.tensor([config.task_weights[name] for name in SCHEMA.task_names])
    assert pairs
    for got, logits, part in pairs:
        want = masked_label_loss(logits, part.labels, part.label_mask, weights, gamma=2.0)
        assert abs(got - want.item()) < 1e-6


@pytest.mark.parametrize(
    ("name", "terms"),
    [("mt", "alone subset"), ("drfuse", "shared distinct"), ("missmodal", "sem"), ("simmlm", "expert fewer")],
)
def test_auxiliary_heads_learn_from_that_label_loss(name: str, terms: str) -> None:
    """Three times the label loss is three times the auxiliary ones."""
    b, found = batch(), []
    for factor in (0.0, 1.0, 3.0):
        model = build(name, schema=SCHEMA).train()
        model.task_loss = lambda logits, part, factor=factor: factor * summed_label_loss(logits, part)
        losses: dict[str, float] = {}
        for phase in model.phases():
            model.loss_weights = phase.weights
            torch.manual_seed(0)
            losses |= {term: loss.item() for term, loss in model(b).losses.items()}
        found.append(losses)
    for term in terms.split():
        none, once, thrice = (losses[term] for losses in found)
        assert once > none
        assert abs((thrice - none) - 3 * (once - none)) < 1e-4


@pytest.mark.parametrize(("min_steps", "epochs", "joint"), [(0, 3, 6), (120, 30, 60), (40, 10, 20)])
def test_a_small_fold_gets_more_passes_of_a_phase_of_fixed_length_too(min_steps: int, epochs: int, joint: int) -> None:
    """Half as many epochs as the other phase: half of its steps, two an epoch."""
    b = batch(40)
    model = CRLMMNAR(b.schema, CRLMMNARConfig(width=16, schedule="pretrain", pretrain_epochs=3))
    config = TrainConfig(min_steps=min_steps, max_epochs=6, batch_size=len(b) // 2 + 1, patience=60)
    history = train(model, b, b, config, 0, Silent())
    assert [sum(h["phase"] == name for h in history) for name in ("pretrain", "finetune")] == [epochs, joint]


def test_a_phase_of_no_epochs_is_begun_and_skipped() -> None:
    b = batch()

    class Begun(ZeroFill):
        def __init__(self, schema: Schema, config: Any) -> None:
            super().__init__(schema, config)
            self.register_buffer("begun", torch.zeros(2))

        def phases(self) -> tuple[Phase, ...]:
            return Phase("never", {"task": 1.0}, 0), Phase("joint", {"task": 1.0}, 2)

        def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
            self.get_buffer("begun")[int(phase.name == "joint")] = 1.0

    model = Begun(SCHEMA, ZeroFill.Config(width=16))
    history = train(model, b, b, TrainConfig(min_steps=0, max_epochs=5), 0, Silent())
    assert [h["phase"] for h in history] == ["joint"] * 2
    assert model.get_buffer("begun").tolist() == [1.0, 1.0]


def test_a_phase_has_a_rate_of_its_own_and_each_step_is_told_of_it() -> None:
    b = batch(40)

    class Told(ZeroFill):
        told: ClassVar[list[float]] = []

        def phases(self) -> tuple[Phase, ...]:
            return Phase("first", {"task": 1.0}, 2), Phase("second", {"task": 1.0}, 2, rate=0.25)

        def after_step(self, rate: float) -> None:
            assert not torch.is_grad_enabled()
            self.told.append(rate)

    config = TrainConfig(min_steps=0, max_epochs=2, batch_size=len(b) // 2 + 1, lr=1e-3, schedule="constant", warmup=0)
    history = train(Told(SCHEMA, ZeroFill.Config(width=16)), b, b, config, 0, Silent())
    assert Told.told == [1e-3] * 4 + [2.5e-4] * 4
    assert [h["lr"] for h in history] == [1e-3] * 2 + [2.5e-4] * 2


def test_a_phase_learns_from_whom_the_model_says_and_the_rest_of_the_fit_sees_all() -> None:
    b, some = batch(150), torch.arange(0, 120, 3)

    class Some(ZeroFill):
        met: ClassVar[dict[str, list[int]]] = {"first": [], "second": []}
        after: ClassVar[list[int]] = []

        def phases(self) -> tuple[Phase, ...]:
            return Phase("first", {"task": 1.0}, 2), Phase("second", {"task": 1.0}, 2)

        def begin_phase(self, phase: Phase, train: PatientBatch) -> None:
            self.now = phase.name

        def learners(self, phase: Phase, train: PatientBatch) -> torch.Tensor | None:
            return some if phase.name == "second" else None

        def forward(self, batch: PatientBatch) -> Output:
            if self.training:
                self.met[self.now] += batch.rows.tolist()
            return super().forward(batch)

        def after_epoch(self, train: PatientBatch) -> None:
            self.after.append(len(train))

    config = TrainConfig(min_steps=0, max_epochs=2, batch_size=16)
    train(Some(SCHEMA, ZeroFill.Config(width=16)), b, b, config, 0, Silent())
    assert sorted(Some.met["first"]) == sorted(2 * b.rows.tolist())
    assert sorted(Some.met["second"]) == sorted(2 * b.rows[some].tolist())
    assert Some.after == [len(b)] * 4


def test_focal_with_gamma_zero_is_bce_to_the_bit() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 2), (torch.rand(50, 2) < 0.3).float()
    mask, weights = torch.rand(50, 2) < 0.7, torch.tensor([1.2, 1.5])
    focal = masked_label_loss(logits, labels, mask, weights, gamma=0.0, alpha=-1.0)
    assert torch.equal(focal, masked_label_loss(logits, labels, mask, weights))
    by_hand = sum(
        weights[k] * F.binary_cross_entropy_with_logits(logits[mask[:, k], k], labels[mask[:, k], k]) for k in range(2)
    )
    assert torch.allclose(focal, by_hand, atol=1e-6)


def test_focal_matches_its_formula_in_float64() -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(20, 1).double(), (torch.rand(20, 1) < 0.4).double()
    got = masked_label_loss(logits, labels, labels >= 0, torch.ones(1).double(), gamma=2.0, alpha=0.25)
    want = 0.0
    for x, y in zip(logits[:, 0].tolist(), labels[:, 0].tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        p_y, a = (p, 0.25) if y else (1 - p, 0.75)
        want -= a * (1 - p_y) ** 2 * math.log(p_y)
    assert abs(float(got) - want / 20) < 1e-12


def test_a_task_nobody_was_asked_adds_nothing() -> None:
    logits = torch.zeros(3, 2, requires_grad=True)
    mask = torch.tensor([[True, False]] * 3)
    masked_label_loss(logits, torch.zeros(3, 2), mask, torch.ones(2)).backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].abs().sum() == 0
    assert logits.grad[:, 0].abs().sum() > 0


def test_info_nce_against_a_double_loop() -> None:
    torch.manual_seed(2)
    a, b, tau = torch.randn(7, 5).double(), torch.randn(7, 5).double(), 0.1
    want = 0.0
    for i in range(7):
        s = [float(a[i] @ b[j] / a[i].norm() / b[j].norm()) / tau for j in range(7)]
        want += math.log(sum(math.exp(v) for v in s)) - s[i]
    assert abs(float(info_nce(a, b, tau)) - want / 7) < 1e-10
    assert float(info_nce(a[:1], b[:1], tau)) == 0.0


@pytest.mark.slow
def test_two_processes_train_one_model() -> None:
    """DDP on two CPU processes: every epoch is recorded once and the loss falls as it does with one."""
    b = mixed(120)
    histories = {}
    for devices in (1, 2):
        model = build("crl-mmnar")
        config = TrainConfig(min_steps=0, max_epochs=4, batch_size=32, accelerator="cpu", devices=devices)
        histories[devices] = train(model, b, b, config, 0, Silent())
        assert all(torch.isfinite(p).all() for p in model.parameters())
    assert [h["epoch"] for h in histories[2]] == [1, 2, 3, 4]
    first, last = histories[2][0]["tune"]["task"], histories[2][-1]["tune"]["task"]
    assert last < first
    assert abs(last - histories[1][-1]["tune"]["task"]) < 0.1


def test_mixed_precision_trains_every_parameter_to_finite_values() -> None:
    """bf16 autocast, the precision of a GPU run, on the CPU."""
    b = mixed(120)
    model = build("crl-mmnar")
    config = TrainConfig(min_steps=0, max_epochs=3, batch_size=32, accelerator="cpu", precision="bf16-mixed")
    history = train(model, b, b, config, 0, Silent())
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in model.parameters())
    assert history[-1]["tune"]["task"] < history[0]["tune"]["task"]
