"""Environments of tasks as people write them: with arrays that are written to again, and promises that are broken."""

import dataclasses

import gymnasium
import numpy as np
import pyarrow.parquet as pq
import pytest
from gymnasium.spaces import Box, Discrete

from lewm_hf import collect, make_env, register_task
from lewm_hf.tasks import registry

pytestmark = pytest.mark.usefixtures("own_module")


@pytest.fixture
def task(own_module):
    """Registers a task like the dot's, of an environment and a policy that are made of the dot's."""
    import dot_task

    def registered(name, members, policy=dot_task.Seek):
        kind = type(name, (dot_task.DotEnv,), members(dot_task.DotEnv) if callable(members) else members)
        policies = {"seek": policy(dot_task.Seek) if callable(policy) and policy is not dot_task.Seek else policy}
        register_task(dataclasses.replace(
            dot_task.TASK, name=name.lower(), env_id=f"outside/{name}-v0", entry_point=kind, policies=policies
        ))  # fmt: skip
        return name.lower()

    known, ids = dict(registry._registered), set(gymnasium.registry)
    yield registered
    for new in set(gymnasium.registry) - ids:
        gymnasium.registry.pop(new)
    registry._registered.clear()
    registry._registered.update(known)


def reusing(kind):
    """The same environment, all of whose arrays are the same ones at every step."""

    def draw(self):
        self.canvas = getattr(self, "canvas", np.empty((32, 32, 3), np.uint8))
        self.canvas[:] = kind._draw(self)
        return self.canvas

    def observe(self):
        self.seen = getattr(self, "seen", np.empty(2, np.float32))
        self.seen[:] = self._dot
        return self.seen

    def build(self):
        self._dot = np.array(self.variation["dot.place"], dtype=float)

    def set_state(self, state):
        self._dot[:] = state

    def advance(self, action):
        self._dot[:] = np.clip(self._dot + 0.04 * np.clip(action, -1, 1), 0, 1)

    return {
        "_draw": draw, "_observe": observe, "_build": build, "_set_state": set_state, "_advance": advance,
        "get_state": lambda self: self._dot,
    }  # fmt: skip


def reusing_policy(seek):
    class Reusing(seek):
        def act(self, env):
            self.action = getattr(self, "action", np.empty(2, np.float32))
            self.action[:] = super().act(env)
            return self.action

    return Reusing


def test_arrays_that_are_written_to_again_are_recorded_as_they_were(task, tmp_path):
    names = task("Fresh", {}), task("Reusing", reusing, reusing_policy)
    tables = []
    for name in names:
        folder = collect(name, tmp_path / name, 3, image_size=32, max_steps=12, workers=1, test_fraction=0)
        tables.append([pq.ParquetFile(file).read() for file in sorted(folder.glob("data/chunk-000/*.parquet"))])
    for fresh, reused in zip(*tables, strict=True):
        for column in ("action", "observation.state", "sim.state", "sim.goal"):
            np.testing.assert_array_equal(*(np.array(table[column].to_pylist()) for table in (fresh, reused)))
        assert fresh["observation.image"].to_pylist() == reused["observation.image"].to_pylist()


def test_a_look_at_another_state_leaves_pictures_and_state_alone(task):
    env = make_env(task("Looked", reusing), image_size=32)
    _, info = env.reset(seed=0)
    goal, state, here = info["goal"].copy(), info["state"].copy(), env.render()
    env.goal_image(np.array([0.9, 0.9]))
    env.step(np.ones(2))
    env.render()
    np.testing.assert_array_equal(info["goal"], goal)
    np.testing.assert_array_equal(info["state"], state)
    env.set_state(state)
    np.testing.assert_array_equal(env.render(), here)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"action_space": Discrete(4)}, r"takes actions of Discrete\(4\): let action_space be a Box of one dimension"),
        ({"action_space": Box(-1, 1, (1, 2))}, "let action_space be a Box of one dimension, or for choices"),
        ({"_observe": lambda self: {"place": self._dot}}, r"observes dict, but .* let its `recorded\(observation\)`"),
        ({"_observe": lambda self: self._draw()}, r"observes an array \(32, 32, 3\) of uint8"),
        ({"metadata": {"render_modes": ["rgb_array"]}}, r'says render_fps=None: let metadata\["render_fps"\] be'),
        ({"_set_state": lambda self, state: setattr(self, "_dot", state + 0.01)}, "does not give the state back"),
        (
            {"reached": lambda self, states, goals: np.linalg.norm(states - goals) < 0.1},
            "reached says False of one pair",
        ),
    ],
)
def test_a_broken_promise_is_one_line_before_anything_is_written(members, message, task, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        collect(task("Broken", members), tmp_path / "out", 3, image_size=32, workers=1)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "reason"), [("no_such_module:Seek", "No module named"), ("dot_task:Sek", "no attribute 'Sek'")]
)
def test_a_policy_that_cannot_be_imported_is_named(source, reason, task, tmp_path):
    with pytest.raises(ImportError, match=f"policy 'seek' of lost, {source}, cannot be imported .*{reason}"):
        collect(task("Lost", {}, source), tmp_path / "out", 3, image_size=32, workers=1)
