"""Plans stay within the action bounds, in environment units."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lewm_hf import LeWMConfig
from lewm_hf.action_blocks import block_bounds, from_blocks
from lewm_hf.planning import CEM, PlanSettings, plan

from .worlds import LinearWorld, linear_config

SMALL = CEM(samples=60, iterations=8, elites=8)
FAR = torch.full((2, 4), 50.0)


def solve(clip_actions="candidates", bounds=None, **config):
    settings = PlanSettings(solver=SMALL, horizon=2, clip_actions=clip_actions)
    return plan(LinearWorld(**config), torch.zeros(2, 1, 4), FAR, settings, bounds=bounds)


def test_a_goal_out_of_reach_pulls_plans_to_the_bounds_and_no_further():
    free = solve(clip_actions="none", action_low=[-1.0, -0.5], action_high=[1.0, 0.25])
    assert free.actions.abs().max() > 1.5
    for output in (
        solve(action_low=[-1.0, -0.5], action_high=[1.0, 0.25]),
        solve(bounds=([-1.0, -0.5], [1.0, 0.25])),
        solve(bounds=([-9.0, -9.0], [9.0, 9.0]), action_low=[-1.0, -0.5], action_high=[1.0, 0.25]),  # the config counts
    ):
        for actions in (output.actions, output.elites):
            low, high = actions.flatten(0, -2).amin(0), actions.flatten(0, -2).amax(0)
            assert (low >= torch.tensor([-1.0, -0.5]) - 1e-5).all() and (high <= torch.tensor([1.0, 0.25]) + 1e-5).all()
        assert output.actions.abs().max() > 0.9
        # The plan that is returned was judged as it will be executed.
        world = LinearWorld()
        end = world.rollout(torch.zeros(2, 1, 4), output.blocks[:, None])[:, 0, -1]
        torch.testing.assert_close(output.costs, (end - FAR).square().sum(-1))


def test_by_default_the_search_looks_beyond_the_bounds_and_what_leaves_stays_within():
    bounds = {"action_low": [-1.0, -0.5], "action_high": [1.0, 0.25]}
    free, output = solve(clip_actions="none", **bounds), solve(clip_actions="executed", **bounds)
    assert torch.equal(free.blocks, output.blocks) and torch.equal(free.costs, output.costs)
    low, high = torch.tensor(bounds["action_low"]), torch.tensor(bounds["action_high"])
    torch.testing.assert_close(output.actions, free.actions.clamp(low, high))
    torch.testing.assert_close(output.elites, free.elites.clamp(low, high))
    assert PlanSettings().clip_actions == "executed"


def test_bounds_that_hold_nothing_back_change_nothing():
    free, wide = solve(clip_actions="none"), solve(bounds=([-99.0, -99.0], [99.0, 99.0]))
    assert torch.equal(free.actions, wide.actions)


@given(
    low=st.lists(st.floats(-5, 0), min_size=2, max_size=2), high=st.lists(st.floats(0, 5), min_size=2, max_size=2),
    frameskip=st.integers(1, 4),
)  # fmt: skip
def test_z_scored_bounds_are_the_raw_ones_of_every_step(low, high, frameskip):
    config = linear_config(frameskip=frameskip)
    for raw, block in zip((low, high), block_bounds(config, (low, high)), strict=True):
        np.testing.assert_allclose(from_blocks(block[None], config), np.tile(raw, (frameskip, 1)), atol=1e-5)


def test_no_bounds_are_known():
    assert block_bounds(linear_config()) is None
    assert block_bounds(linear_config(action_low=[0.0, 0.0], action_high=[1.0, 1.0]), clipped=False) is None


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (([-1.0], [1.0]), r"shape \(1,\) do not fit action_dim=2"),
        (([[-1.0, -1.0]], [[1.0, 1.0]]), "do not fit action_dim=2"),
        (([1.0, 1.0], [-1.0, 1.0]), "leave no action"),
        (([float("nan"), 0.0], [1.0, 1.0]), "leave no action"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        solve(bounds=bounds)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action_low": [0.0, 0.0]}, "go together"),
        ({"action_low": [0.0], "action_high": [1.0]}, "action_low has 1 entries, but action_dim=2"),
        ({"action_low": [0.0, 2.0], "action_high": [1.0, 1.0]}, "exceeds action_high"),
        ({"action_low": [0.0, 0.0], "action_high": [1.0, float("inf")]}, "must be finite"),
    ],
)
def test_a_config_holds_possible_bounds(fields, message):
    with pytest.raises(Exception, match=message):
        LeWMConfig(**fields)
    assert LeWMConfig(action_low=[-1.0, 0.0], action_high=[1.0, 0.0]).action_high == [1.0, 0.0]
