"""CM-AE's own invariants, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmnar.config import TrainConfig
from mmnar.encoders.modality import encode
from mmnar.models.cm_ae import CMAE, CMAEConfig
from mmnar.simulation.planted import SCHEMA as PLANTED
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch, Static
from tests.conformance.test_models import batch, mixed


def model(b: PatientBatch, **changes: object) -> CMAE:
    torch.manual_seed(0)
    made = CMAE(b.schema, CMAEConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]
    made.prepare(b)
    return made


def test_reconstruction_loss_against_a_literal_loop() -> None:
    b = mixed(40)
    m = model(b)
    z = torch.randn(len(b), 16)
    total, pairs = 0.0, 0
    for decoder, (x, known) in zip(m.decoders, m.plain(b), strict=True):
        rebuilt = decoder(z).detach().double()
        for i in range(len(b)):
            errors = [float((rebuilt[i, f] - x[i, f]) ** 2) for f in range(x.shape[1]) if known[i, f]]
            if errors:
                total, pairs = total + sum(errors) / len(errors), pairs + 1
    assert pairs == int(b.present.sum())
    assert abs(m.reconstruction_loss(z, b).item() - total / pairs) < 1e-5


def test_a_hidden_modality_is_a_target_and_no_input() -> None:
    b = batch(40)
    m = model(b)
    shown = b.present & torch.tensor([False, True, True])
    vitals = b.modalities["vitals"]
    assert isinstance(vitals, Static)
    moved = replace(vitals, values=torch.where(vitals.observed, vitals.values + 1, 0.0))
    other = replace(b, modalities={**b.modalities, "vitals": moved}, checked=False)
    codes = [m.code(encode(m.encoders, part, 16), shown) for part in (b, other)]
    assert torch.equal(codes[0], codes[1])
    assert abs(m.reconstruction_loss(codes[0], b) - m.reconstruction_loss(codes[0], other)) > 1e-3


def test_shown_is_everything_one_or_some_with_a_third_each() -> None:
    m = model(batch(40))
    torch.manual_seed(0)
    present = torch.tensor([[True, True, True], [False, True, False], [False, False, False]])
    counts = torch.zeros(4)
    for _ in range(4000):
        shown = m.shown(present)
        assert not (shown & ~present).any()
        assert shown[1].sum() == 1
        counts[int(shown[0].sum())] += 1
    # of three: "all" or every coin heads; one alone or both coins tails; one coin of two
    assert (counts / 4000 - torch.tensor([0, 5 / 12, 2 / 12, 5 / 12])).abs().max() < 0.03


def low_rank(n: int, seed: int) -> PatientBatch:
    """Four modalities of ten features, all linear in the same two numbers; everybody has all."""
    mix = torch.randn(4, 2, 10, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    s, present = torch.randn(n, 2, generator=generator), torch.ones(n, 4, dtype=torch.bool)
    contents = {
        name: Static(s @ mix[k], present[:, [k]].expand(-1, 10).clone())
        for k, name in enumerate(PLANTED.modality_names)
    }
    labels = torch.zeros(n, 1)
    return PatientBatch(PLANTED, contents, present, labels, labels.bool(), torch.arange(n))  # type: ignore[arg-type]


def test_rebuilds_everything_from_any_one_modality_of_low_rank_data() -> None:
    b, fresh = low_rank(512, 1), low_rank(200, 2)
    m = model(b, pretrain_epochs=40)
    train(m, b, b, TrainConfig(min_steps=0, max_epochs=1, batch_size=64, lr=5e-3, weight_decay=0.0), 0, Silent())
    for k in range(4):
        with torch.no_grad():
            one = torch.zeros(4, dtype=torch.bool).index_fill(0, torch.tensor(k), True)
            z = m.code(encode(m.encoders, fresh, 16), fresh.present & one)
            for decoder, (x, _) in zip(m.decoders, m.plain(fresh), strict=True):
                assert (decoder(z) - x).square().mean() < 0.12  # the training mean alone: 1


def test_the_first_phase_uses_no_labels() -> None:
    b = batch(40)
    m = model(b).train()
    (objective,) = m.objectives(b, m)
    objective.total.backward()
    assert set(objective.terms) == {"task", "rec"}
    assert all(p.grad is None or not p.grad.any() for p in m.head.parameters())


@pytest.mark.parametrize("head_input", ["code", "completed"])
def test_a_fixed_code_lets_the_second_phase_move_the_head_alone(head_input: str) -> None:
    b = batch(60)
    m = model(b, finetune=False, head_input=head_input)
    m.loss_weights = m.phases()[1].weights
    m.begin_phase(m.phases()[1], b)
    m.train()
    (objective,) = m.objectives(b, m)
    objective.total.backward()
    assert {n.split(".")[0] for n, p in m.named_parameters() if p.grad is not None} == {"head"}


def test_features_that_are_fixed_are_those_of_prediction() -> None:
    """The head is fitted to what it will be asked about: no dropout in front of it, no weight moved behind it."""
    b = mixed(60)
    m = CMAE(b.schema, CMAEConfig(width=16, dropout=0.5, finetune=False, pretrain_epochs=2))
    features: list[tuple[str, torch.Tensor]] = []
    m.head.register_forward_pre_hook(lambda head, args: features.append((m.training, args[0].detach())))
    weights = []

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            weights.append((record["phase"], m.shared.weight.detach().clone(), m.head.net.weight.detach().clone()))

    train(m, b, b, TrainConfig(min_steps=0, max_epochs=3, batch_size=60, lr=1e-2), 0, Watch())
    shared, head = ([w[i] for w in weights if w[0] == "predict"] for i in (1, 2))
    assert torch.equal(shared[0], shared[-1])
    assert not torch.equal(head[0], head[-1])
    (one, two) = [x.sort(0).values for training, x in features if training][-2:]
    predicted = [x.sort(0).values for training, x in features if not training][-1]
    assert torch.allclose(one, two, atol=1e-6)  # where a row stands in a batch may move its last bit
    assert torch.allclose(one, predicted, atol=1e-6)


def test_the_completed_vector_keeps_what_is_known() -> None:
    b = mixed(40)
    m = model(b, head_input="completed").eval()
    z = m(b).representation
    start = 0
    for decoder, (x, known) in zip(m.decoders, m.plain(b), strict=True):
        part = m.completed(z, b)[:, start : start + x.shape[1]]
        assert torch.equal(part[known], x[known])
        assert torch.equal(part[~known], decoder(z)[~known])
        start += x.shape[1]
    assert start == m.head.net[0].in_features
