import pytest
import torch
from transformers import Dinov2Config, Dinov2Model


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory):
    """A DINOv2 of the published architecture in every respect but size, with random weights, as its Hub repo has it."""
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(4)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).eval().save_pretrained(folder)
    return folder
