"""Any gymnasium environment that renders, with the interface of `StateEnv`: no class to write, nothing to register.

`make_env("Pendulum-v1")`, `make_env("my_package:MyTask-v0")` and every command that takes a task come here.
"""

from collections.abc import Mapping
from functools import cached_property
from inspect import Parameter, signature
from typing import Any

import gymnasium
import numpy as np

from ..pictures import FITS
from .action_vectors import ActionVectors
from .asked_gymnasium import asked_to_reset, asked_to_step
from .drawn_gymnasium import checked_picture, make_drawn, picture_of, squared, stated_rate
from .gymnasium_states import REPLAYED, Replay, own_state, own_state_names
from .measurable import Events
from .observation_vectors import vector_part
from .state_env import RESET_OPTIONS, StateEnv
from .variation import Integers, VariationSpace

# Reset seeds: whole numbers that a manifest of start-goal pairs may hold.
RESET_SEEDS = 1_000_000_000
EVENT_STEPS = 100
LIGHT = "picture.light"


class AnyGymnasiumEnv(StateEnv):
    """Wraps an environment that knows nothing of this package.

    States. With `get_state()` and `set_state(vector)` on the unwrapped environment, exact inverses, a state is that
    vector. Without them it is `(reset seed, steps since)`, and is restored by replaying actions: those of the episodes
    given to `remember`, or its own.

    Goals. A state of the episodes, unless the environment cannot restore states and shows a goal of its own: a picture
    in the `info["goal"]` of `reset`. An environment learns which goal is asked for by its `set_goal(state)`, or, where
    observations have an `achieved_goal` (gymnasium-robotics), by its attribute `goal`.

    Success. The unwrapped environment's `is_success()`, else `info["is_success"]`; `judge` says what it is worth.

    Actions are vectors: a `Box` flattened and kept within its bounds, a choice as one-hot groups (`OneHot`).

    Args:
        env_id: gymnasium id, with its module before it where that registers it.
        image_size: side of the square picture in pixels.
        render_mode: `"rgb_array"`.
        fit: how pictures that are not square become so: `"stretch"`, `"crop"` or `"pad"`.
        compat: has no meaning here; only `False`.
        **kwargs: of the environment's constructor.

    Attributes:
        env: the environment, with its wrappers but no time limit.
        observation: what it returned last.
        over: it has terminated; further steps change nothing.

    Raises:
        ValueError: one line for an environment that renders no pictures, an action space that is no vector,
            `set_state` without `get_state` or the other way round, or that are no inverses.
        ImportError: one line where the environment lacks a library.
    """

    def __init__(
        self,
        env_id: str,
        *,
        image_size: int = 224,
        render_mode: str | None = "rgb_array",
        fit: str = "stretch",
        compat: bool = False,
        **kwargs: Any,
    ):
        light = Integers(initial=np.array([255, 255, 255]), low=0, high=255)
        super().__init__(VariationSpace({LIGHT: light}), image_size=image_size, render_mode=render_mode, compat=compat)
        if fit not in FITS:
            raise ValueError(f"fit={fit!r} is unknown: use one of {', '.join(FITS)}")
        self._fit, self._arguments = fit, dict(image_size=image_size, fit=fit, **kwargs)
        self.env_id = env_id
        self.env = make_drawn(env_id, kwargs)
        self._vectors = ActionVectors.of(self.env.action_space, env_id)
        self.action_space, self.observation_space = self._vectors.space, self.env.observation_space
        self._replay = Replay(env_id)
        self._achieved: np.ndarray | None = None
        self._begin(0)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": stated_rate(self.env, env_id)}
        height, width = picture_of(self.env, self.env_id).shape[:2]
        # What an image processor repeats at planning time; nothing where pictures are square by themselves.
        self.fit = None if height == width else fit
        self._learn_states()
        self._learn_goals()

    # What the environment can do, found out once

    def _learn_states(self) -> None:
        names = own_state_names(self.env, self.env_id)
        self.restorable = names is not None
        self.state_names = REPLAYED if names is None else names
        steps = self.env.spec.max_episode_steps if self.env.spec is not None else None
        self.events = Events(
            "random", min(steps or EVENT_STEPS, EVENT_STEPS), LIGHT, "the light",
            "the whole scene, to the start of another episode",
        )  # fmt: skip

    def _learn_goals(self) -> None:
        inner = self.env.unwrapped
        self.own_goals = not self.restorable and self._shown_goal is not None
        if self.own_goals:
            self.goal_image()  # refused here, before any work
        observed = isinstance(self.observation, Mapping) and "achieved_goal" in self.observation
        self._achieves = observed and hasattr(inner, "goal")
        self._told = self.restorable and callable(getattr(inner, "set_goal", None))
        self._method = _without_arguments(getattr(inner, "is_success", None))
        action = self._vectors.action(self._vectors.vector(self.env.action_space.sample()))
        *_, info = asked_to_step(self.env, self.env_id, action)
        self._reports = "is_success" in info
        self._begin(0)
        if not self._method and not self._reports:
            self.judge = "model"
        elif self.own_goals or self._told or self._achieves:
            self.judge = "goal"
        else:
            self.judge = "own goal"
        known = "is_success() of the environment" if self._method else 'info["is_success"]'
        self.success_rule = "unknown to the environment" if self.judge == "model" else known
        self.knows_pairs = self.judge == "goal" and self.restorable and self._method

    # Gymnasium's interface

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode, always from a seed. See `GoalEnv.reset`; options that it does not know go further down."""
        gymnasium.Env.reset(self, seed=seed)
        options = dict(options or {})
        own = {name: options.pop(name) for name in RESET_OPTIONS if name in options}
        self.variation = self.variation_space.sample(self.np_random, own.get("variation"), own.get("variation_values"))
        if "state" in own:  # before anything is forgotten that leads there
            state = self.check_state(own["state"])
            if self.restorable:
                self._begin(int(self.np_random.integers(RESET_SEEDS)), options)
            self.set_state(state)
        else:
            self._goal = None
            self._begin(int(self.np_random.integers(RESET_SEEDS) if seed is None else seed % RESET_SEEDS), options)
        if own.get("goal") is not None:
            self.set_goal(own["goal"])
        info = self._described({})
        if own.get("goal_image", True) and (self.own_goals or self._goal is not None):
            info["goal"] = self.goal_image()
        return self.observation, info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of an action vector. Once the episode is over, nothing happens any more."""
        if self.over:
            return self.observation, 0.0, True, False, self._described({})
        vector = self._vectors.vector(action)
        reward, terminated, truncated, info = self._move(vector)
        return self.observation, reward, terminated, truncated, self._described(info)

    def render(self) -> np.ndarray:
        """The current scene: `(image_size, image_size, 3)` uint8."""
        return self._draw()

    def close(self) -> None:
        if "_twin" in self.__dict__:
            self._twin.close()
        self.env.close()

    # Goals and states

    @property
    def goal_state(self) -> np.ndarray | None:
        """Copy of the goal that was set, `None` where none was: there is nothing that it could be sampled from."""
        return None if self._goal is None else self._goal.copy()

    def get_state(self) -> np.ndarray:
        return own_state(self.env) if self.restorable else self._replay.state()

    def set_goal(self, state: np.ndarray) -> None:
        """Sets the goal, a state vector, and tells the environment where it listens."""
        super().set_goal(state)
        self._achieved = None
        self._tell()

    def is_success(self) -> bool:
        """What the environment says of the present moment; `False` where it says nothing, see `judge`."""
        if self._method:
            return bool(self.env.unwrapped.is_success())
        return self._reported

    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """The success rule on many pairs, `(n, state)` twice -> `(n,)` bool: all `False` without `knows_pairs`."""
        found = np.zeros(len(states), dtype=bool)
        if self.knows_pairs:
            for row, (state, goal) in enumerate(zip(states, goals, strict=True)):
                self.set_goal(goal)
                self.set_state(state)
                found[row] = self.is_success()
        return found

    def goal_image(self, state: np.ndarray | None = None) -> np.ndarray:
        """The picture of `state` (default: the current goal), `(H, W, 3)` uint8. The current state stays untouched."""
        if state is None and self.own_goals and self._shown_goal is not None:
            return self._square(checked_picture(self._shown_goal, f'info["goal"] of {self.env_id} is'))
        return super().goal_image(state)

    def remember(self, episodes: Any) -> None:
        """Takes actions of recorded episodes, by which their states are reached again from a seeded reset.

        Args:
            episodes: an `EpisodeData` of this environment, or `None`.

        Raises:
            ValueError: where the recorded pictures are not what comes back.
        """
        if not (self.restorable or episodes is None):
            self._replay.remember(episodes)

    def draw_way(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        if self.restorable:
            return super().draw_way(states, actions)
        self.set_state(states[0])
        pictures = [self.render()]
        for action in actions:
            self.step(action)
            pictures.append(self.render())
        return np.stack(pictures)

    def at_rest(self, states: np.ndarray) -> np.ndarray:
        raise ValueError(
            f"{self.env_id} does not say which of its states are velocities, so no start can be at rest: use "
            "rest_start=false, or write a GoalEnv"
        )

    # What is recorded and measured

    def recorded(self, observation: Any) -> np.ndarray | None:
        """The observation as a vector, without what of it is a picture or text; `None` where nothing is left."""
        numbers = vector_part(self.env.observation_space, observation)
        return numbers if len(numbers) else None

    def recorded_action(self, action: Any) -> np.ndarray:
        return self._vectors.vector(action)

    def teleport(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seed = int(rng.integers(RESET_SEEDS))
        if not self.restorable:
            return np.array([seed, 0], dtype=np.float64)
        self._twin._begin(seed)
        return self._twin.get_state()

    # Inside

    @cached_property
    def _twin(self) -> "AnyGymnasiumEnv":
        """A second environment, in which other states are looked at."""
        return AnyGymnasiumEnv(self.env_id, **self._arguments)

    def _begin(self, seed: int, options: Mapping[str, Any] | None = None) -> None:
        self.over = False
        self._replay.begin(seed)
        self.observation, info = asked_to_reset(self.env, self.env_id, seed, options)
        self._reported = bool(info.get("is_success", False))
        shown = info.get("goal")
        self._shown_goal = shown if isinstance(shown, np.ndarray) and shown.ndim == 3 else None

    def _move(self, vector: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self._replay.taken.append(vector)
        action = self._vectors.action(vector)
        self.observation, reward, terminated, truncated, info = asked_to_step(self.env, self.env_id, action)
        self._reported = bool(info.get("is_success", False))
        self.over = terminated or truncated
        return reward, terminated, truncated, info

    def _set_state(self, state: np.ndarray) -> None:
        if self.restorable:
            self.env.unwrapped.set_state(state.copy())
            self.over, self._reported = False, False
        else:
            seed, actions = self._replay.way(state)
            self._begin(seed)
            for vector in actions:
                self._move(np.asarray(vector, dtype=np.float32))
        self._tell()

    def _tell(self) -> None:
        """Lets the environment know the goal, which its reset may have replaced."""
        if self._goal is None or self.own_goals:
            return
        inner = self.env.unwrapped
        if self._told:
            inner.set_goal(self._goal.copy())
        elif self._achieves:
            if self._achieved is None:
                self._twin._replay.known = self._replay.known
                self._twin.set_state(self._goal)
                self._achieved = np.array(self._twin.observation["achieved_goal"], copy=True)
            inner.goal = self._achieved.copy()

    def _draw_state(self, state: np.ndarray) -> np.ndarray:
        if self.restorable:
            return super()._draw_state(state)
        self._twin._replay.known, self._twin.variation = self._replay.known, self.variation
        self._twin.set_state(state)
        return self._twin.render()

    def _draw(self) -> np.ndarray:
        return self._square(picture_of(self.env, self.env_id))

    def _square(self, picture: np.ndarray) -> np.ndarray:
        pixels = squared(picture, self.image_size, self._fit)
        light = np.asarray(self.variation[LIGHT], dtype=np.uint16)
        return pixels if (light == 255).all() else (pixels * light // 255).astype(np.uint8)

    def _described(self, info: Mapping[str, Any]) -> dict[str, Any]:
        return {**info, "state": self.get_state(), "success": self.is_success()}

    def _observe(self) -> Any:
        return self.observation


def _without_arguments(method: Any) -> bool:
    """Whether a method can be called with nothing."""
    if not callable(method):
        return False
    needed = [p for p in signature(method).parameters.values() if p.default is Parameter.empty]
    return not [p for p in needed if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
