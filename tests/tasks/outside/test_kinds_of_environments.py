"""What an environment can do decides where goals come from, who tells success, and what is not comparable."""

import gymnasium
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lewm_hf import (
    LeWMConfig,
    LeWMImageProcessor,
    LeWMModel,
    collect,
    evaluate,
    load_episodes,
    make_env,
    probe,
    surprise,
)
from lewm_hf.data.collect.recording import record_all
from lewm_hf.evaluation.success.floors import RandomPolicy as RandomFloor
from lewm_hf.evaluation.success.manifest import sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.pictures import square
from lewm_hf.tasks.action_vectors import ActionVectors, draw_action
from lewm_hf.tasks.drawn_gymnasium import squared
from lewm_hf.tasks.random_policy import RandomPolicy
from lewm_hf.tasks.registry import knows_goals

pytestmark = pytest.mark.usefixtures("own_module")

QUICK = {"samples": 4, "iterations": 1, "elites": 2, "goal_offset": 6, "budget": 6, "split": "train"}
SMALL = {
    "image_size": 28, "patch_size": 14, "encoder_hidden_size": 24, "encoder_layers": 1, "encoder_heads": 3,
    "encoder_mlp_size": 48, "embed_dim": 16, "projector_hidden_size": 32, "predictor_hidden_size": 24,
    "predictor_layers": 1, "predictor_heads": 2, "predictor_head_dim": 8, "predictor_mlp_size": 32,
    "action_mlp_size": 48, "sigreg_projections": 16, "frameskip": 2, "action_dim": 1, "action_mean": [0.0],
    "action_std": [0.5], "action_low": [-1.0], "action_high": [1.0],
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return LeWMModel(LeWMConfig(**SMALL)).eval()


@pytest.fixture(scope="module")
def collected(own_module, tmp_path_factory):
    """Episodes of a kind, collected once."""
    made = {}

    def of(kind, episodes=6):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            collect(f"kinds:{kind}-v0", folder, episodes, image_size=28, workers=1, test_fraction=0)
            made[kind] = load_episodes(folder, "train")
        return made[kind]

    return of


def judged(model, episodes, **more):
    """What an evaluation says of its environment, and its rows."""
    found = evaluate(
        model, processor=LeWMImageProcessor(image_size=28, fit="stretch"), episodes=episodes, n=3, seeds=[1],
        overrides=QUICK | more,
    )  # fmt: skip
    return found.result["env"], found.rows


def test_an_environment_that_restores_states_and_knows_goals_follows_the_protocol(model, collected):
    episodes = collected("Restorable")
    env, rows = judged(model, episodes)
    assert env["success_rule"] == "is_success() of the environment" and "not_comparable" not in env
    # Against the rule written out: pairs that are solved at the start are known, and dropped.
    counts = sample_manifest(episodes, load_protocol("clean", {"goal_offset": 6, "split": "train"}), 3, 1).counts
    starts = np.concatenate([offset + np.arange(length - 6) for offset, length in
                             zip(episodes.offsets, episodes.lengths, strict=True)])  # fmt: skip
    near = np.abs(episodes.states[starts, 0] - episodes.states[starts + 6, 0]) < 0.05
    assert 0 < near.sum() == counts.solved_at_start and counts.admitted == len(starts) - near.sum()
    assert not any(row.solved_at_start for row in rows)
    assert make_env("kinds:Restorable-v0", image_size=28).state_names == ("state_0", "state_1")


def test_goals_that_the_environment_shows_are_planned_for(model, collected):
    episodes = collected("ShowsItsGoal")
    env, _ = judged(model, episodes)
    assert 'info["goal"]' in env["goals"] and env["success_rule"] == 'info["is_success"]'
    adapter = make_env("kinds:ShowsItsGoal-v0", image_size=40)
    inner = gymnasium.make("kinds:ShowsItsGoal-v0", render_mode="rgb_array")
    _, info = inner.reset(seed=7)
    shown = adapter.reset(seed=7)[1]["goal"]
    columns = np.flatnonzero((info["goal"][20] != 240).any(-1)).mean() * 40 / 60
    assert abs(np.flatnonzero((shown[20] < 200).any(-1)).mean() - columns) < 1.5


def test_an_achieved_goal_becomes_the_desired_one(model, collected):
    """gymnasium-robotics' convention: the attribute `goal`, compared with what an observation has achieved."""
    episodes = collected("Achieves")
    env, _ = judged(model, episodes)
    assert env["success_rule"] == 'info["is_success"]' and "reached again by their actions" in env["goals"]
    adapter = make_env("kinds:Achieves-v0", image_size=28)
    adapter.remember(episodes)
    adapter.set_goal(episodes.states[9])
    adapter.set_state(episodes.states[3])
    assert episodes.observations.shape[1] == 4  # the three parts, flattened: achieved, desired, observation
    np.testing.assert_allclose(adapter.env.unwrapped.goal, episodes.observations[9, :1], atol=1e-6)


def test_a_goal_of_its_own_is_asked_only_where_the_pictures_show_it(model, collected):
    episodes = collected("AlwaysTheSame")
    env, rows = judged(model, episodes)
    offsets = dict(zip(episodes.episode_ids, episodes.offsets, strict=True))
    assert env["success_rule"] == "is_success() of the environment"
    assert all(episodes.observations[offsets[row.episode] + row.goal_step, 0] > 0 for row in rows)
    never = load_episodes(episodes.name, "train")
    never._dataset = never._dataset.remove_columns("next.success")
    env, _ = judged(model, never)
    assert env["success_rule"].startswith("latent distance") and "judges a goal that is not shown" in str(env)


def test_an_episode_that_ends_by_itself_ends(model, collected):
    episodes = collected("Ends", 12)
    assert (np.abs(episodes.observations[:, 0]) > 0.5).any()
    ended = np.abs(episodes.observations[episodes.offsets + episodes.lengths - 1, 0]) > 0.5
    assert (ended == (episodes.lengths < 31)).all() and "next.success" not in episodes.column_names
    _, rows = judged(model, episodes, budget=30)
    assert all(1 <= row.steps <= 30 for row in rows)


def test_what_was_observed_is_probed_by_default(model, collected):
    found = probe(
        model, collected("Restorable"), processor=LeWMImageProcessor(image_size=28), split="train", frames=60,
        seeds=[0], probes=["linear"], controls=False,
    )  # fmt: skip
    assert {(row.target, row.dimensions) for row in found.rows} == {("observation.state", 2)}


def test_pictures_and_words_of_an_observation_are_not_recorded_as_numbers(collected):
    """What is left: a choice of three, one-hot, and the robot's numbers, in the order of their names."""
    episodes = collected("SeesPictures", 2)
    seen, same = episodes.observations, make_env("Slider-v0", image_size=28)
    assert seen.shape[1] == 6
    np.testing.assert_array_equal(seen[:, [0, 1, 2, 5]], np.tile([0.0, 0.0, 1.0, 7.0], (len(seen), 1)))
    first, _ = same.reset(seed=int(episodes.states[0, 0]))
    np.testing.assert_array_equal(seen[0, 3:5], first)
    assert "observation.state" not in collected("SeesNothingElse", 2).column_names


def test_a_function_by_name_makes_an_environment_as_a_class_does(collected):
    """`entry_point="module:function"`, as packages register what takes arguments."""
    collect("kinds:Made-v0", folder := collected("Ends", 12).name + "-made", 2, image_size=28, workers=1, seed=3)
    collect("slider_task:Slider-v0", other := folder + "-class", 2, image_size=28, workers=1, seed=3, max_steps=30)
    made, expected = (load_episodes(one, "train") for one in (folder, other))
    np.testing.assert_array_equal(made.actions, expected.actions)
    np.testing.assert_array_equal(made.frames([0, 20]), expected.frames([0, 20]))
    assert not knows_goals("kinds:Made-v0")


def test_actions_without_bounds_have_a_random_floor(model, own_module, tmp_path):
    """Normal ones, as the training episodes had: nobody can draw uniformly from all numbers."""
    folder = collect("kinds:Unbounded-v0", tmp_path, 6, image_size=28, workers=1, test_fraction=0,
                     expert="slider_task:Swing")  # fmt: skip
    _, rows = judged(model, load_episodes(folder, "train"))
    assert len(rows) == 3 and all(row.random_success is not None for row in rows)
    mean, std = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    everything = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    policy = RandomFloor(everything, 2, 5, (mean, std))
    policy.reset([1], [7])
    drawn = np.stack([policy.act()[1] for _ in range(3)])
    expected = mean + std * np.random.default_rng([5, 7]).standard_normal((3, 2))
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="has no bounds to draw random actions from: give mean and deviation"):
        RandomFloor(everything, 2, 5)


def test_an_action_of_whole_numbers_is_recorded_as_it_was_executed(own_module):
    """A random action is drawn from between the bounds, and so is a plan: neither is what the environment takes."""
    env = make_env("kinds:Whole-v0", image_size=28)
    (episode,) = record_all(env, RandomPolicy(), 0, [0], 20, False)
    executed = env.env.unwrapped.taken[-20:]
    assert set(executed) == {-2, -1, 0, 1, 2}
    np.testing.assert_array_equal(episode.actions[:20, 0], executed)


@pytest.mark.parametrize(
    "space", [gymnasium.spaces.Box(-2, 2, (1,), np.int64), gymnasium.spaces.Box(0, 4, (1, 1), np.uint8)]
)
def test_whole_numbers_are_drawn_as_often_as_each_other(space):
    """The ends too, by who acts at random, and by the floor under success; numbers between them stay uniform."""
    vectors, rng = ActionVectors.of(space, "it"), np.random.default_rng(0)
    drawn = np.concatenate([vectors.action(draw_action(vectors.space, rng)).ravel() for _ in range(4000)])
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == list(range(int(space.low.item()), int(space.high.item()) + 1))
    assert scipy.stats.chisquare(counts).pvalue > 1e-4
    between = ActionVectors.of(gymnasium.spaces.Box(-2.0, 2.0, (1,)), "it").space
    expected = np.random.default_rng(1).uniform([-2], [2])
    np.testing.assert_array_equal(draw_action(between, np.random.default_rng(1)), expected.astype(np.float32))


def test_what_is_not_finite_is_not_recorded(own_module, tmp_path):
    """Refused as an import refuses it: before the first file where the first episodes show it."""
    for kind, message in (
        ("LosesSight", "frame 3 of episode 0 has observation.state[1]=nan (float32): what is stored must be finite"),
        ("LosesItself", "frame 1 of episode 0 has sim.state[1]=inf (float64): what is stored must be finite"),
    ):
        with pytest.raises(ValueError) as raised:
            collect(f"kinds:{kind}-v0", tmp_path / kind, 2, image_size=28, workers=1)
        assert message in str(raised.value) and "\n" not in str(raised.value)
        assert not (tmp_path / kind).exists()


def test_surprise_needs_nothing_of_the_environment(model, collected):
    """The light changes its color; the scene jumps to the start of another episode."""
    for kind in ("Restorable", "Forgetful"):
        found = surprise(
            model, env=f"kinds:{kind}-v0", env_kwargs={"image_size": 28}, trajectories=2, steps=24,
            processor=LeWMImageProcessor(image_size=28),
        )  # fmt: skip
        assert len(found.rows) == 6 and "another episode" in found.result["settings"]["teleport"]


def test_what_cannot_be_done_is_one_line(model, collected):
    for name, error in (
        ("HalfRestorable", "has get_state() but no set_state(): add it"),
        ("NoInverse", "set_state(get_state()) does not give the state back"),
        ("Text", "renders ['ansi'], but a world model learns from pictures"),
        ("Wide", "takes actions of Dict"),
        ("WithoutOptions", "write reset(self, *, seed=None, options=None)"),
        ("OldReset", "answers reset with one thing (ndarray): return (observation, info)"),
        ("OldStep", "answers step with 4 things (ndarray, float, bool, dict): return (observation, reward, terminated"),
        ("Breaks", "failed in step (ValueError: the motor is hot; line "),
        ("NeedsALevel", "missing 1 required positional argument: 'level'): give it (--env-arg NAME=VALUE)"),
        ("SaysItsRateInWords", "states 'fast' frames per second"),
        ("ShowsFloats", 'info["goal"] of kinds:ShowsFloats-v0 is float64 of shape (40, 60, 3): expected a picture'),
    ):
        with pytest.raises(ValueError) as raised:
            make_env(f"kinds:{name}-v0", image_size=28)
        assert error in str(raised.value) and "\n" not in str(raised.value)
    assert collected("CountsInHalves", 2).fps == 12.5
    episodes = collected("Forgetful")
    with pytest.raises(ValueError, match="does not repeat itself: replayed from its reset seed, frame .* differs"):
        judged(model, episodes)
    good = collected("Ends", 12)
    with pytest.raises(ValueError, match="so no start can be at rest: use rest_start=false"):
        judged(model, good, rest_start=True)
    pairs = sample_manifest(good, load_protocol("clean", {"goal_offset": 6, "split": "train"}), 3, 1)
    with pytest.raises(ValueError, match="has no set_state, which starts of protocol clean.* give the episodes"):
        evaluate(model, processor=LeWMImageProcessor(image_size=28), manifest=pairs, overrides=QUICK)
    with pytest.raises(FileNotFoundError, match=r"no pairs ship for ends_v0.*\(--episodes\)$"):
        evaluate(model, processor=LeWMImageProcessor(image_size=28), env="kinds:Ends-v0")
    with pytest.raises(ValueError, match="every=2: kinds:Ends-v0 has no get_state and set_state"):
        collect("kinds:Ends-v0", good.name + "-thin", 4, image_size=28, workers=1, every=2)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["crop", "pad"]), st.integers(0, 2**16))
def test_pictures_become_square_as_the_image_processor_repeats_it(height, width, fit, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = min(height, width) if fit == "crop" else max(height, width)
    np.testing.assert_array_equal(squared(picture, side, fit), square(torch.from_numpy(picture), fit).numpy())
