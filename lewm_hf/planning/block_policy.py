"""What policies share that look once per action block: episodes side by side, frames, goals, deadlines."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..plain_numbers import plain
from ..proprioception_lewm import beside_pictures, size_of
from ..world_models.base import WorldModel, device_of
from .frames import check_same_size, encode_frames, frame_size, observe_frames, several_pictures
from .goal_embeddings import read_embedding
from .horizon import blocks_until, check_steps_left
from .noise import Problem, check_problem
from .world_model import check_ready


@dataclass
class Episode:
    """What a policy knows about the problem that one environment is working on.

    Args:
        goal: `(*latent)` or `(G, *latent)`; `goal_features` `(F,)` where they are wanted and known; `goal_size` of its
            picture.
        due: environment steps after which the goal is due, `None` where nobody said.
        taken: environment steps so far.
        decisions: plans made so far.
        latents: of the last frames, one per block boundary; `executed`, the z-scored blocks between them; `features`
            `(F,)` of the last frame.
        blocks: `(horizon, A)` the current plan as it was found, and `executable` as it can be executed; that one in
            environment units is `planned` `(horizon * frameskip, action_dim)`, and `actions` `(steps, action_dim)` what
            of it will be executed; `step`, how many of them were.
    """

    problem: Problem
    goal: Tensor
    goal_features: Tensor | None = None
    goal_size: tuple[int, int] | None = None
    due: int | None = None
    taken: int = 0
    decisions: int = 0
    latents: list[Tensor] = field(default_factory=list)
    executed: list[Tensor] = field(default_factory=list)
    features: Tensor | None = None
    blocks: Tensor | None = None
    executable: Tensor | None = None
    planned: np.ndarray | None = None
    actions: np.ndarray | None = None
    step: int = 0


class BlockPolicy(ABC):
    """Acts in N environments side by side; each works on its own problem, unaffected by the others.

        policy.reset(env_ids, problems=ids, goals=goal_frames)
        while running:
            wanted = policy.wants_frame()                          # (N,) bool: render only these
            actions = policy.act(render(np.flatnonzero(wanted)))   # (N, action_dim), environment units

    It cannot see where an episode ends: `reset` begins the next one, `release` ends one for good. `VectorAgent` calls
    them for gymnasium's vector environments.

    Args:
        model: the world model, in eval mode, with action statistics in its config.
        processor: `LeWMImageProcessor` of the checkpoint.
        num_envs: N.
        context_frames: frames that a decision looks at; fewer until an episode has as many.
        longest: blocks until the goal where nobody says when it is due, and `retry` does not either.
        sees_features: whether decisions look at the encoder's features too.
        retry: blocks that a goal is given anew, again and again, once it is overdue, and from the start where nobody
            says when it is due; `None`: an overdue goal always has the shortest time.

    Raises:
        ValueError: for a model that is not ready to plan, no processor, or `num_envs` or `retry` below 1.
    """

    def __init__(
        self, model: WorldModel, processor: Any, *, num_envs: int, context_frames: int, longest: int,
        sees_features: bool, retry: int | None = None,
    ):  # fmt: skip
        check_ready(model)
        if not callable(processor):
            raise ValueError(
                f"processor={processor!r} reads no pictures: give the image processor saved with the model"
            )
        num_envs, retry = plain(num_envs), plain(retry)
        for name, value in (("num_envs", num_envs), ("retry", retry)):
            if not (name == "retry" and value is None) and (type(value) is not int or value < 1):
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        self.model, self.processor, self.context_frames = model, processor, context_frames
        self.longest, self.sees_features, self.retry = longest, sees_features, retry
        self.plans = 0  # decisions made so far, for timing
        # A tenth faster than `no_grad` where operations are many and small; forbids gradients altogether.
        self._unrecorded: Callable[[], AbstractContextManager[None]] = torch.inference_mode
        self._episodes: list[Episode | None] = [None] * num_envs

    @property
    def num_envs(self) -> int:
        return len(self._episodes)

    @abstractmethod
    def _decide(self, episodes: list[Episode]) -> None:
        """Chooses blocks for episodes that have nothing left to execute: calls `_follow` for each."""

    @abstractmethod
    def keep_within(self, low: Sequence[float], high: Sequence[float]) -> None:
        """Bounds of what the environments execute, `(action_dim,)` each, where neither the config nor whoever made this
        policy states any: a model that is told of other actions than were executed expects another future.

        Raises:
            ValueError: for bounds of another shape.
        """

    def reset(
        self,
        env_ids: Sequence[int],
        problems: Sequence[Problem],
        goals: Sequence | np.ndarray | Tensor | None = None,
        *,
        goal_embeddings: Sequence | np.ndarray | Tensor | None = None,
        goal_proprioception: Sequence | np.ndarray | Tensor | None = None,
        steps_left: Sequence[int | None] | int | None = None,
    ) -> None:
        """Starts new problems in these environments; forgets everything about their old ones and nothing else.

        Args:
            env_ids: `(n,)` environments.
            problems: `(n,)` names or numbers; they, not the environment, decide the planner's noise.
            goals: `(n, H, W, 3)` goal pictures, or anything the processor reads; `(n, G, H, W, 3)`, or lists of
                pictures, where a problem has several, none of them exact. Encoded here, once per episode.
            goal_embeddings: `(n, *latent)` or `(n, G, *latent)`, or a list of n of either kind, instead of pictures.
            goal_proprioception: of models with it: what the robot reports of itself at each goal, `(n, N)` in the units
                of the recordings; beside several pictures of one goal it is the same.
            steps_left: environment steps until the goal is due, one number or `(n,)`. Where nobody knows (`None`), a
                policy treats it as an overdue goal that it gives time anew; if it gives none, as one that is due at the
                end of its longest horizon.

        Raises:
            ValueError: for an environment that does not exist or is named twice, different numbers of entries, a goal
                without a picture, pictures of different sizes, or a negative deadline.
        """
        given = goals if goal_embeddings is None else goal_embeddings
        if given is None or (goals is not None and goal_embeddings is not None):
            raise ValueError("give either goals or goal_embeddings")
        goals_name = "goals" if goal_embeddings is None else "goal_embeddings"
        for name, values in (("env_ids", env_ids), ("problems", problems), (goals_name, given)):
            _check_several(name, values)
        env_ids = [self._check_env(env_id) for env_id in env_ids]
        if len(set(env_ids)) < len(env_ids):
            raise ValueError(f"environments {env_ids} repeat: give each once")
        if not len(env_ids) == len(problems) == len(given):
            raise ValueError(
                f"{len(env_ids)} environments got {len(problems)} problems and {len(given)} goals: give one for each"
            )
        due = _each(steps_left, len(env_ids))
        if len(due) != len(env_ids):
            raise ValueError(f"{len(env_ids)} environments got {len(due)} deadlines: give one number, or one for each")
        due = [check_steps_left(one) for one in due]
        problems = [check_problem(problem) for problem in problems]
        if not env_ids:
            return
        latents: Sequence[Tensor]
        sizes: Sequence[tuple[int, int] | None]
        features: Sequence[Tensor | None]
        sizes = features = [None] * len(env_ids)
        if goal_embeddings is not None:
            latents = [read_embedding(one, "goal_embeddings").to(self._device) for one in goal_embeddings]
        elif goals is not None:
            body = beside_pictures(goal_proprioception, len(goals), self.model.config, "goal_proprioception")
            latents, features, sizes = self._encode_goals(goals, body)
        for position, env_id in enumerate(env_ids):
            self._episodes[env_id] = Episode(
                problems[position], latents[position], features[position], sizes[position], due[position]
            )

    def release(self, env_ids: Sequence[int]) -> None:
        """Ends the problems of these environments: no more frames, plans or actions until the next reset."""
        for env_id in env_ids:
            self._episodes[self._check_env(env_id)] = None

    def wants_frame(self) -> np.ndarray:
        """`(N,)` bool: environments whose current picture `act` needs."""
        return np.array([episode is not None and self._wants_frame(episode) for episode in self._episodes])

    def act(
        self,
        frames: Mapping[int, object] | Sequence | np.ndarray | Tensor = (),
        proprioception: Mapping[int, object] | Sequence | np.ndarray | Tensor | None = None,
    ) -> np.ndarray:
        """The next action of every environment, `(N, action_dim)` float32 in environment units; NaN where none runs.

        Args:
            frames: pictures of the environments that `wants_frame` names, as `(n, H, W, 3)` in their order or as a
                mapping from environment to picture.
            proprioception: of models with it, `(n, N)` or a mapping likewise: what the robot reports of itself beside
                each of these pictures, in the units of the recordings.

        Raises:
            ValueError: when a frame is missing or one was not asked for, or of another size than the others; when
                proprioception is missing, or given to a model of pictures alone.
        """
        wanted = np.flatnonzero(self.wants_frame()).tolist()
        if isinstance(frames, Mapping):
            if sorted(frames) != wanted:
                raise ValueError(
                    f"frames of environments {sorted(frames)} came, {wanted} are needed: see wants_frame()"
                )
            frames = [frames[env_id] for env_id in wanted]
        _check_several("frames", frames)
        if len(frames) != len(wanted):
            raise ValueError(f"{len(frames)} frames came, but environments {wanted} need one each: see wants_frame()")
        looking = [self._running(env_id) for env_id in wanted]
        for episode, frame in zip(looking, frames, strict=True):
            if episode.goal_size is not None:
                check_same_size(frame_size(frame), episode.goal_size)
        if wanted:
            if isinstance(proprioception, Mapping):
                proprioception = [proprioception[env_id] for env_id in wanted if env_id in proprioception]
            body = beside_pictures(proprioception, len(wanted), self.model.config, "proprioception")
            with self._unrecorded():
                self._look(looking, frames, body)
        actions = np.full((self.num_envs, self.model.config.action_dim), np.nan, dtype=np.float32)
        for env_id, acting in enumerate(self._episodes):
            if acting is not None:
                actions[env_id] = self._advance(acting)
        return actions

    def _look(self, looking: list[Episode], frames: Sequence | np.ndarray | Tensor, body: Tensor | None) -> None:
        for episode, latent, features in zip(looking, *self._encode(frames, body), strict=True):
            episode.latents = [*episode.latents, latent][-self.context_frames :]
            episode.features = features
        due = [episode for episode in looking if episode.actions is None or episode.step == len(episode.actions)]
        self._decide(due)
        self.plans += len(due)

    def blocks_left(self, episode: Episode) -> int:
        """Action blocks until the goal is due; once it should have been reached, 0 or what `retry` gives it."""
        frameskip = self.model.config.frameskip
        due = episode.due
        if due is None:
            due = self.longest * frameskip if self.retry is None else 0
        if self.retry is not None and episode.taken >= due:
            return self.retry - (episode.taken - due) // frameskip % self.retry
        return blocks_until(due - episode.taken, frameskip)

    def _follow(
        self,
        episode: Episode,
        blocks: Tensor,
        actions: Tensor,
        execute: int | None = None,
        executable: Tensor | None = None,
    ) -> None:
        """`blocks` `(T, A)` were decided, in environment units `actions` `(steps, action_dim)`, of which the first
        `execute` (default: all) will be executed before the next decision; `executable` `(T, A)` are these actions
        z-scored, where bounds make them others than `blocks`."""
        episode.planned = actions.cpu().numpy()
        episode.blocks, episode.actions, episode.step = blocks, episode.planned[:execute], 0
        episode.executable = blocks if executable is None else executable
        episode.decisions += 1

    def _wants_frame(self, episode: Episode) -> bool:
        if episode.actions is None:
            return True
        block, within = divmod(episode.step, self.model.config.frameskip)
        # Frames between two decisions matter only as context of the next one.
        return within == 0 and len(episode.actions) // self.model.config.frameskip - block < self.context_frames

    def _advance(self, episode: Episode) -> np.ndarray:
        assert episode.actions is not None and episode.executable is not None, "an action before the first decision"
        action = episode.actions[episode.step]
        episode.step += 1
        episode.taken += 1
        block, within = divmod(episode.step, self.model.config.frameskip)
        if within == 0 and self.context_frames > 1:
            episode.executed = [*episode.executed, episode.executable[block - 1]][1 - self.context_frames :]
        return action

    def _encode_goals(
        self, goals: Sequence | np.ndarray | Tensor, body: Tensor | None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor | None], list[tuple[int, int]]]:
        """Latents, features and picture sizes by problem; several pictures of one have latents `(G, *latent)`."""
        several = [several_pictures(goal) for goal in goals]
        if not any(several):
            return *self._encode(goals, body), [frame_size(goal) for goal in goals]
        pictures = [list(goal) if many else [goal] for goal, many in zip(goals, several, strict=True)]
        if not all(pictures):
            raise ValueError("a problem has no goal picture: give at least one")
        sizes = [frame_size(of_one[0]) for of_one in pictures]
        for (height, width), of_one in zip(sizes, pictures, strict=True):
            for other in map(frame_size, of_one):
                if other != (height, width):
                    raise ValueError(
                        f"goal pictures of one problem are {height}x{width} and {other[0]}x{other[1]} pixels: take all "
                        "with the same camera, or resize them first"
                    )
        counts = [len(of_one) for of_one in pictures]
        body = None if body is None else body.repeat_interleave(torch.tensor(counts), 0)
        latents, features = self._encode([picture for of_one in pictures for picture in of_one], body)
        firsts = np.cumsum([0, *counts[:-1]])
        # An actor knows one goal.
        features = [features[first] if count == 1 else None for first, count in zip(firsts, counts, strict=True)]
        latents = [
            latents[first : first + count] if many else latents[first]
            for first, count, many in zip(firsts, counts, several, strict=True)
        ]
        return latents, features, sizes

    def ahead(self, env_id: int) -> np.ndarray:
        """`(steps, action_dim)` what the current plan holds from the next step on, in environment units: what will be
        executed before the next look, and what would follow if nobody looked. Empty before the first plan."""
        episode = self._episodes[self._check_env(env_id)]
        if episode is None or episode.planned is None:
            return np.empty((0, self.model.config.action_dim), dtype=np.float32)
        return episode.planned[episode.step :].copy()

    def missed(self, env_id: int, steps: int) -> None:
        """Tells that an environment went on for so many steps without this policy's actions.

        The goal is due that much sooner, and frames from before are no context of the next decision any more.
        """
        episode = self._episodes[self._check_env(env_id)]
        if episode is not None:
            episode.taken += steps
            episode.latents = []

    def _encode(
        self, frames: Sequence | np.ndarray | Tensor, body: Tensor | None
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        pixels = self.processor(frames, return_tensors="pt")["pixel_values"].to(self._device)
        if self.sees_features:
            return observe_frames(self.model, pixels, body)
        return encode_frames(self.model, pixels, body), [None] * len(pixels)

    @property
    def wants_proprioception(self) -> bool:
        """Whether `act` and `reset` want it beside pictures."""
        return size_of(self.model.config) > 0

    @property
    def _device(self) -> torch.device:
        return device_of(self.model)

    def _running(self, env_id: int) -> Episode:
        episode = self._episodes[env_id]
        assert episode is not None, f"environment {env_id} works on no problem"
        return episode

    def _check_env(self, env_id: int) -> int:
        number = plain(env_id)
        if type(number) is not int or not 0 <= number < self.num_envs:
            raise ValueError(
                f"environment {number!r} does not exist: there are {self.num_envs}, counted from 0; of a mask "
                "np.flatnonzero(mask) are the numbers"
            )
        return number


def _check_several(name: str, values: Any) -> None:
    """Refuses one thing where there has to be one for each environment.

    Raises:
        ValueError: one line.
    """
    if not hasattr(values, "__len__") or isinstance(values, str | bytes | Mapping):
        raise ValueError(f"{name} of type {type(values).__name__} must be a list or an array, one for each environment")


def _each(steps_left: Any, count: int) -> list[Any]:
    """One deadline for each problem, as it was given."""
    return list(steps_left) if np.ndim(steps_left) else [steps_left] * count
