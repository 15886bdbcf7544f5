import dataclasses
import json
import math
import time

import gymnasium
import numpy as np
import pytest
import torch

from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.evaluation.common.results import outcomes_hash, read_result
from lewm_hf.evaluation.success.floors import RandomPolicy, ZeroPolicy
from lewm_hf.evaluation.success.manifest import load_manifest, sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.rollouts import run_policy
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.evaluation.success.shipped import shipped_manifests
from lewm_hf.evaluation.success.summary import format_summary
from lewm_hf.planning import load_planner
from lewm_hf.tasks.registry import make_env, task_names
from lewm_hf.tasks.two_room.env import TwoRoomEnv
from lewm_hf.tasks.vector import GoalVectorEnv

from ..conftest import make_episodes

QUICK = {"samples": 8, "iterations": 1, "elites": 2}
PAPER = load_protocol("paper", {"split": "test"})
FAST = load_planner("paper", QUICK)
CHEAP = {"protocol": PAPER, "planner": FAST}


@pytest.fixture
def agent(tiny_model, tiny_config):
    """A random model whose plans do move the agent."""
    tiny_config.action_mean, tiny_config.action_std = [0.0, 0.0], [0.6, 0.6]
    return {"model": tiny_model, "processor": LeWMImageProcessor(image_size=28)}


class Towards:
    """A policy that sees its goal in the picture: walks from the picture's red blob to the goal's."""

    plans = 0

    def __init__(self, num_envs: int, every: int = 1):
        self.num_envs, self.every = num_envs, every
        self.goals: dict[int, np.ndarray] = {}
        self.seen: dict[int, list[int]] = {}
        self.age = np.zeros(num_envs, dtype=int)
        self.action = np.full((num_envs, 2), np.nan, dtype=np.float32)

    def reset(self, env_ids, problems, goals):
        for env_id, goal in zip(env_ids, goals, strict=True):
            self.goals[env_id], self.age[env_id], self.seen[env_id] = self.where(goal), 0, []

    def release(self, env_ids):
        for env_id in env_ids:
            self.goals.pop(env_id, None)

    def wants_frame(self):
        return np.array([i in self.goals and self.age[i] % self.every == 0 for i in range(self.num_envs)])

    def act(self, frames):
        wanted = np.flatnonzero(self.wants_frame())
        assert len(frames) == len(wanted)
        self.plans += len(wanted)
        for env_id, frame in zip(wanted, frames, strict=True):
            self.action[env_id] = np.clip((self.goals[env_id] - self.where(frame)) / 5, -1, 1)
            self.seen[env_id].append(self.age[env_id])
        self.age += 1
        actions = np.full((self.num_envs, 2), np.nan, dtype=np.float32)
        for env_id in self.goals:
            actions[env_id] = self.action[env_id]
        return actions

    @staticmethod
    def where(picture):
        red = picture[..., 0].astype(float) - picture[..., 1]
        grid = (np.arange(len(picture)) + 0.5) * 224 / len(picture) - 0.5
        return np.array([(red.sum(0) * grid).sum(), (red.sum(1) * grid).sum()]) / red.sum()


def naive_success(pair, actions_of_step, budget=50):
    """One environment, one pair, a plain gymnasium loop: first step at which the rule holds."""
    env = gymnasium.make("lewm/TwoRoom-v0", image_size=32, max_episode_steps=1000)
    env.reset(seed=1)
    env.unwrapped.set_goal(np.array(pair.goal_state))
    env.unwrapped.set_state(np.array(pair.start_state))
    for step in range(budget):
        position = env.step(actions_of_step(step))[0][:2]
        if math.dist(position, pair.goal_state) < 16:
            return step + 1
    return None


def test_a_seeing_policy_succeeds_where_the_way_is_free(episodes):
    manifest = sample_manifest(episodes, PAPER, 20, 42)
    with_room = [p for p in manifest.pairs if (p.start_state[0] < 100) == (p.goal_state[0] < 100)]
    same_room = dataclasses.replace(manifest, pairs=tuple(with_room))
    env = GoalVectorEnv("two_room", 4, image_size=32)
    rollouts = run_policy(env, Towards(4), same_room, 50)
    reached = [outcome.success for outcome in rollouts.outcomes]
    assert np.mean(reached) > 0.8
    for pair, outcome in zip(same_room.pairs, rollouts.outcomes, strict=True):
        assert outcome.states[0].tolist() == list(pair.start_state)
        assert len(outcome.states) == len(outcome.actions) + 1
        assert len(outcome.actions) == (outcome.first_success_step or 50)
        distances = [math.dist(state, pair.goal_state) for state in outcome.states]
        assert outcome.solved_at_start == (distances[0] < 16)
        if (outcome.states[-1][0] < 112) == (pair.goal_state[0] < 112):
            assert outcome.final_distance == pytest.approx(distances[-1])
        else:  # the way through the door
            assert outcome.final_distance > distances[-1]
        first = next((step for step, distance in enumerate(distances[1:], 1) if distance < 16), None)
        assert outcome.first_success_step == first


def test_only_asked_for_frames_are_rendered_and_only_running_environments_stepped(episodes, monkeypatch):
    steps, renders = [], []
    step, render = TwoRoomEnv.step, TwoRoomEnv.render_batch.__func__
    monkeypatch.setattr(TwoRoomEnv, "step", lambda self, action: (steps.append(self), step(self, action))[1])
    monkeypatch.setattr(
        TwoRoomEnv,
        "render_batch",
        classmethod(lambda cls, envs, goals=False: (renders.append((len(envs), goals)), render(cls, envs, goals))[1]),
    )
    manifest = sample_manifest(episodes, PAPER, 10, 42)
    policy = Towards(4, every=10)
    rollouts = run_policy(GoalVectorEnv("two_room", 4, image_size=32), policy, manifest, 50)
    assert len(steps) == sum(len(outcome.actions) for outcome in rollouts.outcomes)
    assert sum(count for count, goals in renders if goals) == 10
    expected = sum(math.ceil(len(outcome.actions) / 10) for outcome in rollouts.outcomes)
    assert sum(count for count, goals in renders if not goals) == expected == rollouts.plans
    for outcome in rollouts.outcomes:
        assert list(outcome.plan_steps) == list(range(0, len(outcome.actions), 10))


def test_the_first_frame_and_the_goal_are_the_data_set_s(episodes):
    manifest = sample_manifest(episodes, PAPER, 3, 42)
    seen = {}

    class Spy(Towards):
        def reset(self, env_ids, problems, goals):
            seen["goals"] = goals
            super().reset(env_ids, problems, goals)

        def act(self, frames):
            seen.setdefault("first", frames)
            return super().act(frames)

    blue, black = np.full((3, 32, 32, 3), (0, 0, 255), np.uint8), np.full((3, 32, 32, 3), (9, 0, 0), np.uint8)
    env = GoalVectorEnv("two_room", 3, image_size=32)
    blue[..., 0] = 1  # one red unit everywhere, so that the spy's center is defined
    run_policy(env, Spy(3), manifest, 5, starts=lambda pairs: blue, goals=lambda pairs: black)
    assert (seen["goals"] == black).all() and (seen["first"] == blue).all()


@pytest.mark.parametrize("num_envs", [1, 7, 50])
def test_random_and_zero_floors_equal_a_plain_loop(episodes, num_envs):
    manifest = sample_manifest(episodes, PAPER, 30, 42)
    env = GoalVectorEnv("two_room", num_envs, image_size=32)
    random = run_policy(env, RandomPolicy(env.single_action_space, num_envs, 5), manifest, 50, see_goals=False)
    zero = run_policy(env, ZeroPolicy(env.single_action_space, num_envs), manifest, 50, see_goals=False)
    for pair, by_chance, idle in zip(manifest.pairs, random.outcomes, zero.outcomes, strict=True):
        stream = np.random.default_rng([5, pair.problem])
        actions = stream.uniform(-1, 1, (50, 2)).astype(np.float32)
        assert by_chance.first_success_step == naive_success(pair, lambda step, actions=actions: actions[step])
        assert idle.first_success_step == naive_success(pair, lambda step: np.zeros(2))
        assert idle.success == idle.solved_at_start
    assert random.plans == zero.plans == 0


def test_zero_actions_score_nothing_under_clean(episodes, agent):
    result = evaluate(**agent, episodes=episodes, protocol="clean", overrides=QUICK, n=8, seeds=[42]).result
    assert result["floors"]["zero_action"]["successes"] == result["solved_at_start"]["n"] == 0


def test_outcomes_do_not_depend_on_the_number_of_environments(episodes, agent):
    results = [
        evaluate(**agent, episodes=episodes, **CHEAP, n=12, seeds=[42, 43], num_envs=num_envs)
        for num_envs in (1, 7, 50)
    ]
    rows = [[{**vars(row), "wall_time": 0} for row in one.rows] for one in results]
    assert rows[0] == rows[1] == rows[2]
    assert len({one.result["rows_hash"] for one in results}) == 1
    assert {one.result["outcomes_hash"] for one in results} == {outcomes_hash(results[0].rows)}
    assert 0 < results[0].result["success"]["successes"] < 24


def test_outcomes_do_not_depend_on_the_other_pairs(episodes, agent):
    few, many = (evaluate(**agent, episodes=episodes, **CHEAP, n=n, seeds=[42]).rows for n in (6, 15))
    by_pair = {(row.episode, row.start): row for row in many}
    for row in few:
        same = by_pair[row.episode, row.start]
        assert {**vars(row), "pair": 0, "wall_time": 0} == {**vars(same), "pair": 0, "wall_time": 0}


def test_seeds_change_pairs_and_noise(episodes, agent):
    rows = evaluate(**agent, episodes=episodes, **CHEAP, n=10, seeds=[1, 2]).rows
    assert [row.seed for row in rows] == [1] * 10 + [2] * 10
    assert {(row.episode, row.start) for row in rows[:10]} != {(row.episode, row.start) for row in rows[10:]}
    pairs = sample_manifest(episodes, PAPER, 10, 1)
    again = dataclasses.replace(pairs, seed=2)
    both = [evaluate(**agent, episodes=episodes, manifest=one, **CHEAP).rows for one in (pairs, again)]
    assert [row.final_distance for row in both[0]] != [row.final_distance for row in both[1]]


def test_files_hold_rows_result_manifests_and_videos(episodes, agent, tmp_path):
    done = evaluate(
        **agent,
        episodes=episodes,
        protocol=PAPER,
        planner=FAST,
        n=8,
        seeds=[42, 43],
        out=tmp_path / "run",
        videos=2,
        video_successes=1,
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "episodes.jsonl").read_text().splitlines()]
    assert rows == [vars(row) for row in done.rows]
    assert set(rows[0]) >= {
        "episode", "start", "goal_step", "success", "first_success_step", "final_distance", "replans", "wall_time",
    }  # fmt: skip
    result = read_result(tmp_path / "run")
    assert result == done.result
    assert result["success"]["successes"] == sum(row["success"] for row in rows)
    assert result["success"]["n"] == 16
    assert result["excess"]["random"] == pytest.approx(
        sum(row["success"] - row["random_success"] for row in rows) / len(rows)
    )
    assert result["protocol"]["hash"] == PAPER.hash
    assert result["protocol"]["overrides"] == {"split": "test"}
    assert (result["planner"]["hash"], result["planner"]["overrides"]) == (FAST.hash, QUICK)
    assert result["policy"] == "planner" and result["planning"]["action_bounds"] is None
    assert result["versions"]["torch"] == torch.__version__
    assert result["model"]["parameters"] == sum(p.numel() for p in agent["model"].parameters())
    for entry, seed in zip(result["manifests"], (42, 43), strict=True):
        assert load_manifest(tmp_path / "run" / "manifests" / f"seed-{seed}.json").hash == entry["hash"]
    assert [path.name[:9] for path in done.videos] == ["01-missed", "02-missed", "03-reache"]
    assert all(path.is_file() for path in done.videos)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_second_run_gives_identical_rows(episodes, agent):
    first, second = (evaluate(**agent, episodes=episodes, **CHEAP, n=6, seeds=[42]).result for _ in range(2))
    assert first["rows_hash"] == second["rows_hash"]
    assert first["model"]["fingerprint"] == second["model"]["fingerprint"]


def test_a_manifest_works_without_the_data_set(episodes, agent, tmp_path):
    path = sample_manifest(episodes, PAPER, 6, 42).save(tmp_path / "m.json")
    done = evaluate(**agent, env="two_room", manifest=path, **CHEAP, n=4, out=tmp_path / "out", videos=1)
    assert len(done.rows) == 4 and len(done.videos) == 1
    assert done.result["dataset"]["first_frame"] == "rendered"
    assert done.result["env"]["kwargs"]["image_size"] == 28
    assert "first_frame rendered*" in format_summary(done.result)


def test_pairs_that_ship_with_the_package_are_the_default(agent, tmp_path):
    """Neither data set nor manifest nor environment: the checkpoint names its task, the package has the pairs."""
    agent["model"].save_pretrained(tmp_path / "model")
    agent["processor"].save_pretrained(tmp_path / "model")
    facts = {"env_id": "lewm/TwoRoom-v0", "env_kwargs": {"physics": "swept", "image_size": 224}}
    (tmp_path / "model" / "training.json").write_text(json.dumps(facts))
    clean = {"protocol": "clean", "planner": "small", "overrides": QUICK}
    done = evaluate(tmp_path / "model", **clean, n=3, seeds=[42, 44])
    shipped = shipped_manifests("two_room", load_protocol("clean"), [42, 44], 3)
    assert [entry["hash"] for entry in done.result["manifests"]] == [one.hash for one in shipped]
    assert done.result["pairs"] == "shipped"
    # The environment looks and moves as in training, at the model's picture size.
    assert done.result["env"]["kwargs"] == {"physics": "swept", "image_size": 28}
    with pytest.raises(FileNotFoundError, match="goal_offset=25, seed 5: give episodes"):
        evaluate(tmp_path / "model", **clean, seeds=[5])
    with pytest.raises(ValueError, match="trained on lewm/TwoRoom-v0, not on lewm/Reacher-v0"):
        evaluate(tmp_path / "model", env="reacher", **clean, n=3)


@pytest.mark.parametrize("env", task_names())
def test_every_task_is_evaluated_without_a_data_set(env, tiny_config):
    """A random model on two of the pairs that ship, drawn without a display."""
    tiny_config.action_dim = 5 if env == "cube" else 2
    tiny_config.action_mean, tiny_config.action_std = [0.0] * tiny_config.action_dim, [0.3] * tiny_config.action_dim
    model, processor = LeWMModel(tiny_config).eval(), LeWMImageProcessor(image_size=28)
    given = {"processor": processor, "env": env, "overrides": QUICK | {"budget": 5}, "n": 2, "seeds": [42]}
    first, second = (evaluate(model, **given, num_envs=num_envs) for num_envs in (1, 2))
    assert first.result["rows_hash"] == second.result["rows_hash"] and len(first.rows) == 2
    result = first.result
    assert result["env"]["success_rule"] and result["env"]["distance_unit"]
    assert all(row.final_distance > 0 for row in first.rows)
    assert f"success: {result['env']['success_rule']} at any step" in format_summary(result)


def test_the_commit_of_a_hub_data_set_is_recorded(agent):
    episodes = make_episodes(60)
    for revision in (None, "0123abc"):
        episodes.revision = revision
        done = evaluate(**agent, episodes=episodes, **CHEAP, n=2, seeds=[42], floors=False)
        assert done.result["dataset"]["revision"] == revision


def test_problems_that_seeds_share_are_counted_once(episodes, agent):
    pairs = sample_manifest(episodes, PAPER, 5, 1)
    done = evaluate(**agent, episodes=episodes, manifest=[pairs, dataclasses.replace(pairs, seed=2)], **CHEAP)
    distinct = {"pairs": 5, "episodes": len({pair.episode for pair in pairs.pairs})}
    assert done.result["success"]["n"] == 10 and done.result["distinct"] == distinct
    assert f"5 of 10, from {distinct['episodes']} episodes" in format_summary(done.result)


def test_a_place_that_cannot_hold_results_is_refused_before_any_episode(episodes, agent, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot be a folder, .*file is a file"):
            evaluate(**agent, episodes=episodes, **CHEAP, n=10**6, out=out)
    assert (tmp_path / "file").read_text() == ""


def test_given_episodes_decide_how_the_environment_is_made(episodes, agent):
    """A manifest may have been drawn from the same states at another picture size."""
    manifest = dataclasses.replace(sample_manifest(episodes, PAPER, 3, 42), env_kwargs={"image_size": 224})
    done = evaluate(**agent, episodes=episodes, manifest=manifest, **CHEAP)
    assert done.result["env"]["kwargs"] == episodes.env_kwargs and done.result["pairs"] == "given"


def test_rest_start_leaves_positions_and_stills_velocities():
    class Still:
        """Lets the arm swing."""

        plans, num_envs = 0, 2

        def reset(self, env_ids, problems, goals): ...
        def release(self, env_ids): ...
        def wants_frame(self):
            return np.zeros(2, dtype=bool)

        def act(self, frames):
            return np.zeros((2, 2), dtype=np.float32)

    clean = load_protocol("clean")
    (manifest,) = shipped_manifests("reacher", clean, [42], 2)
    assert np.abs(manifest.start_states[:, 2:]).min() > 0
    with GoalVectorEnv("reacher", 2, image_size=16) as worlds:
        moving, resting = (
            run_policy(worlds, Still(), manifest, 3, see_goals=False, rest_start=rest).outcomes
            for rest in (False, True)
        )
    for pair, swung, rested in zip(manifest.pairs, moving, resting, strict=True):
        assert swung.states[0].tolist() == list(pair.start_state)
        assert rested.states[0].tolist() == [*pair.start_state[:2], 0.0, 0.0]
        np.testing.assert_array_equal(rested.states[-1, :2], pair.start_state[:2])
        assert np.abs(swung.states[-1, :2] - swung.states[0, :2]).max() > 1e-4
        # What is left to go, in rad.
        error = np.array(pair.goal_state[:2]) - rested.states[-1, :2]
        error[0] = math.remainder(error[0], 2 * math.pi)
        assert rested.final_distance == pytest.approx(np.linalg.norm(error))


def test_stored_frames_matter_only_for_the_first_plan(episodes, agent):
    """Rendered starts of the fake data set equal stored ones, so both give the same episodes."""
    rendered = load_protocol(PAPER, {"first_frame": "rendered", "goal_frame": "rendered"})
    one, other = (
        evaluate(**agent, episodes=episodes, protocol=p, planner=FAST, n=6, seeds=[42]) for p in (PAPER, rendered)
    )
    assert [row.final_distance for row in one.rows] == [row.final_distance for row in other.rows]


def test_the_summary_names_every_protocol_value_and_figure(episodes, agent):
    result = evaluate(**agent, episodes=episodes, **CHEAP, n=10, seeds=[42, 43]).result
    text = format_summary(result)
    for name, value in (PAPER.to_dict() | FAST.to_dict()).items():
        if name not in ("name", "version", "overrides", "default_planner"):
            assert name in text, value
    assert "paper-v3 (modified)" in text and PAPER.hash[:12] in text
    assert "planner paper-v1 (modified)" in text and FAST.hash[:12] in text
    assert f"{result['success']['successes']} of 20" in text
    for part in (
        "samples     8*",
        "random policy",
        "zero actions",
        "excess over random",
        "solved at the start",
        "s/plan",
        "pairs drawn from the episodes",
        "success: |agent - goal| < 16 px at any step",
    ):
        assert part in text


def test_random_floor_is_fast():
    manifest = sample_manifest(make_episodes(100), PAPER, 100, 42)
    env = GoalVectorEnv("two_room", 50, image_size=64)
    start = time.process_time()  # not the wall clock: neighbours on the machine must not fail a test
    run_policy(env, RandomPolicy(env.single_action_space, 50, 5), manifest, 50, see_goals=False)
    assert time.process_time() - start < 1


# What must be refused, before the first episode


@pytest.fixture
def no_episode_runs(monkeypatch):
    def refuse(self, action):
        raise AssertionError("an episode was started")

    monkeypatch.setattr(TwoRoomEnv, "step", refuse)


@pytest.mark.usefixtures("no_episode_runs")
def test_mismatches_are_refused_in_one_line(episodes, agent, tmp_path):
    manifest = sample_manifest(episodes, PAPER, 4, 42)
    out = tmp_path / "out"
    given = {**agent, "episodes": episodes, "protocol": PAPER, "planner": FAST, "n": 4, "seeds": [42], "out": out}
    for changes, message in (
        ({"n": 0}, "n=0 must be at least 1"),
        ({"n": 10**6}, "but n=1000000 were asked for"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"env": "cube"}, "env=cube was asked for, but the pairs are of lewm/TwoRoom-v0"),
        ({"env": "tworoom"}, "unknown environment 'tworoom'"),
        ({"episodes": None}, "does not say what it was trained on: give env, one of two_room"),
        ({"protocol": "paper"}, "draws from split='train', but these episodes are 'test'"),
        ({"overrides": {"action_block": 4}}, "unknown key 'action_block'"),
        ({"overrides": {"context_frames": 9}}, "context_frames=9, but the model has history_size=3"),
        ({"overrides": {"solver": "sem"}}, "solver='sem'"),
        ({"planner": "fast"}, "unknown planner 'fast': use one of actor-guided"),
        ({"planner": "actor-guided"}, "planner actor-guided-v2 needs a checkpoint with an actor"),
        ({"policy": "actor"}, "policy=actor needs a checkpoint with an actor"),
        ({"policy": "oracle"}, "policy='oracle' is unknown: use one of planner, actor, random, zero"),
        ({"seeds": [1, 1]}, "repeat"),
        ({"processor": None}, "needs its image processor"),
        ({"manifest": manifest}, "seeds=\\[42\\] contradict the manifests"),
        ({"manifest": manifest, "seeds": None, "n": 5}, "n=5 pairs were asked for, but the manifest holds 4"),
        ({"manifest": [], "seeds": None}, "empty"),
        ({"manifest": [manifest, manifest], "seeds": None}, "seeds \\[42, 42\\] repeat"),
        ({"manifest": manifest, "seeds": None, "protocol": "clean"}, "drawn with"),
        ({"manifest": manifest, "seeds": None, "episodes": make_episodes(60, seed=1)}, "drawn from the data set"),
        ({"out": None, "videos": 1}, "no folder for them"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            evaluate(**{**given, **changes})
        assert "\n" not in str(error.value), changes
    assert not out.exists()


@pytest.mark.usefixtures("no_episode_runs")
def test_models_that_cannot_act_here_are_refused(episodes, agent, tmp_path):
    given = {"episodes": episodes, "protocol": PAPER, "planner": FAST, "n": 4, "seeds": [42]}
    model, processor = agent["model"], agent["processor"]
    model.train()
    with pytest.raises(ValueError, match="in training mode"):
        evaluate(model, processor=processor, **given)
    model.eval()
    model.config.action_mean = model.config.action_std = None
    with pytest.raises(ValueError, match="no action statistics"):
        evaluate(model, processor=processor, **given)
    model.config.action_mean = model.config.action_std = [0.0] * 5
    model.config.action_dim = 5
    with pytest.raises(ValueError, match="action_dim=5, but lewm/TwoRoom-v0 has 2"):
        evaluate(model, processor=processor, **given)


def test_the_success_rule_is_the_environment_s(episodes):
    env = make_env("two_room", image_size=32)
    manifest = sample_manifest(episodes, PAPER, 60, 42)
    expected = [math.dist(pair.start_state, pair.goal_state) < 16 for pair in manifest.pairs]
    assert env.reached(manifest.start_states, manifest.goal_states).tolist() == expected
