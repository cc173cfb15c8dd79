"""CRL-MMNAR's own invariants, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

from mmnar.cohort.split import Split
from mmnar.errors import ConfigError
from mmnar.estimators.registry import estimator
from mmnar.models.crl_mmnar import CRLMMNAR, CRLMMNARConfig
from mmnar.ops.losses import info_nce
from mmnar.simulation.planted import planted
from mmnar.types import PatientBatch
from tests.conformance.test_models import batch
from tests.populations import SCHEMA


def model(**changes: object) -> CRLMMNAR:
    torch.manual_seed(0)
    return CRLMMNAR(SCHEMA, CRLMMNARConfig(width=16, dropout=0.0, **changes))  # type: ignore[arg-type]


def test_losses_against_a_literal_loop_over_patients_and_modalities() -> None:
    """holdout = all: every h without m by its own forward on the batch with m dropped."""
    m, b = model(holdout="all").train(), batch(40)
    got = m(b).losses
    e = m.encode(b)
    square, pairs, cont = 0.0, 0, 0.0
    for k in range(3):
        rows = [i for i in range(len(b)) if b.present[i, k] and b.present[i].sum() >= 2]
        keep = torch.ones_like(b.present)
        keep[:, k] = False
        h_without, _ = m.fuse(m.encode(b.drop(keep)), b.drop(keep).present)
        rebuilt = m.decoders[k](h_without[rows])
        target = F.layer_norm(e[rows, k], (16,))
        square += ((rebuilt - target) ** 2).sum().item()
        pairs += len(rows)
        cont += info_nce(e[rows, k], rebuilt, 0.1).item()
    assert abs(got["rec"].item() - square / pairs / 16) < 1e-5
    assert abs(got["cont"].item() - cont) < 1e-3


def test_holding_out_one_is_unbiased_for_the_patient_average() -> None:
    m, b = model(holdout="one"), batch(40)
    torch.manual_seed(0)
    counts = torch.zeros(len(b), 3)
    for _ in range(3000):
        rows, hidden = m._holdout(b.present)
        counts[rows, hidden] += 1
    eligible = b.present & (b.present.sum(1, keepdim=True) >= 2)
    want = eligible / eligible.sum(1, keepdim=True).clamp(min=1)
    assert (counts / 3000 - want).abs().max() < 0.05
    assert counts[~eligible].sum() == 0


def test_reconstruction_target_gets_no_gradient_from_its_own_error() -> None:
    m, b = model(), batch(40)
    e = m.encode(b).detach().requires_grad_()
    rows, hidden = m._holdout(b.present)
    losses = m._reconstruction_losses(e, rows, hidden, torch.randn(len(rows), 16))
    assert losses["rec"].requires_grad  # the decoders learn
    (gradient,) = torch.autograd.grad(losses["rec"], e, allow_unused=True, retain_graph=True)
    assert gradient is None or gradient.abs().sum() == 0
    (gradient,) = torch.autograd.grad(losses["cont"], e)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("pattern_input", ["gate", "concat", "mask", "blind"])
@pytest.mark.parametrize("schedule", ["joint", "pretrain"])
def test_every_variant_by_configuration_alone(pattern_input: str, schedule: str) -> None:
    m, b = model(pattern_input=pattern_input, schedule=schedule).train(), batch(40)
    for phase in m.phases():
        m.loss_weights = phase.weights
        (objective,) = list(m.objectives(b, m))
        assert torch.isfinite(objective.total)
        wanted = {n for n, w in phase.weights.items() if w} | {"task"}
        assert set(objective.terms) == wanted
    if pattern_input in ("mask", "blind"):
        assert not any("pattern" in n or "gate" in n for n, _ in m.named_parameters())


def test_pretraining_ignores_labels() -> None:
    m, b = model(schedule="pretrain").train(), batch(40)
    m.loss_weights = m.phases()[0].weights
    (objective,) = list(m.objectives(b, m))
    objective.total.backward()
    assert m.head_hidden.weight.grad is None or m.head_hidden.weight.grad.abs().sum() == 0


def test_a_clean_bottleneck_decodes_every_pattern() -> None:
    m = model()
    patterns = torch.tensor([[(i >> k) & 1 for k in range(3)] for i in range(8)], dtype=torch.bool)
    optimizer = torch.optim.Adam([*m.pattern_encoder.parameters(), *m.pattern_decoder.parameters()], lr=1e-2)
    for _ in range(200):
        loss = F.binary_cross_entropy_with_logits(m.pattern_decoder(m.missingness(patterns)), patterns.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(m.pattern_decoder(m.missingness(patterns)) > 0, patterns)


def test_nothing_present_gives_the_null_vector() -> None:
    m, b = model().eval(), batch(40)
    h = m(b.drop(torch.zeros_like(b.present))).representation
    assert torch.equal(h, m.null.expand_as(h))


def blind() -> tuple[CRLMMNAR, PatientBatch]:
    m, b = model(pattern_input="blind").eval(), batch(60)
    m.begin_phase(m.phases()[0], b)
    return m, b


@torch.no_grad()
def test_a_blind_risk_is_the_mean_over_records_completed_by_training_patients() -> None:
    m, b = blind()
    holders = [b.present[:, k].nonzero().squeeze(1) for k in range(3)]
    e, logits, drawn = m.encode(b), torch.zeros(len(b), 2), set()
    for k in range(3):  # everybody who has it may be drawn
        assert len(torch.unique(m.donors[:, k], dim=0)) == len(torch.unique(e[holders[k], k], dim=0))
    for i in range(len(b)):
        for j in range(8):
            whole = e[[i]].clone()
            for k in range(3):
                if not b.present[i, k]:
                    number = ((int(b.rows[i]) * 8 + j) * 3 + k) * 2654435761 % 2**32 * 1024 // 2**32
                    drawn.add(number)
                    whole[0, k] = m.donors[number, k]
            h, z = m.fuse(whole, torch.ones(1, 3, dtype=torch.bool), whole)
            logits[[i]] += m.heads(h, z, b.pattern[[i]]) / 8
    assert len(drawn) > 100
    assert torch.allclose(m(b).logits, logits, atol=1e-5)
    for i in (0, 7, 40):
        assert torch.allclose(m(b.take(torch.tensor([i]))).logits, logits[[i]], atol=1e-5)


def test_in_training_others_stand_in_and_nobody_for_themselves() -> None:
    m, b = blind()
    e = torch.arange(len(b), dtype=torch.float)[:, None, None].expand(-1, 3, 16)
    for _ in range(20):
        given = m.of_others(e, b.present)
        source = given[..., 0].long()
        assert (given == source[..., None]).all()
        assert (source != torch.arange(len(b))[:, None]).all()
        assert all(b.present[source[:, k], k].all() for k in range(3))
    nobody = m.of_others(e, torch.zeros_like(b.present))
    assert (nobody == 0).all()


def test_where_only_the_pattern_tells_the_blind_model_tells_nothing_and_the_mask_does() -> None:
    scored = planted("pattern", 4000, seed=1)
    fitted_on, split, auroc = planted("pattern", 1200), Split(tune=0.2, test=0.0), {}
    assert scored.bayes is not None
    for how in ("mask", "blind"):
        words = (f"model.pattern_input={how}", "model.width=16", "train.batch_size=64", "train.lr=3e-3")
        recipe = estimator("crl-mmnar", *words, "train.max_epochs=12", "train.min_steps=0")
        predictor = recipe.fit(fitted_on.fold(split, "train"), fitted_on.fold(split, "tune"))
        assert recipe.card["keeps_patients"] == (how == "blind")
        risk = predictor.predict_proba(scored.fold(Split.external(), "test"))[:, 0]
        auroc[how] = roc_auc_score(np.random.default_rng(0).random(4000) < scored.bayes[:, 0], risk)
    assert auroc["mask"] > 0.7
    assert abs(auroc["blind"] - 0.5) < 0.04  # four standard errors of 4,000 patients


def test_blind_with_the_pattern_appended_is_refused() -> None:
    with pytest.raises(ConfigError, match="pattern_input=blind"):
        CRLMMNARConfig(pattern_input="blind", append_pattern=True)
