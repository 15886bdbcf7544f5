"""The planner of the package plans with every world model, and says why it cannot with what imagines nothing."""

import numpy as np
import pytest
import torch

from lewm_hf import (
    DinoWMConfig,
    DinoWMModel,
    ImitationConfig,
    ImitationModel,
    LeWMImageProcessor,
    LeWMPlanner,
    PLDMConfig,
    PLDMModel,
)

from .sizes import LEWM, SIZES


def saved(model, folder):
    model.eval().save_pretrained(folder)
    LeWMImageProcessor(image_size=28).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["pldm", "original", "dino_wm"])
@torch.no_grad()
def test_a_plan_costs_what_the_model_says_of_its_end(name, tmp_path, dinov2_folder):
    """The returned actions, z-scored and rolled out once more, end as far from the goal as the plan says."""
    torch.manual_seed(0)
    model = {
        "pldm": lambda: PLDMModel(PLDMConfig(**LEWM)),
        "original": lambda: PLDMModel(PLDMConfig(objective="original", **LEWM)),
        "dino_wm": lambda: DinoWMModel(
            DinoWMConfig(
                backbone=str(dinov2_folder),
                num_patches=4,
                feature_size=24,
                predictor_layers=1,
                predictor_heads=1,
                predictor_head_dim=8,
                predictor_mlp_size=8,
                **SIZES,
            )  # fmt: skip
        ),
    }[name]()
    planner = LeWMPlanner.from_pretrained(saved(model, tmp_path), samples=8, iterations=2, elites=4, horizon=2)
    frames = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    plan = planner({"observation": frames[0], "goal": frames[1]})
    assert plan["actions"].shape == (10, 2)
    config = planner.model.config
    blocks = (torch.tensor(plan["actions"]) - torch.tensor(config.action_mean)) / torch.tensor(config.action_std)
    now, goal = planner.model.encode(planner.image_processor(frames).pixel_values[:, None])[:, 0]
    end = planner.model.rollout(now[None, None], blocks.float().view(1, 1, 2, 10))[0, 0, -1]
    assert plan["cost"] == pytest.approx((end - goal).square().sum().item(), rel=1e-3)


def test_imitation_is_no_planner(tmp_path):
    folder = saved(ImitationModel(ImitationConfig(**LEWM)), tmp_path)
    with pytest.raises(ValueError, match="planning asks what follows from actions, which ImitationModel does not"):
        LeWMPlanner.from_pretrained(folder)
