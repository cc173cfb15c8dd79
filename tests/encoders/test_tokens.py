"""Raw tokens against the cells they are made of."""

from __future__ import annotations

import math

import pytest
import torch

from mmnar.encoders.tokens import RawTokens, fourier, time_place
from mmnar.errors import ConfigError
from mmnar.ops.grid import hourly
from mmnar.schema import ModalitySpec
from mmnar.types import Items, Series, Static
from tests.conformance.test_models import mixed
from tests.populations import MIXED

BANDS, MAX_FREQ = 3, 8.0


def tokens(name: str, patch: int = 4, **changes: object) -> RawTokens:
    spec = next(m for m in MIXED.modalities if m.name == name)
    settings = {"bands": BANDS, "max_freq": MAX_FREQ, "hours": 12.0, "step": 2.0, "patch": patch, "augment": "none"}
    return RawTokens(spec, **settings | changes)  # type: ignore[arg-type]


def by_hand(*places: float) -> list[float]:
    out = []
    for p in places:
        frequencies = [1 + k * (MAX_FREQ / 2 - 1) / (BANDS - 1) for k in range(BANDS)]
        out += [math.sin(math.pi * f * p) for f in frequencies]
        out += [math.cos(math.pi * f * p) for f in frequencies]
        out.append(p)
    return out


def test_positions_by_hand() -> None:
    places = torch.tensor([[-1.0, 0.25], [0.5, 1.0], [0.0, -0.3]], dtype=torch.float64)
    got = fourier(places, BANDS, MAX_FREQ)
    assert got.shape == (3, 2 * (2 * BANDS + 1))
    want = torch.tensor([by_hand(*row) for row in places.tolist()], dtype=torch.float64)
    torch.testing.assert_close(got, want)


def test_time_runs_from_minus_one_to_one_and_falls_slowly_before() -> None:
    hours = torch.tensor([0.0, -3.0, -12.0, -12.0 * math.e, -1e6])
    torch.testing.assert_close(time_place(hours, 12.0)[:4], torch.tensor([1.0, 0.5, -1.0, -2.0]))
    assert -15 < time_place(hours, 12.0)[4] < -10


@pytest.mark.parametrize("patch", [1, 4])
def test_a_film_is_its_pixels_and_their_two_places(patch: int) -> None:
    b = mixed()
    content = b.modalities["film"].take(b.present[:, -1].nonzero().squeeze(1))
    assert isinstance(content, Items)
    t, side = tokens("film", patch), 32 // patch
    x, there = t(content)
    assert x.shape == (len(content), side**2, t.channels)
    assert (there, t.channels, t.count(content)) == (None, patch**2 + 2 * (2 * BANDS + 1), side**2)
    for i, down, right in ((0, 0, 0), (3, 2, 5), (1, side - 1, 0), (2, side - 1, side - 1)):
        token = x[i, down * side + right]
        square = content.values[i, down * patch : (down + 1) * patch, right * patch : (right + 1) * patch]
        torch.testing.assert_close(token[: patch**2], (4 * square.float() / 255 - 2).flatten())
        places = [2 * place / (side - 1) - 1 for place in (down, right)]
        torch.testing.assert_close(token[patch**2 :], torch.tensor(by_hand(*places)), rtol=0, atol=1e-5)


def test_a_series_is_its_steps_and_their_times() -> None:
    content, t = mixed().modalities["course"], tokens("course")
    assert isinstance(content, Series)
    x, there = t(content)
    values, seen = hourly(content, 3, 6, 2.0)
    assert (there, t.channels, t.count(content)) == (None, 6 + 2 * BANDS + 1, 6)
    assert torch.equal(x[..., :3], values)
    assert torch.equal(x[..., 3:6], seen.float())
    assert bool(seen.any())
    for k in range(6):
        torch.testing.assert_close(x[5, k, 6:], torch.tensor(by_hand(1 - (5 - k) / 3)), rtol=0, atol=1e-5)


def test_a_vector_is_itself_and_its_time_and_the_rest_is_nobodys() -> None:
    content, t = mixed().modalities["note"], tokens("note")
    assert isinstance(content, Items)
    x, there = t(content)
    assert there is not None
    assert there.sum(1).tolist() == content.counts.tolist()
    assert t.count(content) == 2 == x.shape[1]
    for e, i in enumerate(content.patient.tolist()):
        place = e - int(content.offsets[i])
        assert torch.equal(x[i, place, :12], content.values[e])
        when = time_place(content.hours[e], 12.0).item()
        torch.testing.assert_close(x[i, place, 12:], torch.tensor(by_hand(when)), rtol=0, atol=1e-4)


def test_a_static_feature_is_its_number_or_its_category() -> None:
    content, t = mixed().modalities["unit"], tokens("unit")  # a category of three, a number
    assert isinstance(content, Static)
    x, there = t(content)
    assert (there, t.channels, t.count(content)) == (None, 1 + 3 + 1 + 2 * BANDS + 1, 2)
    seen = content.observed
    assert bool((~seen).any(0).all())
    kind = torch.nn.functional.one_hot(content.values[:, 0].long(), 3) * seen[:, :1]
    assert torch.equal(x[:, 0, :5], torch.cat([torch.zeros(len(x), 1), kind, seen[:, :1]], 1).float())
    beds = torch.cat([content.values[:, 1:], torch.zeros(len(x), 3), seen[:, 1:]], 1).float()
    assert torch.equal(x[:, 1, :5], beds)
    torch.testing.assert_close(x[0, :, 5:], torch.tensor([by_hand(-1), by_hand(1)]), rtol=0, atol=1e-5)


def test_training_changes_films_and_prediction_none() -> None:
    b, t = mixed(), tokens("film", augment="slight")
    content = b.modalities["film"].take(b.present[:, -1].nonzero().squeeze(1))
    assert not torch.equal(t.train()(content)[0], t.eval()(content)[0])
    assert torch.equal(t.eval()(content)[0], tokens("film")(content)[0])


def test_squares_must_fill_the_film() -> None:
    with pytest.raises(ConfigError, match="a divisor of the side of the images"):
        tokens("film", 5)
    assert RawTokens(ModalitySpec("x", kind="image", shape=(40, 40)), 1, 2.0, 1.0, 1.0, 5, "none").channels == 31
