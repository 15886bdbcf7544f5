"""Episodes in gymnasium's vector environments: whatever mode they reset in, each begins anew with its own goal."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import lewm_hf.envs  # noqa: F401 - registers TwoRoom
from lewm_hf import (
    ActorPolicy,
    LeWMConfig,
    LeWMImageProcessor,
    LeWMModel,
    LeWMPlanner,
    MPCPolicy,
    VectorAgent,
    load_planner,
)
from lewm_hf.action_blocks import to_blocks
from lewm_hf.tasks.registry import make_env

PLANNER = {"samples": 8, "iterations": 1, "elites": 2, "horizon": 3}
LIMIT = 7  # steps an episode: not a whole number of blocks


def room(**keywords):
    return gymnasium.make("lewm/TwoRoom-v0", image_size=28, max_episode_steps=LIMIT, **keywords)


def vector(mode, kind="sync", num_envs=2):
    return gymnasium.make_vec(
        "lewm/TwoRoom-v0", num_envs, kind, vector_kwargs={"autoreset_mode": mode}, image_size=28,
        max_episode_steps=LIMIT,
    )  # fmt: skip


def mpc(model, num_envs=2):
    planner = load_planner("goal-time", PLANNER | {"context_frames": 3})
    return MPCPolicy(model, LeWMImageProcessor(image_size=28), planner, num_envs=num_envs)


def alone(make, seed, env_id, episodes):
    """Actions `(episodes * LIMIT, 2)` of one environment by itself, its policy made anew for each episode."""
    taken = []
    with make_env("two_room", image_size=28) as env:
        for episode in range(1, episodes + 1):
            observation, info = env.reset(seed=seed + env_id if episode == 1 else None)
            policy = make()
            policy.keep_within(env.action_space.low, env.action_space.high)
            body = {"goal_proprioception": [info["goal_state"]]} if policy.wants_proprioception else {}
            policy.reset([0], [f"environment {env_id}, episode {episode}"], [info["goal"]], **body)
            for _ in range(LIMIT):
                looking = policy.wants_frame()[0]
                beside = [[observation[:2]]] if looking and body else []
                taken.append(policy.act([env.render()] if looking else [], *beside)[0])
                observation = env.step(taken[-1])[0]
    return np.array(taken)


@pytest.fixture
def body_model(tiny_config, tiny_model):
    """Sees where the agent is beside each picture."""
    body = {"proprioception_size": 2, "proprioception_mean": [112.0, 112.0], "proprioception_std": [40.0, 50.0]}
    model = LeWMModel(LeWMConfig(**tiny_config.to_dict() | body)).eval()
    model.load_state_dict(model.state_dict() | tiny_model.state_dict())
    return model


BODY = {
    "proprioception": lambda observations: observations[:, :2],
    "goal_proprioception": lambda infos: infos["goal_state"],
}


@pytest.mark.parametrize(
    ("kind", "sees"), [("sync", "tiny_model"), ("async", "tiny_model"), ("sync", "body_model"), ("async", "body_model")]
)
@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_episodes_are_those_of_one_environment_by_itself(request, mode, kind, sees):
    model = request.getfixturevalue(sees)
    envs = vector(mode, kind)
    agent = VectorAgent(mpc(model), envs, **(BODY if sees == "body_model" else {}))
    observations, infos = agent.reset(seed=3)
    assert observations.shape[0] == 2 and infos["goal"].shape == (2, 28, 28, 3)
    taken, idle = [], 0
    while len(taken) < 3 * LIMIT:
        _, _, terminated, truncated, _ = agent.step()
        if np.isnan(agent.actions).all():  # the step that resets
            idle += 1
            continue
        taken.append(agent.actions)
        assert truncated.all() == (len(taken) % LIMIT == 0) and not terminated.any()
        if mode is AutoresetMode.DISABLED and truncated.all():
            with pytest.raises(ValueError, match=r"environments \[0, 1\] are over.*reset_mask"):
                agent.step()
            agent.reset(options={"reset_mask": truncated})
    envs.close()
    assert idle == (2 if mode is AutoresetMode.NEXT_STEP else 0)
    for env_id in range(2):
        expected = alone(lambda: mpc(model, 1), 3, env_id, 3)
        np.testing.assert_array_equal(np.array(taken)[:, env_id], expected)


@pytest.mark.parametrize("own", [None, ([-0.5, -0.5], [0.5, 0.5])])
def test_a_policy_without_bounds_learns_those_of_its_environments(tiny_model, own):
    """What the model is told of between its frames, and what the agent says was taken, are what was executed."""
    received, told = [], []

    class Watched(gymnasium.Wrapper):
        def step(self, action):
            received.append(action)
            return self.env.step(action)

    class World(LeWMModel):
        def rollout(self, context, candidates, executed=None):
            told.append(executed)
            return super().rollout(context, candidates, executed)

    model = World(tiny_model.config).eval()
    model.load_state_dict(tiny_model.state_dict())
    planner = load_planner("goal-time", PLANNER | {"context_frames": 3, "initial_std": 4.0})
    policy = MPCPolicy(model, LeWMImageProcessor(image_size=28), planner, action_bounds=own)
    envs = gymnasium.vector.SyncVectorEnv([lambda: Watched(make_env("two_room", image_size=28))])
    agent = VectorAgent(policy, envs)
    agent.reset(seed=3)
    taken = [(agent.step(), agent.actions[0])[1] for _ in range(15)]
    envs.close()
    np.testing.assert_array_equal(taken, received)
    assert np.abs(taken).max() == (1.0 if own is None else 0.5)
    blocks = to_blocks(torch.tensor(np.array(taken)), model.config)
    torch.testing.assert_close(told[-1][0], blocks[:2])


class TwoCameras(gymnasium.Wrapper):
    """Shows its goal by camera."""

    def reset(self, **keywords):
        observation, info = self.env.reset(**keywords)
        return observation, info | {"goal": {"top": info["goal"], "wrist": 255 - info["goal"]}}


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_several_cameras_are_seen_as_by_one_environment_alone(tiny_model, mode):
    processor = LeWMImageProcessor(image_size=28, cameras=["top", "wrist"], fit="stretch")

    def policy(num_envs):
        return MPCPolicy(tiny_model, processor, load_planner("goal-time", PLANNER), num_envs=num_envs)

    def by_camera(pictures):
        return {"top": np.asarray(pictures), "wrist": 255 - np.asarray(pictures)}

    envs = gymnasium.vector.SyncVectorEnv([lambda: TwoCameras(room())] * 2, autoreset_mode=mode)
    agent = VectorAgent(policy(2), envs, render=lambda: by_camera(envs.render()))
    agent.reset(seed=3)
    taken = [(agent.step(), agent.actions)[1] for _ in range(LIMIT)]
    for env_id in range(2):
        with make_env("two_room", image_size=28) as env:
            one, (_, info) = policy(1), env.reset(seed=3 + env_id)
            one.keep_within(env.action_space.low, env.action_space.high)
            one.reset([0], [f"environment {env_id}, episode 1"], [by_camera(info["goal"])])
            for action in np.array(taken)[:, env_id]:
                expected = one.act([by_camera(env.render())] if one.wants_frame()[0] else [])[0]
                np.testing.assert_array_equal(action, expected)
                env.step(action)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_what_a_robot_reports_goes_to_its_own_episode(body_model, mode):
    """Also where the neighbour has long begun another one, and an environment marks whose infos are real."""
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda steps=steps: Short(room(), steps) for steps in (3, LIMIT)], autoreset_mode=mode
    )
    agent = VectorAgent(mpc(body_model), envs, **BODY)
    agent.reset(seed=3)
    taken = []
    for _ in range(LIMIT):
        _, _, terminated, _, _ = agent.step()
        taken.append(agent.actions[1])
        if mode is AutoresetMode.DISABLED and terminated[0]:
            agent.reset(options={"reset_mask": np.array([True, False])})
    np.testing.assert_array_equal(taken, alone(lambda: mpc(body_model, 1), 3, 1, 1))


def test_proprioception_of_another_shape_is_refused_by_name(body_model):
    envs = vector(AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match="this model wants proprioception and goal_proprioception: give functions"):
        VectorAgent(mpc(body_model), envs)
    for name, message in (
        ("proprioception", r"proprioception\(observations\) has shape \(1, 2\): expected \(2, 2\), one row for each"),
        ("goal_proprioception", r"goal_proprioception\(infos\) has shape \(1, 2\): expected \(2, 2\), one row for"),
    ):
        agent = VectorAgent(mpc(body_model), envs, **BODY | {name: lambda given: np.zeros((1, 2))})
        with pytest.raises(ValueError, match=message):
            agent.reset(seed=0)
            agent.step()


class Short(gymnasium.Wrapper):
    """Ends after a number of steps of its own."""

    def __init__(self, env, steps):
        super().__init__(env)
        self.steps = steps

    def reset(self, **keywords):
        self.taken = 0
        return self.env.reset(**keywords)

    def step(self, action):
        self.taken += 1
        observation, reward, _, _, info = self.env.step(action)
        return observation, reward, self.taken == self.steps, False, info


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_one_that_ends_leaves_its_neighbour_alone(tiny_model, mode):
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda steps=steps: Short(room(), steps) for steps in (3, LIMIT)], autoreset_mode=mode
    )
    policy = mpc(tiny_model)
    agent, goals = VectorAgent(spied(policy), envs), []
    agent.reset(seed=3)
    taken = []
    for _ in range(LIMIT):
        _, _, terminated, _, infos = agent.step()
        taken.append(agent.actions[1])
        goals += [infos["goal"][0]] if infos.get("_goal", [False])[0] else []
        if mode is AutoresetMode.DISABLED and terminated[0]:
            _, infos = agent.reset(options={"reset_mask": np.array([True, False])})
            goals.append(infos["goal"][0])
    np.testing.assert_array_equal(taken, alone(lambda: mpc(tiny_model, 1), 3, 1, 1))
    # Whoever begins an episode is told of it, once, with the goal that it shows.
    begun = [(name, picture) for env_ids, name, picture in policy.begun[2:] if env_ids == 0]
    assert [name for name, _ in begun] == [f"environment 0, episode {n + 2}" for n in range(len(goals))] and goals
    for (_, told), shown in zip(begun, goals, strict=True):
        np.testing.assert_array_equal(told, shown)


def spied(policy):
    """Remembers which environments began which problem with which goal."""
    policy.begun, reset = [], policy.reset

    def remembered(env_ids, problems, goals, **keywords):
        policy.begun += zip(env_ids, problems, goals, strict=True)
        return reset(env_ids, problems, goals, **keywords)

    policy.reset = remembered
    return policy


def test_goals_choices_and_an_actor_may_come_from_elsewhere(tiny_config):
    """An environment that knows nothing of this package: CartPole, whose actions are choices."""
    made = tiny_config.to_dict() | {"action_choices": [2], "action_mean": [0.5, 0.5], "action_std": [0.5, 0.5]}
    tiny_config = LeWMConfig(**made | {"actor_weight": 0.1})
    model = LeWMModel(tiny_config).eval()
    envs = gymnasium.make_vec("CartPole-v1", 2, "sync", render_mode="rgb_array")
    goals = np.zeros((2, 400, 600, 3), dtype=np.uint8)
    processor = LeWMImageProcessor(image_size=28, fit="stretch")
    told = []

    def given(env_ids):
        told.append(list(env_ids))
        return goals[env_ids]

    agent = VectorAgent(ActorPolicy(model, processor, num_envs=2), envs, goals=given, steps_left=10)
    agent.reset(seed=0)
    ended = 0
    for _ in range(40):
        _, _, terminated, _, _ = agent.step()
        ended += int(terminated.sum())
        chosen = agent.actions[~np.isnan(agent.actions).any(1)]
        assert np.isin(chosen, (0, 1)).all() and (chosen.sum(1) == 1).all()
    envs.close()
    assert ended >= 2 and sum(map(len, told[1:])) in (ended, ended - 1, ended - 2)


def test_what_cannot_be_acted_in_is_refused(tiny_model):
    envs = vector(AutoresetMode.NEXT_STEP)
    for made, keywords, message in (
        (lambda: mpc(tiny_model, 3), {}, "the policy acts in 3 environments, but there are 2: make it with num_envs=2"),
        (lambda: mpc(tiny_model), {"proprioception": len}, "pictures alone: leave proprioception away"),
        (lambda: LeWMPlanner(tiny_model, LeWMImageProcessor(image_size=28)), {}, "of type LeWMPlanner acts in no env"),
        (
            lambda: mpc(tiny_model),
            {"goals": np.zeros((28, 28, 3))},
            "goals of type ndarray must be a name in the infos",
        ),
        (lambda: mpc(tiny_model), {"steps_left": [25, 10]}, r"steps_left=\[25, 10\] must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            VectorAgent(made(), envs, **keywords)
    with pytest.raises(ValueError, match="envs of type .* is no vector environment: make one with gymnasium.make_vec"):
        VectorAgent(mpc(tiny_model), room())
    with pytest.raises(ValueError, match=r"no episode has begun: call reset\(\)"):
        VectorAgent(mpc(tiny_model), envs).step()
    with pytest.raises(ValueError, match=r"environments \[0, 1\] show no goal in infos\['aim'\]"):
        VectorAgent(mpc(tiny_model), envs, goals="aim").reset(seed=0)
    with pytest.raises(ValueError, match="render_mode=None draws no pictures"):
        VectorAgent(mpc(tiny_model), gymnasium.make_vec("CartPole-v1", 2, "sync"))
    with pytest.raises(ValueError, match="actions have 1 entries here and 2 in the model"):
        VectorAgent(mpc(tiny_model), gymnasium.make_vec("Pendulum-v1", 2, "sync", render_mode="rgb_array"))
    envs.metadata = {}
    with pytest.raises(ValueError, match="autoreset_mode.*=None of the vector environment is none of NextStep"):
        VectorAgent(mpc(tiny_model), envs)
