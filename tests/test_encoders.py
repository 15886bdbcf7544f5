"""Encoders compute what their definitions say, however they are laid out for speed."""

import math

import pytest
import torch
import torch.nn.functional as F

from lewm_hf.encoder_spatial_softmax import SpatialSoftmaxEncoder
from lewm_hf.modeling_lewm import LeWMPatchEmbedding


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
