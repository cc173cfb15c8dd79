"""MT's own invariants, each against its definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmnar.config import TrainConfig
from mmnar.encoders.modality import encode
from mmnar.errors import ConfigError
from mmnar.models.mt import MT, MTConfig, held_out
from mmnar.ops.masked import FusionLayer
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from tests.conformance.test_models import batch, task_loss
from tests.populations import SCHEMA

LAYERS = 3
EVERY_F = pytest.mark.parametrize("start", range(1, LAYERS + 2))


def model(**changes: object) -> MT:
    torch.manual_seed(0)
    settings = {"width": 16, "token_width": 16, "layers": LAYERS, "dropout": 0.0} | changes
    return MT(SCHEMA, MTConfig(**settings))  # type: ignore[arg-type]


def attend(m: MT, tokens: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    start = int(m.fused_from)
    return m.fused(m.alone(tokens, present, m.layers[: start - 1]), present, m.layers[start - 1 :])


def literal_layer(layer: FusionLayer, tokens: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """One patient's (T, D) tokens under a (T, T) mask, written out head by head."""
    d = tokens.shape[1] // layer.heads
    q, k, v = layer.qkv(layer.norm_attention(tokens)).split(tokens.shape[1], dim=1)
    mixed = []
    for h in range(layer.heads):
        part = slice(h * d, (h + 1) * d)
        scores = (q[:, part] @ k[:, part].T / d**0.5).masked_fill(~allowed, -torch.inf)
        mixed.append(scores.softmax(1) @ v[:, part])
    tokens = tokens + layer.out(torch.cat(mixed, dim=1))
    return tokens + layer.feed(layer.norm_feed(tokens))


@EVERY_F
def test_attention_against_the_mask_of_the_definition(start: int) -> None:
    m = model(fusion_layer=start).double().eval()
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0]], dtype=torch.bool)
    tokens = m.tokens(torch.randn(3, 3, 16, dtype=torch.float64))
    got = attend(m, tokens, present)
    of = torch.arange(3).repeat_interleave(5)  # cls and four slices
    for i, delta in enumerate(present):
        own = tokens[i].flatten(0, 1)
        for number, layer in enumerate(m.layers, start=1):
            allowed = delta[of][:, None] & delta[of] & ((of[:, None] == of) | (number >= start))
            own = literal_layer(layer, own, allowed | torch.eye(15, dtype=torch.bool))
        assert torch.allclose(got[i, delta, 0], own.view(3, 5, 16)[delta, 0])  # cls is all that is read


@EVERY_F
def test_a_pass_is_the_layers_before_the_fusion_layer_and_then_the_others(start: int) -> None:
    m, b = model(fusion_layer=start).eval(), batch(40)
    tokens = attend(m, m.tokens(encode(m.encoders, b, 16)), b.present)
    assert torch.equal(m(b).representation, m.read(tokens, b.present)[1])


@EVERY_F
def test_modalities_meet_from_the_fusion_layer_on(start: int) -> None:
    m = model(fusion_layer=start).eval()
    tokens = m.tokens(torch.randn(4, 3, 16)).detach().requires_grad_()
    out = attend(m, tokens, torch.ones(4, 3, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(out[:, 0, 0].sum(), tokens)
    assert gradient[:, 0, 1:].abs().sum() > 0  # several tokens of its own
    assert bool(gradient[:, 1:].any()) == (start <= LAYERS)


@EVERY_F
def test_masking_a_modality_equals_deleting_its_tokens(start: int) -> None:
    m = model(fusion_layer=start).eval()
    tokens = m.tokens(torch.randn(4, 3, 16))
    present = torch.tensor([True, False, True]).expand(4, 3)
    masked, deleted = attend(m, tokens, present), attend(m, tokens[:, [0, 2]], present[:, [0, 2]])
    assert torch.allclose(masked[:, [0, 2]], deleted, atol=1e-6)


@EVERY_F
def test_losses_against_passes_of_their_own(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    subset = torch.tensor([True, True, False])
    monkeypatch.setattr("mmnar.models.mt.some_of", lambda present: present & subset)
    m, b = model(fusion_layer=start), batch(40)
    got = m.train()(b)
    m.eval()
    assert torch.allclose(got.logits, m(b).logits, atol=1e-5)
    assert torch.allclose(got.losses["subset"], task_loss(m(b.drop(subset.expand_as(b.present))).logits, b))
    alone = [m(b.drop(one.expand_as(b.present))).logits for one in torch.eye(3, dtype=torch.bool)]
    total, pairs = 0.0, 0
    for k in range(3):
        has = [i for i in range(len(b)) if b.present[i, k]]
        pairs += len(has)
        for t in range(2):
            losses = [
                F.binary_cross_entropy_with_logits(alone[k][i, t], b.labels[i, t]) for i in has if b.label_mask[i, t]
            ]
            total += len(has) * torch.stack(losses).mean().item()
    assert abs(got.losses["alone"].item() - total / pairs) < 1e-5


def test_nothing_present_gives_the_learned_logits() -> None:
    m, b = model().eval(), batch(40)
    torch.nn.init.normal_(m.null)
    logits = m(b.drop(torch.zeros_like(b.present))).logits
    assert torch.equal(logits, m.null.expand_as(logits))


def test_in_the_search_some_patients_move_alpha_alone_and_the_others_all_else() -> None:
    m, b = model(search=True).train(), batch(200)
    held = held_out(b.rows, 0.2)
    moved = []
    for objective in m.objectives(b, m):
        m.zero_grad(set_to_none=True)
        objective.total.backward()
        m.after_backward()
        moved.append({n for n, p in m.named_parameters() if p.grad is not None and p.grad.any()})
    assert 0 < held.sum() < len(b) / 2
    assert "alpha" not in moved[0]
    assert len(moved[0]) > 50
    assert moved[1] == {"alpha"}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_every_batch_of_the_search_makes_both_steps(share: float) -> None:
    """Else processes would wait for each other; a step that nobody decides on moves nothing."""
    m, b = model(search=True, search_share=share).train(), batch(60)
    m.begin_phase(m.phases()[0], b)
    moved = []
    for objective in m.objectives(b, m):
        m.zero_grad(set_to_none=True)
        objective.total.backward()
        m.after_backward()
        moved.append({n for n, p in m.named_parameters() if p.grad is not None and p.grad.any()})
    assert [bool(names) for names in moved] == [share == 0, share == 1]
    assert share == 0 or moved[1] == {"alpha"}


@pytest.mark.slow
def test_the_search_runs_in_two_processes() -> None:
    """With batches so small that many have nobody to decide on F."""
    b, m = batch(80), model(search=True, search_epochs=2)
    config = TrainConfig(min_steps=0, max_epochs=1, batch_size=4, accelerator="cpu", devices=2)
    history = train(m, b, b, config, 0, Silent())
    assert [h["phase"] for h in history] == ["search", "search", "joint"]


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"patches": 5}, "patches"),
        ({"patches": 0}, "patches"),
        ({"heads": 3}, "heads"),
        ({"fusion_layer": 0}, "fusion_layer"),
        ({"fusion_layer": LAYERS + 2}, "fusion_layer"),
        ({"fusion_layer": 1, "search": True}, "fusion_layer"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], subject: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{subject}: expected"):
        model(**settings)


def test_early_fusion_is_the_default() -> None:
    assert int(model().fused_from) == 1


def test_a_drawn_layer_mixes_to_what_that_layer_gives() -> None:
    m = model(search=True).eval()
    tokens, present = m.tokens(torch.randn(5, 3, 16)), torch.ones(5, 3, dtype=torch.bool)
    for start in range(1, LAYERS + 2):
        m.fused_from.fill_(start)
        with torch.no_grad():
            m.alpha.copy_(100.0 * F.one_hot(torch.tensor(start - 1), LAYERS + 1))
        assert torch.allclose(m.mixed(tokens, present, m.layers), attend(m, tokens, present), atol=1e-6)


def test_the_search_ends_with_its_likeliest_layer_and_training_goes_on_with_it() -> None:
    b = batch(80)
    m = model(search=True, search_epochs=3)
    history = train(m, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=40, lr=1e-2), 0, Silent())
    assert [h["phase"] for h in history] == ["search"] * 3 + ["joint"] * 2
    assert m.alpha.any()
    assert int(m.fused_from) == int(m.alpha.argmax()) + 1
