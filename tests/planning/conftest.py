import pytest
import torch


@pytest.fixture
def tiny_model(tiny_model):
    """The tiny model with actions that matter: freshly initialized, they hardly move a prediction."""
    with torch.no_grad():
        for linear in (tiny_model.action_encoder.bottleneck, tiny_model.action_encoder.fc1):
            linear.weight.mul_(3)
        for layer in tiny_model.predictor.layers:
            layer.modulation.weight.mul_(2)
    return tiny_model
