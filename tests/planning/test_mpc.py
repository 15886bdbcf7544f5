from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from lewm_hf import LeWMImageProcessor
from lewm_hf.action_blocks import to_blocks
from lewm_hf.planning import MPCPolicy, PlanSettings, encode_frames, goal_cost, load_planner, plan
from lewm_hf.planning import mpc as mpc_module
from lewm_hf.planning.solvers import Gradient, RandomShooting, Solution

from .worlds import NaiveWorld, PointEnvs

SETTINGS = PlanSettings.of(samples=12, iterations=2, elites=4, horizon=4, clip_actions="none")
STARTS = np.array([[0, 0], [1, -1], [-1, 1], [2, 0], [0, 2], [-2, -2], [1, 1]], dtype=float)
GOALS = np.roll(STARTS, 2, axis=0)
NAMES = ["p0", "p1", 2, 3, "p4", 5, 6]


def planner(**changes):
    """Whole plans of `SETTINGS` unless told otherwise."""
    small = {"samples": 12, "iterations": 2, "elites": 4, "horizon": 4, "receding_horizon": 4}
    return load_planner("paper", small | changes)


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


def goal_pictures(problems):
    return np.stack([PointEnvs.picture(GOALS[problem]) for problem in problems])


def run_all(model, processor, num_envs, steps=40, **keywords):
    """All seven problems, `num_envs` at a time, each for its own number of steps -> trajectories by problem."""
    policy = MPCPolicy(model, processor, planner(**keywords), num_envs=num_envs)
    envs, queue = PointEnvs(num_envs), list(range(len(STARTS)))
    working, trajectories = {}, {problem: [] for problem in queue}
    while queue or working:
        free = [env_id for env_id in range(num_envs) if env_id not in working][: len(queue)]
        if free:
            started = [queue.pop(0) for _ in free]
            envs.positions[free] = STARTS[started]
            policy.reset(free, [NAMES[problem] for problem in started], goal_pictures(started))
            working.update(zip(free, started, strict=True))
        actions = policy.act(envs.render(np.flatnonzero(policy.wants_frame())))
        assert np.isnan(actions).all(1).tolist() == [env_id not in working for env_id in range(num_envs)]
        envs.step(actions)
        for env_id, problem in list(working.items()):
            trajectories[problem].append(envs.positions[env_id].copy())
            if len(trajectories[problem]) == steps - 4 * problem:  # ends in the middle of others' plans
                policy.release([env_id])
                del working[env_id]
    return trajectories, policy.plans


@pytest.mark.parametrize("keywords", [{}, {"receding_horizon": 1}, {"receding_horizon": 3, "context_frames": 3}])
def test_outcomes_do_not_depend_on_the_number_of_environments(tiny_model, processor, keywords):
    expected, plans = run_all(tiny_model, processor, 1, **keywords)
    for num_envs in (3, 7):
        made, count = run_all(tiny_model, processor, num_envs, **keywords)
        assert count == plans
        for problem, trajectory in expected.items():
            np.testing.assert_array_equal(made[problem], trajectory)
    assert len({tuple(np.round(trajectory[-1], 6)) for trajectory in expected.values()}) == len(STARTS)


def test_executes_the_plan_of_the_planner(tiny_model, processor):
    policy = MPCPolicy(tiny_model, processor, planner(), num_envs=1)
    policy.reset([0], ["p0"], goal_pictures([0]))
    frame = PointEnvs.picture(STARTS[0])[None]
    actions = [policy.act(frame)]
    for _ in range(19):
        assert not policy.wants_frame().any()
        actions.append(policy.act())
    assert policy.wants_frame().tolist() == [True]
    context, goal = (
        encode_frames(tiny_model, processor(pictures)["pixel_values"]) for pictures in (frame, goal_pictures([0]))
    )
    expected = plan(tiny_model, context[None], goal, SETTINGS, problems=["p0"])
    np.testing.assert_array_equal(np.concatenate(actions), expected.actions[0])
    assert actions[0].dtype == np.float32


@pytest.mark.parametrize("bounds", [None, ([-0.05, -0.1], [0.1, 0.05])])
def test_predictor_sees_a_growing_window_with_the_executed_blocks(tiny_model, processor, bounds):
    world, clipped = NaiveWorld(tiny_model), {"clip_actions": "none" if bounds is None else "executed"}
    chosen = planner(receding_horizon=1, context_frames=3, **clipped)
    policy = MPCPolicy(world, processor, chosen, num_envs=1, action_bounds=bounds)
    policy.reset([0], [0], goal_pictures([0]))
    envs, frames, taken = PointEnvs(1), [], []
    for step in range(25):
        assert policy.wants_frame().tolist() == [step % 5 == 0]
        seen = envs.render([0]) if step % 5 == 0 else []
        frames += list(seen)
        taken.append(policy.act(seen)[0])
        envs.step(taken[-1][None])
    if bounds is not None:  # the search looked beyond what could be executed
        assert np.isclose(np.abs(taken).max(0), 0.1).all() and (np.array(taken) <= np.float32(bounds[1])).all()
    blocks = to_blocks(torch.tensor(np.array(taken)), tiny_model.config)
    latents = encode_frames(tiny_model, processor(np.stack(frames))["pixel_values"])
    calls = SETTINGS.solver.iterations + 1
    for replan in range(5):
        context, executed = world.rollouts[replan * calls]
        length = min(replan + 1, 3)
        torch.testing.assert_close(context[0], latents[replan + 1 - length : replan + 1])
        if length == 1:
            assert executed is None
        else:
            torch.testing.assert_close(executed[0], blocks[replan + 1 - length : replan])
        horizon = SETTINGS.horizon
        lengths = [len(window[0]) for window, _ in world.windows[replan * calls * horizon :][:horizon]]
        assert lengths == [min(length + step, 3) for step in range(horizon)]


def test_frames_between_plans_only_where_they_become_context(tiny_model, processor):
    policy = MPCPolicy(tiny_model, processor, planner(receding_horizon=4, context_frames=3), num_envs=1)
    policy.reset([0], [0], goal_pictures([0]))
    wanted = []
    for step in range(41):
        wanted += [step] if policy.wants_frame()[0] else []
        policy.act([PointEnvs.picture(STARTS[0])] if policy.wants_frame()[0] else [])
    assert wanted == [0, 10, 15, 20, 30, 35, 40]  # two blocks before each later plan


def test_each_picture_is_encoded_once_and_goals_once_per_episode(tiny_model, processor):
    world = NaiveWorld(tiny_model)
    policy = MPCPolicy(world, processor, planner(), num_envs=2)
    policy.reset([0, 1], [0, 1], goal_pictures([0, 1]))
    assert sum(world.encoded) == 2
    for _ in range(60):  # three plans of four blocks
        policy.act([PointEnvs.picture(STARTS[0])] * int(policy.wants_frame().sum()))
    assert policy.plans == 6 and sum(world.encoded) == 2 + 6
    assert len(world.rollouts) == 6 * (SETTINGS.solver.iterations + 1)


def test_what_is_left_of_a_plan_starts_the_next_search(tiny_model, processor, monkeypatch):
    calls = []

    def spy(*arguments, initial_plan, replans, **keywords):
        output = plan(*arguments, initial_plan=initial_plan, replans=replans, **keywords)
        calls.append((initial_plan, replans, output.blocks))
        return output

    monkeypatch.setattr(mpc_module, "plan", spy)
    policy = MPCPolicy(tiny_model, processor, planner(receding_horizon=3), num_envs=1)
    policy.reset([0], [0], goal_pictures([0]))
    for _ in range(31):
        policy.act([PointEnvs.picture(STARTS[0])] * int(policy.wants_frame().sum()))
    (first, *_), (second, replans, _), _ = calls
    assert not first.any() and replans == [1]
    assert torch.equal(second[:, :1], calls[0][2][:, 3:])
    assert not second[:, 1:].any()
    assert torch.equal(calls[2][0][:, :1], calls[1][2][:, 3:])


def test_reset_leaves_nothing_behind_and_touches_nobody_else(tiny_model, processor):
    def play(policy, envs, steps):
        path = []
        for _ in range(steps):
            actions = policy.act(envs.render(np.flatnonzero(policy.wants_frame())))
            envs.step(actions)
            path.append(actions)
        return np.array(path)

    chosen = planner(receding_horizon=2, context_frames=3)
    fresh, envs = MPCPolicy(tiny_model, processor, chosen, num_envs=2), PointEnvs(2)
    envs.positions[:] = STARTS[[3, 4]]
    fresh.reset([0, 1], [3, 4], goal_pictures([3, 4]))
    expected = play(fresh, envs, 40)

    used, envs = MPCPolicy(tiny_model, processor, chosen, num_envs=2), PointEnvs(2)
    envs.positions[:] = STARTS[[5, 4]]
    used.reset([0, 1], [5, 4], goal_pictures([5, 4]))
    before = play(used, envs, 13)  # in the middle of a block
    np.testing.assert_array_equal(before[:, 1], expected[:13, 1])
    envs.positions[0] = STARTS[3]
    used.reset([0], [3], goal_pictures([3]))
    after = play(used, envs, 27)
    np.testing.assert_array_equal(after[:, 0], expected[:27, 0])
    np.testing.assert_array_equal(after[:, 1], expected[13:, 1])


def test_goals_may_be_embeddings(tiny_model, processor):
    latents = encode_frames(tiny_model, processor(goal_pictures([0, 1]))["pixel_values"])
    made = []
    for keywords in ({"goals": goal_pictures([0, 1])}, {"goal_embeddings": latents},
                     {"goal_embeddings": torch.stack([latents, latents + 50], 1)}):  # fmt: skip
        policy = MPCPolicy(tiny_model, processor, planner(), num_envs=2)
        policy.reset([0, 1], [0, 1], **keywords)
        made.append(policy.act({0: PointEnvs.picture(STARTS[0]), 1: PointEnvs.picture(STARTS[1])}))
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])
    other = torch.stack([latents[1], latents[1] + 50])
    for given in (latents.double().numpy(), [*latents], latents.tolist(), [latents[0].numpy(), other]):
        policy.reset([0, 1], [0, 1], goal_embeddings=given)  # as files and other libraries hold them
        again = policy.act({0: PointEnvs.picture(STARTS[0]), 1: PointEnvs.picture(STARTS[1])})
        np.testing.assert_array_equal(made[0], again)


def test_planning_gets_nearer_to_the_goal_in_latent_space(tiny_model, processor):
    policy = MPCPolicy(tiny_model, processor, load_planner("paper", {"iterations": 10}), num_envs=1)
    policy.reset([0], [0], goal_pictures([0]))
    frame = PointEnvs.picture(STARTS[0])[None]
    blocks = to_blocks(
        torch.tensor(np.concatenate([policy.act(frame), *(policy.act() for _ in range(24))])), tiny_model.config
    )
    context, goal = (
        encode_frames(tiny_model, processor(pictures)["pixel_values"]) for pictures in (frame, goal_pictures([0]))
    )
    random = torch.randn(1, 500, 5, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        costs = goal_cost(tiny_model.rollout(context[None], torch.cat([blocks[None, None], random], 1)), goal)[0]
    assert costs[0] < costs[1:].min()


def test_bad_use_is_refused(tiny_model, processor):
    with pytest.raises(ValueError, match="num_envs=0"):
        MPCPolicy(tiny_model, processor, planner(), num_envs=0)
    with pytest.raises(ValueError, match="context_frames=4, but the model has history_size=3"):
        MPCPolicy(tiny_model, processor, planner(context_frames=4))
    with pytest.raises(ValueError, match="unknown planner 'fast'"):
        MPCPolicy(tiny_model, processor, "fast")
    with pytest.raises(ValueError, match="planner={'solver': 'cem'} is no name: use one of actor-guided"):
        MPCPolicy(tiny_model, processor, {"solver": "cem"})
    for num_envs in ("2", 2.0, True):
        with pytest.raises(ValueError, match=f"num_envs={num_envs!r} must be a whole number"):
            MPCPolicy(tiny_model, processor, planner(), num_envs=num_envs)
    with pytest.raises(ValueError, match="processor=None reads no pictures"):
        MPCPolicy(tiny_model, None, planner())
    with pytest.raises(ValueError, match="a str is no world model: give one, as AutoModel"):
        MPCPolicy("org/lewm", processor, planner())
    policy = MPCPolicy(tiny_model, processor, planner(), num_envs=2)
    goals = goal_pictures([0, 1])
    for arguments, message in [
        (([2], [0], goals[:1]), "environment 2 does not exist"),
        (([0, 0], [0, 1], goals), "repeat"),
        (([0, 1], [0], goals), "2 environments got 1 problems and 2 goals"),
        (([0], [0]), "either goals or goal_embeddings"),
        (([0], [0], ["goal.png"]), "cannot read an image of type str"),
        (([False, True], [0, 1], goals), "environment False does not exist: .* np.flatnonzero"),
        (([0.5], [0], goals[:1]), "environment 0.5 does not exist"),
        (("01", [0, 1], goals), "env_ids of type str must be a list"),
        (([0], 0, goals[:1]), "problems of type int must be a list"),
        (([0, 1], [0.1, 0.2], goals), "problem=0.1 must be a whole number or a name"),
        (([0], [0], Image.fromarray(goals[0])), "goals of type Image must be a list"),
        (([0], [0], [["near.png", "far.png"]]), "cannot read a picture of type str: give PIL, numpy or torch"),
    ]:
        with pytest.raises(ValueError, match=message):
            policy.reset(*arguments)
    policy.reset([0], [0], goals[:1])
    with pytest.raises(ValueError, match="2 frames came, but environments \\[0\\]"):
        policy.act(goals)
    with pytest.raises(ValueError, match="frames of type Image must be a list"):
        policy.act(Image.fromarray(goals[0]))
    with pytest.raises(ValueError, match="environments \\[1\\] came, \\[0\\] are needed"):
        policy.act({1: goals[0]})
    with pytest.raises(ValueError, match="cannot read a picture of type str: give PIL, numpy or torch"):
        policy.act(["now.png"])
    with pytest.raises(ValueError, match="the goal is 28x28 pixels, but the observation 56x28"):
        policy.act(np.zeros((1, 56, 28, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="training mode"):
        MPCPolicy(tiny_model.train(), processor, planner())


def first_plans(model, processor, counts="min", **given):
    """The first action of each problem, all from the same picture."""
    count = len(next(iter(given.values())))
    policy = MPCPolicy(model, processor, planner(), num_envs=count, goals=counts)
    policy.reset(range(count), NAMES[:count], **given)
    return policy.act(np.stack([PointEnvs.picture(STARTS[0])] * count))


def test_a_problem_may_have_several_goal_pictures(tiny_model, processor):
    """As many as each likes; the nearest counts, or their mean, planned for as the mean of their embeddings."""
    pictures = goal_pictures([1, 3, 5])
    several = [list(pictures), pictures[0], [pictures[1], pictures[2]]]
    latents = encode_frames(tiny_model, processor(list(pictures))["pixel_values"])
    for goals, embeddings in (("min", latents[None]), ("mean", latents.mean(0, keepdim=True))):
        found = first_plans(tiny_model, processor, goals, goals=several)
        expected = first_plans(tiny_model, processor, goals, goal_embeddings=embeddings)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    assert not np.allclose(found[0], first_plans(tiny_model, processor, goals=pictures[:1])[0], atol=1e-3)  # the mean
    stacked = first_plans(tiny_model, processor, goals=pictures[None])
    np.testing.assert_array_equal(stacked[0], first_plans(tiny_model, processor, goals=several)[0])
    for wrong, message in (
        ([[]], "a problem has no goal picture"),
        ([[pictures[0], pictures[1][:14, :14]]], "goal pictures of one problem are 28x28 and 14x14 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            first_plans(tiny_model, processor, goals=wrong)


class Descent:
    """Follows the slope of the objective without ever saying so."""

    samples, iterations = 1, 1

    def __call__(self, objective, mean, noise, bounds=None):
        with torch.enable_grad():
            plans = mean[:, None].detach().requires_grad_()
            (slope,) = torch.autograd.grad(objective(plans).sum(), plans)
        plans = plans.detach() - 0.1 * slope
        costs = objective(plans)
        return Solution(plans[:, 0], plans, costs, costs)


@pytest.mark.parametrize("solver, unrecorded", [(RandomShooting(samples=4), True), (Gradient(samples=2), False),
                                                (dataclass(frozen=True)(Descent)(), False)])  # fmt: skip
def test_only_solvers_that_ask_for_no_gradients_are_refused_them(tiny_model, processor, solver, unrecorded):
    world, modes = NaiveWorld(tiny_model), []
    encode = world.encode
    world.encode = lambda pixels: modes.append(torch.is_inference_mode_enabled()) or encode(pixels)
    policy = MPCPolicy(world, processor, replace(load_planner("paper"), solver=solver, horizon=2, receding_horizon=2))
    policy.reset([0], ["p"], goal_pictures([0]))
    assert np.isfinite(policy.act(PointEnvs(1).render([0]))).all()
    assert modes == [False, unrecorded]  # the goal's, which its owner may keep, and the frame's
