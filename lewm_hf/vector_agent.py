"""A policy in gymnasium's vector environments: whichever way they reset themselves, each episode has its own goal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .planning.block_policy import BlockPolicy
from .planning.horizon import check_steps_left
from .proprioception_lewm import size_of
from .tasks.action_vectors import ActionVectors

# Values of `gymnasium.vector.AutoresetMode`.
NEXT_STEP, SAME_STEP, DISABLED = MODES = ("NextStep", "SameStep", "Disabled")


class VectorAgent:
    """Acts in a gymnasium vector environment, and tells its policy where episodes begin and end.

        envs = gymnasium.make_vec("lewm/TwoRoom-v0", num_envs=4)
        agent = VectorAgent(MPCPolicy(model, processor, num_envs=4), envs)
        agent.reset(seed=0)
        for _ in range(100):
            observations, rewards, terminated, truncated, infos = agent.step()

    A policy alone cannot see that an environment has begun another episode: it would go on towards the goal of the last
    one. Here each episode starts with its own goal, without history, and with noise of its own, in all three modes of
    `gymnasium.vector.AutoresetMode`:
        next step: the environment that has ended is reset by the following step, for which nothing is planned.
        same step: the step that ends an episode begins the next one.
        disabled: who calls resets those that have ended, `agent.reset(options={"reset_mask": mask})`, before the next
            step.

    Args:
        policy: an `MPCPolicy` or `ActorPolicy` of as many environments. Where neither it nor the checkpoint has action
            bounds, those of `envs` become its own.
        envs: a `gymnasium.vector.VectorEnv` whose `render` returns one picture for each environment, wrapped or not.
        goals: the name of the goal picture in the infos of a reset, or a function `(env_ids) -> pictures` of the
            environments that have just been reset.
        steps_left: environment steps until each goal is due, if somebody knows.
        render: returns the current pictures, one for each environment; default: `envs.render`. Of a model that sees
            several cameras, pictures and goals come by camera, `{"top": (N, H, W, 3), "wrist": ...}`.
        proprioception: of a model that was trained with it: observations of `envs` -> `(N, P)`, what each robot reports
            of itself in the units of the recordings.
        goal_proprioception: likewise, infos of a reset -> `(N, P)` at the goals.

    Attributes:
        actions: `(N, action_dim)` float32 that were taken last, in environment units; NaN where none was.

    Raises:
        ValueError: for another number of environments than the policy's, one that does not say how it resets itself or
            draws no pictures, actions of another size than the model's, proprioception where the model wants none or
            the other way round, or arguments that are of another kind.
    """

    def __init__(
        self,
        policy: BlockPolicy,
        envs: Any,
        *,
        goals: str | Callable[[Sequence[int]], Sequence] = "goal",
        steps_left: int | None = None,
        render: Callable[[], Sequence] | None = None,
        proprioception: Callable[[Any], np.ndarray] | None = None,
        goal_proprioception: Callable[[Mapping[str, Any]], np.ndarray] | None = None,
    ):
        if not hasattr(policy, "wants_frame"):
            raise ValueError(
                f"policy of type {type(policy).__name__} acts in no environments: give an MPCPolicy or an ActorPolicy"
            )
        if not hasattr(envs, "num_envs"):
            raise ValueError(
                f"envs of type {type(envs).__name__} is no vector environment: make one with gymnasium.make_vec, also "
                "of a single environment"
            )
        if not (isinstance(goals, str) or callable(goals)):
            raise ValueError(
                f"goals of type {type(goals).__name__} must be a name in the infos of a reset, or a function of the "
                "environments: every episode has its own"
            )
        if policy.num_envs != envs.num_envs:
            raise ValueError(
                f"the policy acts in {policy.num_envs} environments, but there are {envs.num_envs}: make it with "
                f"num_envs={envs.num_envs}"
            )
        mode = envs.metadata.get("autoreset_mode")
        self.mode = getattr(mode, "value", mode)
        if self.mode not in MODES:
            raise ValueError(
                f"metadata['autoreset_mode']={mode!r} of the vector environment is none of {', '.join(MODES)}: without "
                "it nobody knows when an episode begins"
            )
        if render is None and envs.render_mode != "rgb_array":
            raise ValueError(
                f"render_mode={envs.render_mode!r} draws no pictures: make it with render_mode='rgb_array'"
            )
        self._vectors = ActionVectors.of(envs.single_action_space, "the vector environment")
        size, expected = self._vectors.space.shape[0], policy.model.config.action_dim
        if size != expected:
            raise ValueError(f"actions have {size} entries here and {expected} in the model: take the task it is of")
        functions = proprioception, goal_proprioception
        if policy.wants_proprioception != all(functions) or any(functions) != all(functions):
            raise ValueError(
                "this model wants proprioception and goal_proprioception: give functions that return them"
                if policy.wants_proprioception
                else "this model was trained on pictures alone: leave proprioception away"
            )
        if self._vectors.space.is_bounded():
            policy.keep_within(self._vectors.space.low.tolist(), self._vectors.space.high.tolist())
        self.policy, self.envs, self.steps_left = policy, envs, check_steps_left(steps_left)
        self.actions = np.full((envs.num_envs, expected), np.nan, dtype=np.float32)
        self._goals, self._render = goals, envs.render if render is None else render
        self._proprioception, self._goal_proprioception = functions
        self._begun: np.ndarray | None = None  # how many episodes each environment has begun
        self._over = np.zeros(envs.num_envs, dtype=bool)
        self._observations: Any = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environments, those of `options["reset_mask"]` where it is given: as `envs.reset`, whose
        observations and infos it returns.

        Raises:
            ValueError: where an environment shows no goal.
        """
        mask = (options or {}).get("reset_mask")
        begins = np.ones(self.policy.num_envs, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        self._observations, infos = self.envs.reset(seed=seed, options=options)
        if self._begun is None or mask is None:
            self._begun = np.zeros(self.policy.num_envs, dtype=np.int64)
        self._over &= ~begins
        self._begin(begins, infos)
        return self._observations, infos

    def step(self) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Chooses one action for every environment and takes it: what `envs.step` returns.

        Raises:
            ValueError: before the first reset, where episodes have ended that nobody resets, or where an environment
                that has been reset shows no goal.
        """
        if self._begun is None:
            raise ValueError("no episode has begun: call reset() first")
        if self.mode == DISABLED and self._over.any():
            raise ValueError(
                f"the episodes of environments {np.flatnonzero(self._over).tolist()} are over, and this vector "
                "environment does not reset itself: call reset(options={'reset_mask': mask})"
            )
        space = self._vectors.space
        self.actions = np.clip(self.policy.act(*self._look()), space.low, space.high)
        # Some also where an episode is over: wrappers may look at them.
        taken = [self._vectors.action(vector) for vector in np.clip(np.nan_to_num(self.actions), space.low, space.high)]
        stepped = self.envs.step(np.stack(taken))
        self._observations, _, terminated, truncated, infos = stepped
        ended = np.asarray(terminated, dtype=bool) | np.asarray(truncated, dtype=bool)
        begins = {NEXT_STEP: self._over, SAME_STEP: ended, DISABLED: np.zeros_like(ended)}[self.mode]
        self._over = ended & ~begins
        self.policy.release(np.flatnonzero(self._over).tolist())
        self._begin(begins, infos)
        return stepped

    def _look(self) -> tuple[dict[int, Any], ...]:
        """Pictures of the environments that the policy wants to see, and what their robots report of themselves."""
        wanted = np.flatnonzero(self.policy.wants_frame()).tolist()
        if not wanted:
            return ({},)
        pictures = self._render()
        seen = {env_id: _of_one(pictures, env_id) for env_id in wanted}
        if self._proprioception is None:
            return (seen,)
        reported = self._reported(self._proprioception(self._observations), "proprioception(observations)")
        return seen, {env_id: reported[env_id] for env_id in wanted}

    def _reported(self, values: Any, name: str) -> np.ndarray:
        """`(N, P)` as it was given, a row for each environment."""
        values = np.asarray(values)
        expected = self.policy.num_envs, size_of(self.policy.model.config)
        if values.shape != expected:
            raise ValueError(f"{name} has shape {values.shape}: expected {expected}, one row for each environment")
        return values

    def _begin(self, begins: np.ndarray, infos: Mapping[str, Any]) -> None:
        env_ids = np.flatnonzero(begins).tolist()
        if not env_ids:
            return
        assert self._begun is not None, "an episode begins after a reset"
        self._begun += begins
        beside = {}
        if self._goal_proprioception is not None:
            at_goals = self._reported(self._goal_proprioception(infos), "goal_proprioception(infos)")
            beside["goal_proprioception"] = at_goals[env_ids]
        self.policy.reset(
            env_ids,
            [f"environment {env_id}, episode {self._begun[env_id]}" for env_id in env_ids],
            self._pictures(env_ids, infos),
            steps_left=self.steps_left,
            **beside,
        )

    def _pictures(self, env_ids: Sequence[int], infos: Mapping[str, Any]) -> Sequence:
        if callable(self._goals):
            return self._goals(env_ids)
        shown = infos.get(self._goals)
        # Gymnasium marks whose entries are real.
        known = infos.get(f"_{self._goals}", np.full(self.policy.num_envs, shown is not None))
        missing = [env_id for env_id in env_ids if not known[env_id]]
        if missing or shown is None:
            raise ValueError(
                f"environments {missing or list(env_ids)} show no goal in infos[{self._goals!r}] of their reset: give "
                "its name, or a function, as goals="
            )
        return [_of_one(shown, env_id) for env_id in env_ids]


def _of_one(pictures: Any, env_id: int) -> Any:
    """One environment's picture, or by camera its pictures."""
    if not isinstance(pictures, Mapping):
        return pictures[env_id]
    marks = {f"_{name}" for name in pictures}  # in infos: whose entries are real
    return {name: of_all[env_id] for name, of_all in pictures.items() if name not in marks}
