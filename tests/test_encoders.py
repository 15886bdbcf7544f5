"""Encoders compute what their definitions say, however they are laid out for speed."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lewm_hf import spatial_softmax
from lewm_hf.encoder_spatial_softmax import SpatialSoftmaxEncoder
from lewm_hf.modeling_lewm import LeWMPatchEmbedding, LeWMVisionTransformer


def test_patch_embedding_is_a_convolution_with_its_gradients():
    torch.manual_seed(0)
    embedding, pixels = LeWMPatchEmbedding(3, 10, 4), torch.randn(5, 3, 12, 8)
    weight, bias = (p.detach().clone().requires_grad_() for p in (embedding.weight, embedding.bias))
    wanted = F.conv2d(pixels, weight, bias, stride=4)
    got, grad = embedding(pixels), torch.randn(wanted.shape)
    wanted.backward(grad)
    got.backward(grad)
    assert got.shape == (5, 10, 3, 2)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(embedding.weight.grad, weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embedding.bias.grad, bias.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [None, 12])
def test_feature_points_are_the_means_of_a_softmax_over_places(rows):
    torch.manual_seed(0)
    encoder = SpatialSoftmaxEncoder(16, convolutions=((6, 3, 2), (8, 3, 2)), maps=5, rows=rows)
    encoder.log_temperature.data = torch.linspace(
        0, 4, 5
    )  # flat to so sharp that a sum of plain exponentials overflows
    pixels = 20 * torch.randn(3, 3, 16, 16)
    got = encoder(pixels)
    height = (rows or 16) // 4
    logits = encoder.to_maps(encoder.layers(pixels[:, :, : rows or 16])).double()
    assert logits.shape == (3, 5, height, 4)
    for picture in range(3):
        for number in range(5):
            scaled = logits[picture, number] * math.exp(encoder.log_temperature[number])
            weights = scaled.flatten().softmax(0).view(height, 4)
            x = sum(weights[:, column].sum() * (-1 + 2 * column / 3) for column in range(4))
            y = sum(weights[row].sum() * (-1 + 2 * row / (height - 1)) for row in range(height))
            level = scaled.flatten().logsumexp(0) - math.log(height * 4)
            for entry, wanted in zip((number, 5 + number, 10 + number), (x, y, level), strict=True):
                assert float(got[picture, entry]) == pytest.approx(float(wanted), rel=1e-4, abs=1e-4)
    got.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in encoder.parameters())


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(0, 7), size=st.integers(1, 9), maps=st.integers(1, 5), functions=st.integers(1, 4),
    portion=st.sampled_from([1, 64, 2**19]), dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    channels_last=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_weighted_sums_and_their_gradients_do_not_depend_on_portions(
    count, size, maps, functions, portion, dtype, channels_last, seed
):
    generator = torch.Generator().manual_seed(seed)
    logits = 9 * torch.randn((count, size, maps) if channels_last else (count, maps, size), generator=generator)
    logits = (logits if channels_last else logits.mT).to(dtype).requires_grad_()
    scale = torch.rand(maps, generator=generator).add(0.5).requires_grad_()
    places, errors = (
        torch.randn(*shape, generator=generator) for shape in ((functions, size), (count, functions, maps))
    )
    # All at once in float64, by autograd.
    wide = [x.detach().double().requires_grad_() for x in (logits, scale)]
    scaled = wide[0] * wide[1]
    top = scaled.detach().amax(1)
    expected = places.double() @ (scaled - top[:, None]).exp()
    expected.backward(errors.double())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spatial_softmax, "PORTION_BYTES", portion)
        sums, largest = spatial_softmax.weighted_sums(logits, scale, places)
        sums.backward(errors)
    assert sums.dtype == torch.float32 and not largest.requires_grad and logits.grad.dtype == dtype
    torch.testing.assert_close(sums.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(largest.double(), top, atol=1e-5, rtol=1e-5)
    loose = 1e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(logits.grad.double(), wide[0].grad, atol=loose, rtol=loose)
    torch.testing.assert_close(scale.grad.double(), wide[1].grad, atol=1e-4, rtol=1e-4)


def test_the_last_layer_computes_one_token_unless_somebody_looks(tiny_config):
    torch.manual_seed(0)
    encoder = LeWMVisionTransformer(tiny_config).double()
    tiny_config._attn_implementation = "eager"  # whose operations are counted
    pixels, seen = torch.randn(4, 3, tiny_config.image_size, tiny_config.image_size).double(), []
    direction = torch.randn(4, encoder.output_size)

    def run():
        encoder.zero_grad()
        with FlopCounterMode(display=False) as counter:
            features = encoder(pixels)
        (features * direction).sum().backward()
        return counter.get_total_flops(), [features.detach(), *(p.grad.clone() for p in encoder.parameters())]

    few, alone = run()
    hook = encoder.layers[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    many, together = run()
    hook.remove()
    assert run()[0] == few
    torch.testing.assert_close(alone, together)

    tokens, width = encoder.position_embedding.shape[1:]
    assert seen[0].shape == (4, tokens, width)
    # The others are spared query, output and MLP; scores and their products with values have one row of queries each.
    others = (tokens - 1) * (2 * width**2 + 2 * width * tiny_config.encoder_mlp_size + 2 * tokens * width)
    assert many - few == 2 * 4 * others
