"""The actor by itself, and as the start of a search, in a linear world whose right answers are known."""

import gymnasium
import numpy as np
import pytest
import torch

from lewm_hf import LeWMConfig, LeWMImageProcessor, LeWMModel, LeWMPlanner
from lewm_hf.planning import (
    CEM,
    ActorPolicy,
    MPCPolicy,
    PlanSettings,
    load_planner,
    plan,
    problem_noise,
    propose,
    propose_around,
)
from lewm_hf.planning.world_model import for_search

from .worlds import LinearWorld, PointEnvs

SMALL = {"samples": 16, "elites": 4}


class ActingWorld(LinearWorld):
    """Its actor goes an equal part of the way each block; with features it sees the goal shifted by 1."""

    def __init__(self, **changes):
        super().__init__(has_actor=True, actor_max_blocks=5, **changes)
        self.acts = []

    def observe(self, pixel_values):
        latents = self.encode(pixel_values)
        return latents, latents * 10

    def act(self, embeddings, goal_embeddings, blocks_left, features=None, goal_features=None):
        self.acts.append((blocks_left.tolist(), features is not None))
        step = (goal_embeddings - embeddings) / blocks_left[:, None]
        if features is not None:
            torch.testing.assert_close(features, embeddings * 10)
            step = step + 1
        return step @ torch.linalg.pinv(self.matrix).T


def problems(count=3):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 1, 4, generator=generator), torch.randn(count, 4, generator=generator)


def test_a_proposal_is_the_actor_rolled_through_the_model():
    world = ActingWorld()
    context, goal = problems()
    left = torch.tensor([5, 2, 1])
    found = propose(world, context, goal, left, 4, None, 10 * context[:, 0], goal)
    inverse = torch.linalg.pinv(world.matrix)
    for row in range(3):
        state = context[row, 0]
        for step in range(4):
            way = (goal[row] - state) / max(1, int(left[row]) - step) + (step == 0)
            block = inverse @ way
            torch.testing.assert_close(found[row, step], block)
            state = state + world.matrix @ block
    assert [seen for _, seen in world.acts] == [True, False, False, False]
    assert [blocks for blocks, _ in world.acts] == [[5, 2, 1], [4, 1, 1], [3, 1, 1], [2, 1, 1]]
    with pytest.raises(ValueError, match="an actor goes to one goal"):
        propose(world, context, torch.stack([goal, goal], 1), left, 4)


@pytest.mark.parametrize(
    ("retry", "blocks", "expected"),
    [
        (None, 2, [2, 1, 1, 1, 1, 1]),
        (3, 2, [2, 1, 3, 2, 1, 3]),
        # Where nobody knows when the goal is due: as if it were overdue, or as far as the actor knows.
        (3, None, [3, 2, 1, 3, 2, 1]),
        (None, None, [5, 4, 3, 2, 1, 1]),
    ],
)
def test_an_overdue_goal_is_given_time_anew_where_asked_for(retry, blocks, expected):
    world = ActingWorld()
    policy, envs = ActorPolicy(world, LeWMImageProcessor(image_size=28), retry=retry), PointEnvs(1)
    steps_left = None if blocks is None else blocks * world.config.frameskip
    policy.reset([0], ["p"], PointEnvs.picture((1, 1))[None], steps_left=steps_left)
    for _ in range(len(expected) * world.config.frameskip):
        envs.step(policy.act(envs.render(np.flatnonzero(policy.wants_frame()))))
    assert [blocks for ([blocks], _) in world.acts] == expected


def test_the_proposal_starts_the_search_and_the_guard_keeps_it():
    context, goal = problems()
    world = ActingWorld()
    alone = [propose(world, context[row, None], goal[row, None], torch.tensor([3]), 3) for row in range(3)]
    start = torch.cat(alone)  # as in the planner, where no problem's bits depend on its batch
    still = {"horizon": 3, "proposal": "actor", "clip_actions": "none"}
    tiny = CEM(samples=4, iterations=1, elites=2, initial_std=1e-6)
    output = plan(world, context, goal, PlanSettings(solver=tiny, **still), blocks_left=3)
    torch.testing.assert_close(output.blocks, start, atol=1e-4, rtol=0)
    assert output.kept is None

    # The embedding actor is exact here: no search can lower its cost, and the guard keeps it to the last bit.
    wide = CEM(samples=64, iterations=3, elites=8, initial_std=0.5)
    output = plan(world, context, goal, PlanSettings(solver=wide, guard=0.3, **still), blocks_left=3)
    assert output.kept.all() and torch.equal(output.blocks, start)
    torch.testing.assert_close(output.costs, output.initial_costs)

    # The feature actor overshoots: the search is much better, and is followed.
    seen = {"features": 10 * context[:, 0], "goal_features": goal, "blocks_left": [1, 1, 1]}
    one = still | {"horizon": 1}
    output = plan(world, context, goal, PlanSettings(solver=wide, guard=0.3, **one), **seen)
    assert not output.kept.any() and (output.costs < 0.7 * output.initial_costs).all()
    greedy = plan(world, context, goal, PlanSettings(solver=wide, **one), **seen)
    assert torch.equal(greedy.blocks, output.blocks)
    # Never worse in predicted cost than the start, whatever the guard.
    for guard in (0.0, 0.5, 0.9, 2.0):
        guarded = plan(world, context, goal, PlanSettings(solver=wide, guard=guard, **one), **seen)
        assert (guarded.costs <= guarded.initial_costs).all()
        expected = guarded.initial_costs * (1 - guard) > greedy.costs
        assert (guarded.kept == ~expected).all()
        led = world.rollout(context, guarded.blocks[:, None])[:, 0]
        torch.testing.assert_close(guarded.predicted_embeddings, led)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_a_longer_proposal_goes_on_from_imagined_frames(tiny_config, frames):
    torch.manual_seed(0)
    model = LeWMModel(LeWMConfig(**{**tiny_config.to_dict(), "actor_weight": 1.0})).eval()
    for layer in model.predictor.layers:  # open gates: actions matter
        layer.modulation.weight.normal_(std=0.3)
    context, goal, executed = torch.randn(2, frames, 16), torch.randn(2, 16), torch.randn(2, frames - 1, 10)
    executed = executed if frames > 1 else None
    left = torch.tensor([6, 2])
    blocks, latent = [], context[:, -1]
    for step in range(6):  # all of it imagined anew for each block
        blocks.append(model.act(latent, goal, (left - step).clamp_min(1)))
        latent = model.rollout(context, torch.stack(blocks, 1)[:, None], executed)[:, 0, -1]
    for imaginer in (None, for_search(model, None, False)[0]):
        found = propose(model, context, goal, left, 6, executed, imaginer=imaginer)
        torch.testing.assert_close(found, torch.stack(blocks, 1), rtol=1e-4, atol=1e-5)


def followed(world, context, goal, left, noise):
    """One plan of an actor that is disturbed, and the latent it leads to, step by step."""
    latent, blocks = context[-1], []
    for step, disturbance in enumerate(noise):
        remaining = torch.tensor([max(1, left - step)])
        blocks.append(world.act(latent[None], goal[None], remaining)[0] + disturbance)
        latent = latent + world.matrix @ blocks[-1]
    return torch.stack(blocks), latent


@pytest.mark.parametrize("guard", [None, 0.2])
def test_the_cheapest_of_an_actors_disturbed_plans_is_kept(guard):
    context, goal = problems()
    world = ActingWorld()
    given = PlanSettings.of(
        solver="keep", horizon=3, proposal="actor", proposals=6, proposal_std=0.4, guard=guard, seed=5
    )
    output = plan(world, context, goal, given, problems=["a", "b", "c"], replans=2, blocks_left=5)
    assert world.seen == 3 * 3 * [(6, 1)]  # each step of each problem once, and nothing is judged again
    noise = 0.4 * problem_noise(5, ["a", "b", "c"], [2, 2, 2], [2**32 - 1], (6, 3, 4))[:, 0]
    noise[:, 0] = 0
    chosen = []
    for row in range(3):
        plans = [followed(world, context[row], goal[row], 5, some) for some in noise[row]]
        costs = [float((latent - goal[row]).square().sum()) for _, latent in plans]
        best = min(range(6), key=costs.__getitem__)
        chosen.append(best)
        if guard is not None:
            torch.testing.assert_close(output.initial_costs[row].item(), costs[0], rtol=1e-4, atol=1e-5)
            assert bool(output.kept[row]) == (costs[best] >= 0.8 * costs[0])
            best = 0 if output.kept[row] else best
        torch.testing.assert_close(output.blocks[row], plans[best][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.predicted_embeddings[row, -1], plans[best][1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.costs[row].item(), costs[best], rtol=1e-4, atol=1e-5)
        # Noise and plan belong to the problem.
        same = plan(world, context[row, None], goal[row, None], given, problems=["abc"[row]], replans=2, blocks_left=5)
        assert torch.equal(same.blocks[0], output.blocks[row])
    assert any(chosen)  # the actor is in no hurry: some disturbance brings it closer


def test_a_search_goes_on_from_the_cheapest_proposal_and_portions_change_nothing():
    context, goal = problems()
    world = ActingWorld()
    start = {"horizon": 3, "proposal": "actor", "proposals": 7, "proposal_std": 0.4}
    best = plan(world, context, goal, PlanSettings.of(solver="keep", **start), blocks_left=5)
    still = CEM(samples=4, iterations=1, elites=2, initial_std=1e-6)
    output = plan(world, context, goal, PlanSettings(solver=still, **start), blocks_left=5)
    torch.testing.assert_close(output.blocks, best.blocks, atol=1e-4, rtol=0)
    wide = CEM(samples=64, iterations=5, elites=8, initial_std=0.5)
    assert (plan(world, context, goal, PlanSettings(solver=wide, **start), blocks_left=5).costs < best.costs).all()
    limits = {"clip_actions": "candidates"}
    tight = ActingWorld(action_low=[-0.2, -0.2], action_high=[0.2, 0.2])
    settings = PlanSettings.of(solver="keep", **start, **limits)
    assert plan(tight, context, goal + 20, settings, blocks_left=5).actions.abs().max() <= 0.2 + 1e-5


@torch.no_grad()
def test_disturbed_plans_of_a_model_go_on_from_imagined_frames(tiny_config):
    torch.manual_seed(0)
    model = LeWMModel(LeWMConfig(**{**tiny_config.to_dict(), "actor_weight": 1.0})).eval()
    for layer in model.predictor.layers:  # open gates: actions matter
        layer.modulation.weight.normal_(std=0.3)
    context, goal, executed = torch.randn(2, 3, 16), torch.randn(2, 16), torch.randn(2, 2, 10)
    noise = torch.randn(2, 5, 4, 10)
    prepared, left = for_search(model, None, False)[0], torch.tensor([6, 2])
    for portion, imaginer in ((5, None), (2, None), (5, prepared), (2, prepared)):
        parts = [
            propose_around(model, context, goal, left, some, executed, imaginer=imaginer)
            for some in noise.split(portion, 1)
        ]
        plans, futures = (torch.cat(found, 1) for found in zip(*parts, strict=True))
        torch.testing.assert_close(futures, model.rollout(context, plans, executed), rtol=1e-4, atol=1e-5)
    for step in range(4):  # each block answers where the ones before it led
        latent = context[:, -1:].expand(-1, 5, -1) if step == 0 else futures[:, :, step - 1]
        left = (torch.tensor([6, 2]) - step).clamp_min(1).repeat_interleave(5)
        answer = model.act(latent.flatten(0, 1), goal.repeat_interleave(5, 0), left).unflatten(0, (2, 5))
        torch.testing.assert_close(plans[:, :, step], answer + noise[:, :, step], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proposals": 0, "proposal": "actor"}, "proposals=0 must be a whole number of at least 1"),
        ({"proposals": 4}, "proposals=4: nothing proposes a plan, set proposal too"),
        ({"proposals": 4, "proposal": "actor", "proposal_std": 0.0}, "proposal_std=0.0 must be positive and finite"),
        ({"solver": "keep", "samples": 4}, "samples is not a setting of solver 'keep'"),
    ],
)
def test_proposals_that_cannot_be_made_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PlanSettings.of(**settings)


def test_a_proposal_stays_within_the_bounds():
    context, goal = problems()
    world = ActingWorld(action_low=[-0.2, -0.2], action_high=[0.2, 0.2])
    settings = PlanSettings(
        solver=CEM(**SMALL, iterations=1), horizon=2, proposal="actor", guard=9.0, clip_actions="candidates"
    )
    output = plan(world, context, goal + 20, settings, blocks_left=2)
    assert output.kept.all() and output.actions.abs().max() <= 0.2 + 1e-5


def as_picture(state):
    return np.array([[[value, 0, 0] for value in state.tolist()]], dtype=np.float32)


def as_pixels(pictures, return_tensors):
    return {"pixel_values": torch.as_tensor(np.stack(pictures)).permute(0, 3, 1, 2)}


def test_the_actor_acts_once_per_block_until_the_goal_is_due():
    world = ActingWorld(latent=2)
    policy = ActorPolicy(world, as_pixels, num_envs=2, retry=None)
    states, goals = torch.tensor([[0.0, 1.0], [0.5, -1.0]]), torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    policy.reset([0, 1], ["a", "b"], np.stack([as_picture(goal) for goal in goals]), steps_left=[6, None])
    for step in range(14):
        assert policy.wants_frame().tolist() == [step % 2 == 0] * 2  # blocks of two steps
        frames = [as_picture(state) for state in states] if step % 2 == 0 else []
        actions = torch.as_tensor(policy.act(frames))
        if step == 0:
            first = actions
        if step % 2:
            raw = torch.cat([first, actions], 1).reshape(2, 2, 2)
            blocks = ((raw - torch.tensor([0.1, -0.2])) / torch.tensor([0.5, 0.6])).flatten(1)
            states = states + blocks @ world.matrix.T
        else:
            first = actions
    # Three blocks were told; five are the most that the actor knows, where nobody says.
    assert [blocks for blocks, _ in world.acts] == [[3, 5], [2, 4], [1, 3], [1, 2], [1, 1], [1, 1], [1, 1]]
    assert all(seen for _, seen in world.acts)
    assert policy.plans == 14 and world.seen == []  # nothing was imagined


def test_embeddings_as_goals_are_acted_on_without_features():
    world = ActingWorld(latent=2)
    policy = ActorPolicy(world, as_pixels)
    policy.reset([0], [0], goal_embeddings=torch.ones(1, 2), steps_left=6)
    policy.act([as_picture(torch.zeros(2))])
    assert world.acts == [([3], False)]


def test_embeddings_of_any_precision_are_goals_and_nothing_else(tiny_config):
    tiny_config.actor = True
    model, processor = LeWMModel(tiny_config).eval(), LeWMImageProcessor(image_size=28)
    goal, seen = torch.linspace(-1, 1, 16), np.zeros((1, 28, 28, 3), dtype=np.uint8)
    policy, made = ActorPolicy(model, processor), []
    for given in (goal[None], goal[None].double(), [goal], [goal[None]], [goal.tolist()]):
        policy.reset([0], [0], goal_embeddings=given)
        made.append(policy.act(seen))
    assert np.isfinite(made[0]).all() and all(np.array_equal(one, made[0]) for one in made)
    with pytest.raises(ValueError, match="goal_embeddings holds NaN"):
        policy.reset([0], [0], goal_embeddings=goal[None] * torch.nan)
    with pytest.raises(ValueError, match="goal_embeddings of type str is no latent"):
        policy.reset([0], [0], goal_embeddings=["goal.png"])
    both = ActorPolicy(model, processor, num_envs=2)
    both.reset([0, 1], [0, 1], goal_embeddings=[torch.stack([goal, goal]), torch.stack([goal, goal, goal])])
    with pytest.raises(ValueError, match="an actor goes to one goal"):
        both.act(np.repeat(seen, 2, 0))
    for retry in (0, "5"):
        with pytest.raises(ValueError, match=f"retry={retry!r} must be a whole number"):
            ActorPolicy(model, processor, retry=retry)


@pytest.mark.parametrize("bounds", [([-0.3, -0.1], [0.3, 0.1]), np.array([[-0.3, -0.1], [0.3, 0.1]])])
def test_actions_are_clipped_to_the_bounds(bounds):
    world = ActingWorld(latent=2)
    policy = ActorPolicy(world, as_pixels, action_bounds=bounds)
    policy.reset([0], [0], as_picture(torch.tensor([9.0, -9.0]))[None], steps_left=2)
    first = policy.act([as_picture(torch.zeros(2))])
    assert first[0].tolist() == pytest.approx([0.3, -0.1]) or np.abs(first[0]).tolist() == pytest.approx([0.3, 0.1])
    with pytest.raises(ValueError, match="action bounds of type Box are not two vectors"):
        ActorPolicy(world, as_pixels, action_bounds=gymnasium.spaces.Box(-1, 1, (2,)))


def test_guided_planning_in_environments():
    world = ActingWorld()
    policy = MPCPolicy(world, LeWMImageProcessor(image_size=28), load_planner("actor-guided", SMALL))
    policy.reset([0], [0], PointEnvs.picture((1, 1))[None], steps_left=6)
    envs = PointEnvs(1)
    for _ in range(8):
        envs.step(policy.act(envs.render(np.flatnonzero(policy.wants_frame()))))
    # Horizons 3, 2, 2 and, overdue, 5: each proposal counts down from what is left, the first block with features.
    assert [blocks[0] for blocks, _ in world.acts] == [3, 2, 1, 2, 1, 1, 1, 5, 4, 3, 2, 1]
    firsts = {0, 3, 5, 7}
    assert [seen for _, seen in world.acts] == [number in firsts for number in range(12)]


def test_checkpoints_without_an_actor_are_refused():
    world = LinearWorld()
    context, goal = problems()
    for refused in (
        lambda: plan(world, context, goal, PlanSettings(proposal="actor")),
        lambda: MPCPolicy(world, as_pixels, "actor-guided"),
        lambda: ActorPolicy(world, as_pixels),
    ):
        with pytest.raises(ValueError, match="needs a checkpoint with an actor") as error:
            refused()
        assert "\n" not in str(error.value)


def test_the_pipeline_of_a_checkpoint_with_an_actor(tiny_config):
    config = LeWMConfig(**tiny_config.to_dict() | {"actor": True, "actor_inputs": "features"})
    model = LeWMModel(config).eval()
    planner = LeWMPlanner(model, LeWMImageProcessor(image_size=28), device="cpu", proposal="actor", guard=9.0, **SMALL)
    pictures = [PointEnvs.picture((0, 0)), PointEnvs.picture((1, -1))]
    pixels = LeWMImageProcessor(image_size=28)(pictures)["pixel_values"]
    with torch.no_grad():
        latents, features = model.observe(pixels[:, None])
        expected = propose(
            model, latents[:1], latents[1:, 0], torch.tensor([3]), 3, None, features[:1, 0], features[1:, 0]
        )
    made = planner({"observation": pictures[0], "goal": pictures[1], "steps_left": 11})
    raw = expected.reshape(15, 2) * torch.tensor([0.5, 0.6]) + torch.tensor([0.1, -0.2])
    np.testing.assert_allclose(made["actions"], raw, atol=1e-5)
