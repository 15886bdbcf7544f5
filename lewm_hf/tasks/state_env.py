"""What all environments share: a state vector that can be read and set, a goal in the same space, pictures of both."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from .measurable import Events, Target
from .variation import VariationSpace

RESET_OPTIONS = ("variation", "variation_values", "state", "goal", "goal_image")


class StateEnv(gymnasium.Env):
    """What planning, evaluation and collecting ask of an environment, whoever wrote it.

    `GoalEnv` is the base of environments that draw their own starts and goals; `AnyGymnasiumEnv` gives the interface to
    those that know nothing of this package. A subclass implements `reset` and `step`, and `get_state`, `_set_state`,
    `_observe`, `_draw` and `reached`. It may refine `_snapshot`/`_restore`, `_draw_state`, `recorded` and
    `draw_states`.

    What can be measured in it is unknown unless the subclass says it: `distance` and its `distance_unit`;
    `probe_targets` and `probe_values`; `events` and `teleport`; `crosses`, where its world has several rooms.

    Args:
        variation_space: the factors of variation.
        image_size: side of the rendered square in pixels.
        render_mode: `"rgb_array"`, the only one.
        compat: reproduce the reference environment's known defects; what that means is said per environment.

    Attributes:
        state_names: what each entry of the state vector is.
        success_rule: when a goal is reached, a formula with units.
        velocities: the part of the state vector that one picture cannot show.
        distance_unit, probe_targets, events: what can be measured; `"unknown"`, none and `None` by default.
        judge: who says whether a goal is reached: `"goal"`, the environment, whatever goal it was given; `"own goal"`,
            the environment, but only whether its own was; `"model"`, nobody but the model that is judged.
        knows_pairs: `reached` tells pairs of states apart, without an episode being run.
        own_goals: goals are the environment's own, shown at reset, and no state can be set as one.
        restorable: `set_state` restores any state by itself; otherwise it replays recorded actions, see `remember`.
        over: the episode has ended by itself, and steps change nothing any more.
        fit: how the rendered picture is made square, see `LeWMImageProcessor`; `None` where it is.

    Raises:
        ValueError: for an image size below 8 pixels or an unknown render mode.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}
    state_names: tuple[str, ...] = ()
    success_rule: str = ""
    velocities: slice = slice(0)
    distance_unit: str = "unknown"
    probe_targets: tuple[Target, ...] = ()
    events: Events | None = None
    judge: str = "goal"
    knows_pairs: bool = True
    own_goals: bool = False
    restorable: bool = True
    over: bool = False
    fit: str | None = None

    def __init__(
        self,
        variation_space: VariationSpace,
        *,
        image_size: int = 224,
        render_mode: str | None = "rgb_array",
        compat: bool = False,
    ):
        if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 8:
            raise ValueError(f"image_size={image_size!r} must be a whole number of pixels, 8 or more")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is unknown: use 'rgb_array'")
        self.variation_space = variation_space
        self.variation = variation_space.initial_values()
        self.image_size = int(image_size)
        self.render_mode = render_mode
        self.compat = compat
        self._goal: np.ndarray | None = None

    def render(self) -> np.ndarray:
        """The current scene: `(image_size, image_size, 3)` uint8."""
        return self._draw().copy()  # an environment may draw into the same array again

    # Goals and states

    @property
    def goal_state(self) -> np.ndarray | None:
        """Copy of the current goal, a state vector (float64); `None` where an environment may have none."""
        return self._require_goal().copy()

    def set_state(self, state: np.ndarray) -> None:
        """Restores a state vector, the exact inverse of `get_state`; nothing of the steps before survives.

        Raises:
            ValueError: for another shape or values that are not finite.
        """
        self._set_state(self.check_state(state))

    def set_goal(self, state: np.ndarray) -> None:
        """Sets the goal, a state vector; success is judged against it.

        Raises:
            ValueError: for another shape or values that are not finite.
        """
        self._goal = self.check_state(state, "goal")

    def is_success(self) -> bool:
        """Whether the current state reaches the current goal.

        Raises:
            ValueError: where there is no goal yet, or `reached` does not answer for each row.
        """
        found = np.asarray(self.reached(self.get_state()[None], self._require_goal()[None]))
        if found.shape != (1,):
            raise ValueError(
                f"{type(self).__name__}.reached says {found.tolist()} of one pair: return an array with an answer for "
                "each row of states and goals"
            )
        return bool(found[0])

    def goal_image(self, state: np.ndarray | None = None) -> np.ndarray:
        """The picture of `state` (default: the current goal), `(H, W, 3)` uint8. The current state stays untouched."""
        state = self._require_goal() if state is None else self.check_state(state)
        return self._draw_state(state).copy()

    @classmethod
    def render_batch(cls, envs: Sequence["StateEnv"], goals: bool = False) -> np.ndarray:
        """Pictures of many environments of this class, their goals instead if asked: `(n, H, W, 3)` uint8.

        Raises:
            ValueError: for an empty list.
        """
        if not envs:
            raise ValueError("no environments to render: give at least one")
        return np.stack([env.goal_image() if goals else env.render() for env in envs])

    def check_pictures(self, env_id: str) -> None:
        """Refuses pictures of another size than were asked for; to be called after the first `reset`.

        Raises:
            ValueError: naming both sizes.
        """
        height, width = self.render().shape[:2]
        if (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"{env_id} renders {height}x{width} pixels, but was asked for image_size={self.image_size}: let "
                "render() return pictures of that size"
            )

    def check_state(self, state: np.ndarray, name: str = "state") -> np.ndarray:
        """A float64 copy of a valid state vector.

        Raises:
            ValueError: for another shape or values that are not finite.
        """
        vector = _numeric(state, name).copy()
        if vector.shape != (len(self.state_names),):
            raise ValueError(
                f"{name} has shape {vector.shape}, expected ({len(self.state_names)},): {', '.join(self.state_names)}"
            )
        if not np.isfinite(vector).all():
            raise ValueError(f"{name}={vector.tolist()} must be finite: check the episode it comes from")
        return vector

    def check_action(self, action: np.ndarray) -> np.ndarray:
        """A valid action as float64; values outside the action space are left to the environment.

        Raises:
            ValueError: for another shape or values that are not finite.
        """
        vector = _numeric(action, "action")
        if vector.shape != self.action_space.shape:
            raise ValueError(f"action has shape {vector.shape}, expected {self.action_space.shape}")
        if not np.isfinite(vector).all():
            raise ValueError(f"action={vector.tolist()} must be finite: no action leaves the last row of an episode")
        return vector

    def at_rest(self, states: np.ndarray) -> np.ndarray:
        """Copies of states `(n, state)` with all velocities zero."""
        still = np.array(states, dtype=np.float64)
        still[..., self.velocities] = 0.0
        return still

    # What can be measured

    def distance(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray | None:
        """How far states are from goals in the terms of the task, which latent distances should rank alike.

        Args:
            states, goals: `(n, state)` each.

        Returns:
            `(n,)` in `distance_unit`; `None` where the environment does not say.
        """
        return None

    def probe_values(self, states: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
        """Values `(n, k)` of every one of `probe_targets`, by its name. The environment's own state may be spoilt.

        Args:
            states, previous: `(n, state)` each, one environment step apart.

        Raises:
            NotImplementedError: where the environment names no targets.
        """
        raise NotImplementedError(f"{type(self).__name__} has probe_targets but no probe_values: implement it")

    def teleport(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The state vector after the impossible move that `events` describes.

        Raises:
            NotImplementedError: where the environment has no such move.
            ValueError: where no place satisfies the rule.
        """
        raise NotImplementedError(f"{type(self).__name__} has events but no teleport: implement it")

    def crosses(self, starts: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Which pairs change rooms: `(n, state)` twice -> `(n,)` bool; all where there are no rooms."""
        return np.ones(len(starts), dtype=bool)

    # What is recorded

    def recorded(self, observation: Any) -> np.ndarray | None:
        """What an episode's `observation.state` holds of the current moment, a vector, or `None` where nothing is
        recorded of it; `observation` is what `reset` or `step` returned."""
        return observation

    def observe(self) -> Any:
        """The observation of the current moment, as `reset` and `step` return it."""
        return self._observe()

    def recorded_goal(self) -> np.ndarray | None:
        """What an episode's `observation.state` would hold at the current goal. The current state stays untouched."""
        snapshot = self._snapshot()
        self._set_state(self._require_goal())
        found = self.recorded(self.observe())
        self._restore(snapshot)
        return found

    def recorded_action(self, action: Any) -> np.ndarray:
        """What an episode's `action` holds of what a policy returned, a vector."""
        return action

    def remember(self, episodes: Any) -> None:
        """Called with the episodes (`EpisodeData`, or `None`) whose states will be set, before the first one is."""

    def draw_way(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Pictures of one episode: `(T + 1, state)`, `(T, action)` -> `(T + 1, H, W, 3)` uint8. The goal stays."""
        pictures = []
        for state in states:
            self.set_state(state)
            pictures.append(self.render())
        return np.stack(pictures)

    def draw_states(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Pictures of many states, `(n, state)` twice -> `(n, H, W, 3)` uint8. State and goal may be spoilt."""
        pictures = []
        for state, goal in zip(states, goals, strict=True):
            self.set_goal(goal)
            self.set_state(state)
            pictures.append(self.render())
        return np.stack(pictures)

    # For subclasses

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """The state vector (float64), as named by `state_names`."""

    @abstractmethod
    def reached(self, states: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """The success rule on many pairs: `(n, state)`, `(n, state)` -> `(n,)` bool."""

    @abstractmethod
    def _set_state(self, state: np.ndarray) -> None:
        """Restores a checked state vector."""

    @abstractmethod
    def _observe(self) -> np.ndarray:
        """The observation of the current state."""

    @abstractmethod
    def _draw(self) -> np.ndarray:
        """The picture of the current state."""

    def _snapshot(self) -> Any:
        """Whatever `_restore` needs to continue as if nothing had happened."""
        return np.array(self.get_state())  # not what the environment may write to meanwhile

    def _restore(self, snapshot: Any) -> None:
        self._set_state(snapshot)

    def _draw_state(self, state: np.ndarray) -> np.ndarray:
        """The picture of another state; the current one is put back."""
        snapshot = self._snapshot()
        self._set_state(state)
        image = self._draw()
        self._restore(snapshot)
        return image

    def _require_goal(self) -> np.ndarray:
        if self._goal is None:
            raise ValueError("the environment has no goal yet: call reset() or set_goal(state) first")
        return self._goal


def _numeric(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={values!r} is not a numeric vector") from error
