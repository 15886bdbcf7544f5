"""One block on a rail, in the kinds that environments come in: what they can restore, which goals they know, how they
say that one is reached."""

import gymnasium
import numpy as np
from slider_task import Slider


class Restorable(Slider):
    """Restores its state and is told its goal: protocols apply as they are."""

    goal = None

    def get_state(self):
        return np.array([self.place, self.speed])

    def set_state(self, state):
        self.place, self.speed = state

    def set_goal(self, state):
        self.goal = state

    def is_success(self):
        return self.goal is not None and abs(self.place - self.goal[0]) < 0.05


class ShowsItsGoal(Slider):
    """Draws a goal at every reset, shows its picture, and tells with every step whether it is reached."""

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed)
        self.target, here = self.np_random.uniform(-0.8, 0.8), self.place
        self.place = self.target
        picture, self.place = self.render(), here
        return observation, {"goal": picture}

    def step(self, action):
        *moved, _ = super().step(action)
        return *moved, {"is_success": abs(self.place - self.target) < 0.1}


class Achieves(Slider):
    """Observations with achieved and desired goal, as those of gymnasium-robotics."""

    observation_space = gymnasium.spaces.Dict(
        {name: gymnasium.spaces.Box(-2.0, 2.0, (size,)) for name, size in
         (("observation", 2), ("achieved_goal", 1), ("desired_goal", 1))}
    )  # fmt: skip

    def reset(self, *, seed=None, options=None):
        self.goal = np.array([0.5])
        return super().reset(seed=seed)

    def step(self, action):
        observation, *rest, _ = super().step(action)
        return observation, *rest, {"is_success": float(abs(self.place - self.goal[0]) < 0.05)}

    def _observation(self):
        place = np.array([self.place], dtype=np.float32)
        return {"observation": super()._observation(), "achieved_goal": place, "desired_goal": self.goal}


class AlwaysTheSame(Slider):
    """Knows whether it is at its own place, the right half, and nothing of other goals."""

    def is_success(self):
        return self.place > 0


class Ends(Slider):
    """Falls off the rail."""

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, abs(self.place) > 0.5, truncated, info


class Forgetful(Slider):
    """Does not come back from its seed: it begins elsewhere, in another light, so that no picture is seen twice."""

    def reset(self, *, seed=None, options=None):
        self.light = np.random.default_rng().integers(0, 256, 3)
        return super().reset(seed=None)

    def render(self):
        picture = super().render()
        picture[:10] = self.light
        return picture


class HalfRestorable(Slider):
    def get_state(self):
        return np.array([self.place, self.speed])


class NoInverse(Restorable):
    def set_state(self, state):
        self.place, self.speed = state[0], 7.0


class Text(Slider):
    metadata = {"render_modes": ["ansi"]}


class Wide(Slider):
    action_space = gymnasium.spaces.Dict({"left": gymnasium.spaces.Discrete(2)})


class SeesPictures(Slider):
    """Observes a picture and a word beside its numbers, as robots' environments do."""

    observation_space = gymnasium.spaces.Dict(
        {
            "camera": gymnasium.spaces.Box(0, 255, (40, 60, 3), np.uint8),
            "mode": gymnasium.spaces.Discrete(3),
            "robot": gymnasium.spaces.Tuple(
                (gymnasium.spaces.Box(-2.0, 2.0, (2,)), gymnasium.spaces.Box(0.0, 9.0, ()))
            ),
            "task": gymnasium.spaces.Text(8),
        }
    )

    def _observation(self):
        return {"camera": self.render(), "mode": 2, "robot": (super()._observation(), 7.0), "task": "left"}


class SeesNothingElse(SeesPictures):
    observation_space = gymnasium.spaces.Dict({"camera": gymnasium.spaces.Box(0, 255, (40, 60, 3), np.uint8)})

    def _observation(self):
        return {"camera": self.render()}


class ShowsFloats(ShowsItsGoal):
    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation, {"goal": info["goal"] / 255}


class Unbounded(Restorable):
    """Takes any force, and feels no more than one."""

    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))

    def step(self, action):
        return super().step(np.clip(action, -1, 1))


class Whole(Slider):
    """Takes whole numbers alone, and keeps those that it took."""

    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.int64)
    taken: list[int] = []

    def step(self, action):
        assert self.action_space.contains(action)
        self.taken.append(int(action[0]))
        return super().step((action / 2).astype(np.float32))


class LosesSight(Slider):
    """Its second number is missing from the third step on."""

    looks = 0

    def reset(self, *, seed=None, options=None):
        self.looks = 0
        return super().reset(seed=seed, options=options)

    def _observation(self):
        self.looks += 1
        return np.array([self.place, self.speed if self.looks < 4 else np.nan], dtype=np.float32)


class LosesItself(Restorable):
    """A state that nothing can be restored from, and that its observations do not show."""

    def _observation(self):
        return np.array([self.place, 0.0], dtype=np.float32)

    def step(self, action):
        answer = super().step(action)
        self.speed = np.inf
        return answer


class WithoutOptions(Slider):
    def reset(self, *, seed=None):
        return super().reset(seed=seed)


class OldReset(Slider):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldStep(Slider):
    def step(self, action):
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class Breaks(Slider):
    def step(self, action):
        if abs(self.place) > 0:
            raise ValueError("the motor is hot")
        return super().step(action)


class NeedsALevel(Slider):
    def __init__(self, level, render_mode=None):
        super().__init__(render_mode)


class SaysItsRateInWords(Slider):
    metadata = {"render_modes": ["rgb_array"], "render_fps": "fast"}


class CountsInHalves(Slider):
    metadata = {"render_modes": ["rgb_array"], "render_fps": np.float32(12.5)}


def made(**arguments):
    """Environments need no class of their own."""
    return Slider(**arguments)


gymnasium.register("Made-v0", entry_point="kinds:made", max_episode_steps=30)
for kind in (WithoutOptions, OldReset, OldStep, Breaks, NeedsALevel, SaysItsRateInWords, CountsInHalves):
    gymnasium.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=30)
for kind in (SeesPictures, SeesNothingElse, ShowsFloats, Unbounded, Whole, LosesSight, LosesItself):
    gymnasium.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=30)
for kind in (Restorable, ShowsItsGoal, Achieves, AlwaysTheSame, Ends, Forgetful, HalfRestorable, NoInverse, Text, Wide):
    gymnasium.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=30)
