"""Plans of actions that are choices: never a mixture, and as good as the best of all sequences."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf import CEM, LeWMConfig, LeWMImageProcessor, LeWMPlanner, PlanSettings, plan
from lewm_hf.action_blocks import block_bounds, from_blocks, to_blocks
from lewm_hf.action_choices import chosen_values
from lewm_hf.planning.solvers import ICEM, MPPI, Gradient, Hybrid, RandomShooting

CONFIG = LeWMConfig(
    action_dim=5, frameskip=2, action_choices=[3, 2], action_mean=[0.5, 0.3, 0.2, 0.9, 0.1],
    action_std=[0.5, 0.45, 0.4, 0.3, 0.3],
)  # fmt: skip


class Walk:
    """A latent world on a plane: the first choice steps left, stays or right, the second doubles the step or not."""

    training, device = False, torch.device("cpu")
    config = CONFIG

    def rollout(self, context, candidates, executed=None):
        raw = from_blocks(candidates, self.config)
        mixed = (to_blocks(raw, self.config) - candidates).abs().max()
        assert mixed < 1e-4, "the model was shown a mixture of choices"
        moves = torch.stack([raw[..., 2] - raw[..., 0], raw[..., 4]], -1)
        steps = (moves[..., :1] * (1 + raw[..., 4:])).unflatten(-2, (-1, 2)).sum(-2)
        return context[:, None, -1:, :] + steps.cumsum(-2) * torch.tensor([1.0, 0.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=10, max_size=10))
def test_a_block_moves_to_the_highest_score_of_every_choice(scores):
    blocks = torch.tensor(scores)
    projected = block_bounds(CONFIG)(blocks)
    raw = np.array(scores).reshape(2, 5) * CONFIG.action_std + CONFIG.action_mean
    for action, scored in zip(from_blocks(projected[None], CONFIG).numpy(), raw, strict=True):
        assert set(action) <= {0.0, 1.0} and action[:3].sum() == action[3:].sum() == 1
        assert scored[action[:3].argmax()] >= scored[:3].max() - 1e-5
        assert scored[3 + action[3:].argmax()] >= scored[3:].max() - 1e-5


def test_values_that_were_never_chosen_are_not_planned():
    config = replace(CONFIG, action_mean=[0.5, 0.5, 0.0, 1.0, 0.0], action_std=[0.5, 0.5, 0.0, 0.0, 0.0])
    high = torch.full((7, 10), 9.0)
    chosen = chosen_values(from_blocks(block_bounds(config)(high)[:, None], config), config.action_choices)
    assert set(chosen[..., 0].unique().tolist()) <= {0, 1} and (chosen[..., 1] == 0).all()


@pytest.mark.parametrize("solver", [CEM(), ICEM(), MPPI(), RandomShooting()], ids=lambda solver: type(solver).__name__)
def test_every_sampling_solver_finds_the_best_sequence(solver):
    """Against all of them, one by one."""
    goals = torch.tensor([[5.0, 0.0], [-3.0, 0.0], [0.0, 0.0]])
    found = plan(Walk(), torch.zeros(3, 1, 2), goals, PlanSettings(solver=solver, horizon=2))
    reach = [sum(move) for move in itertools.product((-2, -1, 0, 1, 2), repeat=4)]
    for goal, actions, cost in zip(goals[:, 0], found.actions, found.costs, strict=True):
        assert set(actions.unique().tolist()) <= {0.0, 1.0}
        assert (actions[:, :3].sum(1) == 1).all() and (actions[:, 3:].sum(1) == 1).all()
        assert float(cost) == pytest.approx(min((place - float(goal)) ** 2 for place in reach), abs=1e-6)
    assert set(found.elites.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("solver", [Gradient(), Hybrid()], ids=lambda solver: type(solver).__name__)
def test_a_solver_that_follows_gradients_is_refused(solver):
    with pytest.raises(ValueError, match="actions of this checkpoint are choices: use cem"):
        plan(Walk(), torch.zeros(1, 1, 2), torch.zeros(1, 2), PlanSettings(solver=solver, horizon=2))


def test_the_planner_names_the_values_to_choose(tiny_config, tiny_model):
    tiny_model.config.action_choices = [2]
    planner = LeWMPlanner(tiny_model, LeWMImageProcessor(image_size=28), samples=8, iterations=2, elites=3)
    picture = np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    found = planner({"observation": picture, "goal": picture[::-1].copy()})
    assert found["choices"].shape == (25, 1) and found["choices"].dtype == np.int64
    np.testing.assert_array_equal(np.eye(2)[found["choices"][:, 0]], found["actions"])


def test_choices_that_do_not_add_up_are_refused():
    for choices in ([3, 3], [5, 0], []):
        with pytest.raises(Exception, match="action_choices=.* add up to action_dim=5"):
            LeWMConfig(action_dim=5, action_choices=choices)
