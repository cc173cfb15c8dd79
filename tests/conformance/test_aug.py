"""AUG's own invariants: who is given classifiers, what they learn, and that the logit is a mean over modalities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmnar.cohort.split import Split
from mmnar.config import TrainConfig
from mmnar.dataset.preprocess import Preprocessor
from mmnar.encoders.settings import ImageConfig, SeriesConfig
from mmnar.errors import ConfigError
from mmnar.models.aug import AUG, FREE, AUGConfig
from mmnar.models.late_fusion import LateFusion, LateFusionConfig
from mmnar.ops.losses import cross_entropy, masked_label_loss
from mmnar.training.loop import train
from mmnar.training.monitor import Silent
from mmnar.types import PatientBatch
from tests.conformance.redundant import HARD, REDUNDANT, by_the_hard_one_alone, fit
from tests.conformance.test_late_fusion import FILM, second_difference
from tests.conformance.test_models import batch, mixed
from tests.populations import MIXED, SCHEMA, paneled

LABS, UNIT = 1, 2


def model(owners: tuple[int, ...] = (), b: PatientBatch | None = None, **changes: object) -> AUG:
    """With as many blocks as owners, all of them learnt; of the static population unless a batch is given."""
    torch.manual_seed(0)
    settings = {"width": 16, "dropout": 0.0, "blocks": len(owners), **changes}
    m = AUG(SCHEMA if b is None else b.schema, AUGConfig(**settings)).eval()  # type: ignore[arg-type]
    m.owner.copy_(torch.tensor(owners))
    m.learnt.copy_(m.owner)
    return m


def has(b: PatientBatch, m: int) -> PatientBatch:
    return b.take(b.present[:, m].nonzero().squeeze(1))


@torch.no_grad()
def test_the_logit_by_hand() -> None:
    b, m = batch(), model((LABS, UNIT, LABS, FREE), alpha=(0.5, 0.0, 0.25), append_pattern=True)
    m.nothing.copy_(torch.tensor([-1.0, 2.0]))
    logits = m.double()(doubled(b)).logits
    blocks = {0: [], LABS: [0, 2], UNIT: [1]}
    for i, row in enumerate(logits):
        one, z = doubled(b.take(torch.tensor([i]))), torch.zeros(2).double()
        alphas = [a if p else 0.0 for a, p in zip((0.5, 0.0, 0.25), one.present[0], strict=True)]
        for j, (name, alpha) in enumerate(zip(one.modalities, alphas, strict=True)):
            h = torch.cat([m.encoders[j](one.modalities[name])[0], one.pattern[0].double()])
            for layer in (m.first[j], *(m.pool[k] for k in blocks[j])):
                z += alpha / max(sum(alphas), 1e-9) * m.out((layer.weight @ h + layer.bias).clamp(min=0))
        assert torch.allclose(row, z if sum(alphas) else m.nothing)


def doubled(b: PatientBatch) -> PatientBatch:
    contents = {n: replace(c, values=c.values.double()) for n, c in b.modalities.items()}  # type: ignore[type-var]
    return replace(b, modalities=contents, labels=b.labels.double(), checked=True)


@torch.no_grad()
def test_logits_of_a_pattern_are_sums_over_modalities() -> None:
    b = has(has(mixed(), FILM), 0)
    b = b.drop((torch.arange(len(MIXED.modalities)) % FILM == 0).expand_as(b.present))  # vitals and a film
    interaction, effect = second_difference(model((FILM, 0, FILM), b, image=ImageConfig("tiny")), b)
    assert effect.abs().max() > 0.02
    assert interaction.abs().max() < 1e-6


@pytest.mark.parametrize("residual", [0.0, 0.5, 1.0])
def test_gradients_of_the_boosting_loss_against_the_formula(residual: float) -> None:
    """Panels included; in float64."""
    fold = paneled(80).fold(Split(tune=0.1, test=0.1), "train")
    b = Preprocessor.fit(fold).transform(fold)
    m = model((LABS, LABS), b, residual=residual).double().train()
    m.task_loss = lambda z, part: masked_label_loss(
        z, part.labels, part.label_mask, torch.ones(7).double(), part.schema.exclusive
    )
    b = doubled(b)
    weights = [m.first[LABS].weight, m.pool[0].weight, m.pool[1].weight, m.out.weight]
    for turn, objective in enumerate(m.objectives(b, m)):
        if turn == LABS:
            got = torch.autograd.grad(objective.total, weights)
    theirs = has(b, LABS)
    f = m.out(m.classifiers(LABS, theirs))
    previous, y, asked = f[0] + f[1], theirs.labels, theirs.label_mask
    p = torch.cat([previous[:, :4].sigmoid(), previous[:, 4:].softmax(1)], 1).detach()
    told = torch.cat([(p * y + (1 - p) * (1 - y))[:, :4], (p * y)[:, 4:].sum(1, keepdim=True).expand(-1, 3)], 1)
    literal = torch.zeros(())
    for z, weight in ((f.sum(0), 1.0), (previous, 1.0), (f[2], 1 - residual * told)):
        ell = cross_entropy(z, y, b.schema.exclusive) * weight * asked
        literal = literal + (ell.sum(0) / asked.sum(0)).sum()
    for one, want in zip(got, torch.autograd.grad(literal, weights), strict=True):
        assert torch.allclose(one, want)
        assert want.abs().max() > 1e-3


def test_in_its_turn_a_modality_trains_its_encoder_its_blocks_and_what_all_share() -> None:
    b, m = batch(), model((LABS, UNIT, FREE)).train()
    for turn, objective in enumerate(m.objectives(b, m)):
        m.zero_grad()
        objective.total.backward()
        trained = {n.rsplit(".", 1)[0] for n, p in m.named_parameters() if p.grad is not None}
        theirs = {f"encoders.{turn}", f"first.{turn}", *({f"pool.{turn - 1}"} if turn else ())}
        assert {".".join(n.split(".")[:2]) for n in trained - {"nothing", "out"}} == theirs
        assert "out" in trained
        assert (float(objective.terms["added"]) > 0) == (turn > 0)
    assert m.turn is None


def test_labels_of_who_lacks_a_modality_train_nothing_of_it() -> None:
    b, m = batch(200), model((LABS,)).train()
    flipped = replace(b, labels=torch.where(b.present[:, [LABS]], b.labels, 1 - b.labels * 1.0) * b.label_mask)
    of_labs = []
    for part in (b, flipped):
        for turn, objective in enumerate(m.objectives(part, m)):
            if turn == LABS:
                of_labs.append(torch.autograd.grad(objective.total, m.out.weight)[0])
    assert torch.equal(*of_labs)


@pytest.mark.parametrize(
    ("told", "given"),
    [
        ([[9.0, 5.1], [5.0, 9.0]], [1]),  # R = 1.02 > 1 + δ: the second
        ([[9.0, 5.0], [5.1, 9.0]], [0]),
        ([[9.0, 5.04], [5.0, 9.0]], []),  # between them
        ([[9.0, 0.0], [0.0, 9.0]], []),  # nobody has both
        ([[9.0, 4.0, 3.0], [2.0, 9.0, 6.0], [2.0, 5.0, 9.0]], [1, 2]),  # 2, 1.5, as 6 > 5; the first is surest
    ],
)
def test_who_is_weaker(told: list[list[float]], given: list[int]) -> None:
    assert model(margin=0.01).weaker(torch.tensor(told)).tolist() == given


@torch.no_grad()
def test_two_are_compared_on_the_same_patients() -> None:
    b, m = batch(120), model((LABS,))
    told = m.confidences(b)
    both = has(has(b, LABS), UNIT)
    p = m.alone(UNIT, both).sigmoid()
    right = torch.where(both.labels > 0, p, 1 - p) * both.label_mask
    want = right.sum(1) / both.label_mask.sum(1).clamp(min=1)
    assert torch.allclose(told[UNIT, LABS], want.sum())


@torch.no_grad()
def test_classifiers_are_given_at_the_right_epochs_until_the_pool_is_empty() -> None:
    b, m = batch(), model(FREE_POOL := (FREE,) * 6, every=2)
    m.weaker = lambda told: torch.tensor([UNIT, LABS])  # type: ignore[method-assign]
    counts = []
    for _ in range(7):
        m.after_epoch(b)
        counts.append(int((m.owner != FREE).sum()))
    assert counts == [2, 4, 4, 6, 6, 6, 6]
    assert m.owner.tolist() == [UNIT, LABS] * (len(FREE_POOL) // 2)


@torch.no_grad()
def test_a_new_classifier_predicts_when_it_has_learnt_for_an_epoch() -> None:
    b, m = batch(), model((FREE, FREE), every=9)
    m.weaker = lambda told: torch.tensor([LABS])  # type: ignore[method-assign]
    before = m(b).logits
    m.after_epoch(b)
    assert m.owner.tolist() == [LABS, FREE]
    assert torch.equal(m(b).logits, before)
    m.after_epoch(b)
    assert not torch.equal(m(b).logits, before)


def test_added_classifiers_learn_others_stay_and_a_saved_model_has_both() -> None:
    b, m = batch(), model((FREE,) * 6, every=1)
    start, counts, moved = [block.weight.detach().clone() for block in m.pool], [], []

    class Watch(Silent):
        def epoch(self, record: dict[str, object]) -> None:
            counts.append([int((of != FREE).sum()) for of in (m.owner, m.learnt)])
            moved.append([not torch.equal(block.weight, w) for block, w in zip(m.pool, start, strict=True)])

    train(m, b, b, TrainConfig(min_steps=0, max_epochs=2, batch_size=32, patience=9, lr=1e-3), 0, Watch())
    (given, _), (more, learnt) = counts
    assert 0 < given == learnt < more <= 6
    assert moved == [[False] * 6, [True] * given + [False] * (6 - given)]
    m.learnt.copy_(torch.tensor([LABS, UNIT, LABS, FREE, FREE, FREE]))
    other = model((FREE,) * 6)
    assert not torch.equal(other(b).logits, m(b).logits)
    other.load_state_dict(m.state_dict())
    assert torch.equal(other(b).logits, m(b).logits)


@torch.no_grad()
def test_a_weight_of_one_is_that_modality_alone() -> None:
    b, m = batch(), model((0, LABS), alpha=(1.0, 0.0, 0.0))
    m.nothing.fill_(3.0)
    logits, alone = m(b).logits, m.alone(0, b)
    assert torch.allclose(logits, alone, atol=1e-6)
    assert (logits[~b.present[:, 0]] == 3).all()


@pytest.mark.parametrize("seed", [5, 6])
def test_it_learns_from_a_modality_that_late_fusion_neglects(seed: int) -> None:
    """Over ten seeds .98 to 1, without added classifiers .91 to 1; late fusion .62 to .79."""
    torch.manual_seed(seed)
    plain = by_the_hard_one_alone(fit(LateFusion(REDUNDANT, LateFusionConfig(width=32, dropout=0.0)), 8, seed), seed)
    found = []
    for blocks in (0, 12):
        torch.manual_seed(seed)
        m = fit(AUG(REDUNDANT, AUGConfig(width=32, dropout=0.0, blocks=blocks)), 8, seed)
        found.append(by_the_hard_one_alone(m, seed))
    assert found[0] > plain + 0.05
    assert found[1] > found[0] + 0.01
    assert set(m.learnt.tolist()) == {HARD, FREE}


@pytest.mark.parametrize(
    "change",
    [
        {"width": 24},
        {"dropout": 0.4},
        {"append_pattern": True},
        {"blocks": 1},
        {"residual": 0.2},
        {"image": ImageConfig("tiny", augment="none")},
        {"series": SeriesConfig("lstm")},
    ],
    ids=str,
)
def test_every_setting_of_training_changes_the_loss(change: dict[str, object]) -> None:
    b, gradients = mixed(), []
    for settings in ({}, change):
        torch.manual_seed(0)
        m = AUG(MIXED, AUGConfig(**{"width": 16, "blocks": 2, "image": ImageConfig("tiny")} | settings))  # type: ignore[arg-type]
        m.owner.copy_(torch.tensor([FILM, FILM])[: len(m.owner)])
        torch.manual_seed(1)
        for objective in m.objectives(b, m):
            objective.total.backward()
        gradients.append(m.out.weight.grad)
    first, second = gradients
    assert first is not None
    assert second is not None
    assert first.shape != second.shape or not torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [("blocks", -1), ("every", 0), ("margin", -0.1), ("residual", 1.5), ("alpha", (-1.0, 2.0)), ("alpha", (0.0, 0.0))],
)
def test_wrong_numbers_are_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"model.{key}"):
        AUGConfig(**{key: value})  # type: ignore[arg-type]


def test_weights_of_other_modalities_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 weights, got 2"):
        model(alpha=(0.5, 0.5))
