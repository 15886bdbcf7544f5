"""What a user writes to add a task: one file of another package. A dot slides over a square to reach a place."""

import numpy as np
from gymnasium.spaces import Box

from lewm_hf.tasks.goal_env import GoalEnv
from lewm_hf.tasks.measurable import Events, Target, draw_until, far_from
from lewm_hf.tasks.task import Recording, Task
from lewm_hf.tasks.variation import Integers, Uniform, VariationSpace

STEP, REACH = 0.04, 0.1


class DotEnv(GoalEnv):
    """State: x, y in [0, 1]. Action: a direction, 0.04 per step at most."""

    state_names = ("x", "y")
    success_rule = f"|dot - goal| < {REACH}"
    distance_unit = "side of the square"
    probe_targets = (Target("place"), Target("motion", "1/step", moving=True))
    events = Events("seek", 40, "dot.color", "the dot", "the dot, by at least 0.4")
    observation_space, action_space = Box(0.0, 1.0, (2,)), Box(-1.0, 1.0, (2,))

    def __init__(self, image_size=32, render_mode="rgb_array"):
        place = Uniform(initial=np.array([0.3, 0.3]), low=0.1, high=0.9)
        color = Integers(initial=np.array([200, 30, 30]), low=0, high=255)
        factors = {"dot.place": place, "goal.place": place, "dot.color": color}
        super().__init__(VariationSpace(factors, ("dot.place", "goal.place")), image_size=image_size)

    def get_state(self):
        return self._dot.copy()

    def reached(self, states, goals):
        return self.distance(states, goals) < REACH

    def distance(self, states, goals):
        return np.linalg.norm(states - goals, axis=-1)

    def probe_values(self, states, previous):
        return {"place": states, "motion": states - previous}

    def teleport(self, state, rng):
        return draw_until(lambda: rng.uniform(0.1, 0.9, 2), far_from(state, 0.4), "place")

    def _build(self):
        self._dot = np.asarray(self.variation["dot.place"], dtype=float)

    def _sample_task(self):
        return self.variation["dot.place"], self.variation["goal.place"]

    def _set_state(self, state):
        self._dot = state

    def _advance(self, action):
        self._dot = np.clip(self._dot + STEP * np.clip(action, -1, 1), 0, 1)

    def _observe(self):
        return self._dot.astype(np.float32)

    def _draw(self):
        y, x = np.mgrid[: self.image_size, : self.image_size] / (self.image_size - 1)
        inside = (x - self._dot[0]) ** 2 + (y - self._dot[1]) ** 2 < 0.01
        return np.where(inside[..., None], self.variation["dot.color"], 240).astype(np.uint8)


class Seek:
    """Towards the goal, with noise."""

    def __init__(self, noise=0.5):
        self.noise = noise

    def reset(self, env, rng):
        self._rng = rng

    def act(self, env):
        way = (env.goal_state - env.get_state()) / STEP
        return np.clip(way + self._rng.normal(0, self.noise, 2), -1, 1).astype(np.float32)


TASK = Task(
    name="dot",
    env_id="outside/Dot-v0",
    entry_point=DotEnv,
    max_episode_steps=40,
    policies={"seek": Seek},
    recording=Recording(stop_at_success=False, image_format="png", noise="noise"),
)
