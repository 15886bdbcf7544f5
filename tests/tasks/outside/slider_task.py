"""A user's own file: a block slides along a rail. Nothing of this package is imported, nothing can be restored."""

import gymnasium
import numpy as np


class Slider(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,))

    def __init__(self, render_mode=None, friction=0.2):
        self.render_mode, self.friction = render_mode, friction

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(-0.8, 0.8), 0.0
        return self._observation(), {}

    def step(self, action):
        assert -1 <= action[0] <= 1 and action.dtype == np.float32
        self.speed = (1 - self.friction) * self.speed + 0.05 * action[0] + self.np_random.normal(0, 0.002)
        self.place = np.clip(self.place + self.speed, -0.9, 0.9)
        return self._observation(), 0.0, False, False, {}

    def render(self):
        picture = np.full((40, 60, 3), 240, dtype=np.uint8)
        column = int(30 + 28 * self.place)
        picture[14:26, max(0, column - 5) : column + 5] = (30, 90, 200)
        return picture

    def _observation(self):
        return np.array([self.place, self.speed], dtype=np.float32)


class Swing:
    """Left and right in turn, as long as it likes."""

    def reset(self, env, rng):
        self.rng, self.push = rng, 1.0

    def act(self, env):
        self.push = -self.push if self.rng.random() < 0.2 else self.push
        return np.array([self.push])


gymnasium.register("Slider-v0", entry_point=Slider, max_episode_steps=40)
