"""Planning until the goal is due: what is looked at, how far is planned, what is executed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lewm_hf import LeWMImageProcessor
from lewm_hf.planning import MPCPolicy, load_planner
from lewm_hf.planning.horizon import blocks_until, horizon_until

from .worlds import LinearWorld, PointEnvs

SMALL = {"samples": 12, "iterations": 2, "elites": 4}


class ListeningWorld(LinearWorld):
    """Remembers how many frames each first roll-out of a plan started from, and how many blocks it had."""

    def __init__(self, **changes):
        super().__init__(**changes)
        self.asked = []

    def rollout(self, context, candidates, executed=None):
        if candidates.shape[1] > 1:
            between = None if executed is None else executed.shape[1]
            self.asked.append((context.shape[1], candidates.shape[2], between))
        return super().rollout(context, candidates, executed)


def play(world, steps, changes=None, **told):
    policy = MPCPolicy(world, LeWMImageProcessor(image_size=28), load_planner("goal-time", SMALL | (changes or {})))
    policy.reset([0], ["p"], PointEnvs.picture((1, 1))[None], **told)
    envs, planned = PointEnvs(1), []
    for step in range(steps):
        before = policy.plans
        envs.step(policy.act(envs.render(np.flatnonzero(policy.wants_frame()))))
        planned += [step] * (policy.plans - before)
    return planned, world.asked[:: SMALL["iterations"]]


def test_the_horizon_shrinks_until_the_goal_is_due_and_stays_at_the_floor():
    planned, asked = play(ListeningWorld(), 14, steps_left=8)  # blocks of two steps
    assert planned == [0, 2, 4, 6, 8, 10, 12]  # after every block
    assert [blocks for _, blocks, _ in asked] == [4, 3, 2, 2, 2, 2, 2]
    assert [frames for frames, _, _ in asked] == [1, 2, 3, 3, 3, 3, 3]
    assert [between for _, _, between in asked] == [None, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("steps_left", "changes", "blocks"),
    [
        (100, {}, [5, 5, 5]),
        (7, {"horizon_floor": 1}, [4, 3, 2, 1, 1]),  # the last block is cut by the deadline
        (0, {}, [2, 2]),
        (6, {"horizon_floor": 4}, [4, 4, 4]),
        (6, {"horizon": 2}, [2, 2, 2]),
        (None, {}, [5, 4, 3, 2, 2, 2]),  # nobody knows: as if due at the end of the longest horizon
        (None, {"horizon_rule": "fixed"}, [5, 5, 5]),
        (4, {"horizon_rule": "fixed"}, [5, 5, 5]),
        (6, {"retry": 4}, [3, 2, 2, 4, 3, 2, 2, 4, 3]),  # overdue: due again in four blocks, and again
        (0, {"retry": 3, "horizon_floor": 1}, [3, 2, 1, 3]),
        (5, {"retry": 3, "horizon_floor": 1}, [3, 2, 1, 3, 2, 1, 3]),  # a block that the deadline cut
        (None, {"retry": 3}, [3, 2, 2, 3, 2, 2, 3, 2]),  # nobody knows: as if overdue from the start
    ],
)
def test_how_far_each_plan_looks(steps_left, changes, blocks):
    _, asked = play(ListeningWorld(), 2 * len(blocks), changes, steps_left=steps_left)
    assert [found for _, found, _ in asked] == blocks


def test_a_horizon_shorter_than_the_blocks_to_execute():
    planned, asked = play(ListeningWorld(), 12, {"receding_horizon": 3}, steps_left=10)
    assert planned == [0, 6, 10] and [blocks for _, blocks, _ in asked] == [5, 2, 2]


def test_environments_keep_their_own_deadlines():
    world = ListeningWorld()
    processor, chosen = LeWMImageProcessor(image_size=28), load_planner("goal-time", SMALL)
    goals = np.stack([PointEnvs.picture((1, 1))] * 3)

    def paths(env_ids, due):
        policy, envs = MPCPolicy(world, processor, chosen, num_envs=3), PointEnvs(3)
        policy.reset(env_ids, env_ids, goals[: len(env_ids)], steps_left=due)
        actions = []
        for _ in range(12):
            actions.append(policy.act(envs.render(np.flatnonzero(policy.wants_frame()))))
            envs.step(actions[-1])
        return np.stack(actions)

    together = paths([0, 1, 2], [4, None, 10])
    for env_id, due in enumerate([4, None, 10]):
        np.testing.assert_array_equal(paths([env_id], [due])[:, env_id], together[:, env_id])
    np.testing.assert_array_equal(together[:, 1], together[:, 1])
    assert np.abs(together[:, 0] - paths([0], [10])[:, 0]).max() > 0  # the deadline matters


@given(steps=st.integers(0, 400), frameskip=st.integers(1, 10), longest=st.integers(1, 9), shortest=st.integers(1, 9))
def test_blocks_and_horizons_by_counting(steps, frameskip, longest, shortest):
    blocks = 0
    while blocks * frameskip < steps:
        blocks += 1
    assert blocks_until(steps, frameskip) == blocks
    horizon = horizon_until(blocks, longest, shortest)
    assert 1 <= horizon <= longest
    assert horizon in (blocks, longest, shortest)
    assert horizon >= min(shortest, longest) and (blocks < shortest or horizon <= blocks)
    assert blocks_until(steps - 1000, frameskip) == 0


@pytest.mark.parametrize("wrong", [-1, 2.5, True, "soon", [3, 4]])
def test_deadlines_that_are_none_are_refused(wrong):
    policy = MPCPolicy(ListeningWorld(), LeWMImageProcessor(image_size=28), load_planner("goal-time", SMALL))
    with pytest.raises(ValueError, match="steps_left|deadlines"):
        policy.reset([0], [0], PointEnvs.picture((1, 1))[None], steps_left=wrong)


def test_replanning_brings_back_what_was_pushed_aside():
    def as_picture(state):
        return np.array([[[value, 0, 0] for value in state.tolist()]], dtype=np.float32)

    def as_pixels(pictures, return_tensors):
        return {"pixel_values": torch.as_tensor(np.stack(pictures)).permute(0, 3, 1, 2)}

    def final_error(name):
        world = LinearWorld(latent=2, frameskip=1, action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
        policy = MPCPolicy(world, as_pixels, load_planner(name, {"horizon_floor": 1}))
        state, goal = torch.zeros(2), torch.tensor([1.0, -1.5])
        policy.reset([0], [0], as_picture(goal)[None], steps_left=5)
        for step in range(5):
            action = policy.act([as_picture(state)] if policy.wants_frame()[0] else [])[0]
            state = state + world.matrix @ torch.as_tensor(action)
            if step == 1:
                state = state + torch.tensor([0.8, 0.8])
        return (state - goal).norm().item()

    assert final_error("goal-time") < 0.05 and final_error("paper") > 1
