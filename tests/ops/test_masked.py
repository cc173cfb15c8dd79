"""The fusion layer against PyTorch's own transformer layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmnar.ops.masked import FusionLayer


def of_torch(layer: FusionLayer, width: int) -> nn.TransformerEncoderLayer:
    """PyTorch's pre-norm layer with the same weights."""
    twin = nn.TransformerEncoderLayer(
        width, layer.heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    up, down = layer.feed[0], layer.feed[2]
    pairs = (
        (twin.self_attn.out_proj, layer.out),
        (twin.norm1, layer.norm_attention),
        (twin.norm2, layer.norm_feed),
        (twin.linear1, up),
        (twin.linear2, down),
    )
    with torch.no_grad():
        twin.self_attn.in_proj_weight.copy_(layer.qkv.weight)
        twin.self_attn.in_proj_bias.copy_(layer.qkv.bias)
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
    return twin.double()


def test_present_tokens_and_gradients_are_those_of_pytorchs_layer() -> None:
    torch.manual_seed(0)
    layer = FusionLayer(16, 4, 0.0).double()
    twin = of_torch(layer, 16)
    keys = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    ours = torch.randn(3, 3, 16, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    out, expected = layer(ours, keys), twin(theirs, src_key_padding_mask=~keys)
    torch.testing.assert_close(out[keys], expected[keys])
    weight = torch.randn(3, 3, 16, dtype=torch.float64)
    (out * weight)[keys].sum().backward()
    (expected * weight)[keys].sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_absent_tokens_are_neither_read_nor_computed() -> None:
    torch.manual_seed(0)
    layer, keys = FusionLayer(8, 2, 0.0), torch.tensor([[True, False], [False, True]])
    tokens = torch.randn(2, 2, 8)
    poisoned = torch.where(keys[..., None], tokens, torch.nan)
    out = layer(poisoned, keys)
    assert torch.equal(out[~keys], torch.zeros(2, 8))
    torch.testing.assert_close(out, layer(tokens, keys))


@pytest.mark.parametrize("read", [slice(0, 1), slice(1, 3), slice(0, None, 2)])
def test_what_is_read_alone_is_what_it_is_among_all(read: slice) -> None:
    torch.manual_seed(0)
    layer = FusionLayer(8, 2, 0.0).double()
    keys = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    tokens = torch.randn(3, 3, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 3, 8, dtype=torch.float64)[:, read]
    (of_all,) = torch.autograd.grad((layer(tokens, keys)[:, read] * weight).sum(), tokens)
    (of_some,) = torch.autograd.grad((layer(tokens, keys, read) * weight).sum(), tokens)
    torch.testing.assert_close(layer(tokens, keys, read), layer(tokens, keys)[:, read])
    torch.testing.assert_close(of_some, of_all)
