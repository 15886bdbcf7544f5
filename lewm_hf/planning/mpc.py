"""Model predictive control: plan, execute a few action blocks, look, plan again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .frames import check_same_size, encode_frames, frame_size
from .noise import Problem
from .planner import PlanSettings, plan
from .world_model import WorldModel, check_ready


@dataclass
class _Episode:
    """What the policy knows about the problem that one environment is working on."""

    problem: Problem
    goal: Tensor  # (*latent) or (G, *latent)
    goal_size: tuple[int, int] | None = None  # of its picture
    replan: int = 0
    latents: list[Tensor] = field(default_factory=list)  # of the last frames, one per block boundary
    executed: list[Tensor] = field(default_factory=list)  # the z-scored blocks between them
    blocks: Tensor | None = None  # (horizon, A) the current plan
    actions: np.ndarray | None = None  # (receding_horizon * frameskip, action_dim) what of it will be executed
    step: int = 0  # environment steps of it that were


class MPCPolicy:
    """Acts in N environments side by side; each works on its own problem, unaffected by the others.

        policy.reset(env_ids, problems=ids, goals=goal_frames)
        while running:
            wanted = policy.wants_frame()                          # (N,) bool: render only these
            actions = policy.act(render(np.flatnonzero(wanted)))   # (N, action_dim), environment units

    Args:
        model: the world model, in eval mode, with action statistics in its config.
        processor: `LeWMImageProcessor` of the checkpoint.
        settings: how to search; the paper's settings by default.
        num_envs: N.
        receding_horizon: action blocks executed before the next plan. Default: the whole plan (the paper). What is
            left of a plan starts the next search.
        context_frames: frames that a plan starts from, at most `config.history_size`; fewer until an episode has as
            many. Default: 1 (the paper).
    """

    def __init__(
        self,
        model: WorldModel,
        processor,
        settings: PlanSettings | None = None,
        *,
        num_envs: int = 1,
        receding_horizon: int | None = None,
        context_frames: int = 1,
    ):
        check_ready(model)
        self.model, self.processor, self.settings = model, processor, settings or PlanSettings()
        horizon = self.settings.horizon
        self.receding_horizon = horizon if receding_horizon is None else receding_horizon
        self.context_frames = context_frames
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1")
        if not 1 <= self.receding_horizon <= horizon:
            raise ValueError(f"receding_horizon={receding_horizon} must lie between 1 and horizon={horizon}")
        if not 1 <= context_frames <= model.config.history_size:
            raise ValueError(
                f"context_frames={context_frames} must lie between 1 and the model's "
                f"history_size={model.config.history_size}"
            )
        self.plans = 0  # made so far, for timing
        self._episodes: list[_Episode | None] = [None] * num_envs

    @property
    def num_envs(self) -> int:
        return len(self._episodes)

    def reset(
        self,
        env_ids: Sequence[int],
        problems: Sequence[Problem],
        goals: Sequence | np.ndarray | Tensor | None = None,
        *,
        goal_embeddings: Tensor | None = None,
    ) -> None:
        """Starts new problems in these environments; forgets everything about their old ones and nothing else.

        Args:
            env_ids: `(n,)` environments.
            problems: `(n,)` names or numbers; they, not the environment, decide the planner's noise.
            goals: `(n, H, W, 3)` goal pictures, or anything the processor reads. Encoded here, once per episode.
            goal_embeddings: `(n, *latent)` or `(n, G, *latent)`, instead of pictures.

        Raises:
            ValueError: for an environment that does not exist or is named twice, or different numbers of entries.
        """
        env_ids = [self._check_env(env_id) for env_id in env_ids]
        if len(set(env_ids)) < len(env_ids):
            raise ValueError(f"environments {env_ids} repeat: give each once")
        if (goals is None) == (goal_embeddings is None):
            raise ValueError("give either goals or goal_embeddings")
        given = goals if goal_embeddings is None else goal_embeddings
        if not len(env_ids) == len(problems) == len(given):
            raise ValueError(
                f"{len(env_ids)} environments got {len(problems)} problems and {len(given)} goals: give one for each"
            )
        if not env_ids:
            return
        latents = self._encode(goals) if goal_embeddings is None else goal_embeddings.to(self._device)
        for position, env_id in enumerate(env_ids):
            size = None if goals is None else frame_size(goals[position])
            self._episodes[env_id] = _Episode(problems[position], latents[position], size)

    def release(self, env_ids: Sequence[int]) -> None:
        """Ends the problems of these environments: no more frames, plans or actions until the next reset."""
        for env_id in env_ids:
            self._episodes[self._check_env(env_id)] = None

    def wants_frame(self) -> np.ndarray:
        """`(N,)` bool: environments whose current picture `act` needs."""
        return np.array([episode is not None and self._wants_frame(episode) for episode in self._episodes])

    def act(self, frames: Mapping[int, object] | Sequence | np.ndarray | Tensor = ()) -> np.ndarray:
        """The next action of every environment, `(N, action_dim)` float32 in environment units; NaN where none runs.

        Args:
            frames: pictures of the environments that `wants_frame` names, as `(n, H, W, 3)` in their order or as a
                mapping from environment to picture.

        Raises:
            ValueError: when a frame is missing or one was not asked for, or of another size than the others.
        """
        wanted = np.flatnonzero(self.wants_frame()).tolist()
        if isinstance(frames, Mapping):
            if sorted(frames) != wanted:
                raise ValueError(
                    f"frames of environments {sorted(frames)} came, {wanted} are needed: see wants_frame()"
                )
            frames = [frames[env_id] for env_id in wanted]
        if len(frames) != len(wanted):
            raise ValueError(f"{len(frames)} frames came, but environments {wanted} need one each: see wants_frame()")
        for env_id, frame in zip(wanted, frames, strict=True):
            if self._episodes[env_id].goal_size is not None:
                check_same_size(frame_size(frame), self._episodes[env_id].goal_size)
        if wanted:
            for env_id, latent in zip(wanted, self._encode(frames), strict=True):
                episode = self._episodes[env_id]
                episode.latents = [*episode.latents, latent][-self.context_frames :]
            self._replan([self._episodes[env_id] for env_id in wanted])
        actions = np.full((self.num_envs, self.model.config.action_dim), np.nan, dtype=np.float32)
        for env_id, episode in enumerate(self._episodes):
            if episode is not None:
                actions[env_id] = self._advance(episode)
        return actions

    def _wants_frame(self, episode: _Episode) -> bool:
        if episode.actions is None:
            return True
        block, within = divmod(episode.step, self.model.config.frameskip)
        # Frames between two plans matter only as context of the next one.
        return within == 0 and self.receding_horizon - block < self.context_frames

    def _replan(self, episodes: list[_Episode]) -> None:
        """Plans where nothing is left to execute: one batch for each length of context."""
        due = [episode for episode in episodes if episode.actions is None or episode.step == len(episode.actions)]
        for frames in sorted({len(episode.latents) for episode in due}):
            batch = [episode for episode in due if len(episode.latents) == frames]
            output = plan(
                self.model,
                torch.stack([torch.stack(episode.latents) for episode in batch]),
                torch.stack([episode.goal for episode in batch]),
                self.settings,
                problems=[episode.problem for episode in batch],
                replans=[episode.replan for episode in batch],
                executed=torch.stack([torch.stack(episode.executed[1 - frames :]) for episode in batch])
                if frames > 1
                else None,
                initial_plan=torch.stack([self._leftover(episode) for episode in batch]),
            )
            self.plans += len(batch)
            execute = self.receding_horizon * self.model.config.frameskip
            for episode, blocks, actions in zip(batch, output.blocks, output.actions[:, :execute].cpu(), strict=True):
                episode.blocks, episode.actions, episode.step = blocks, actions.numpy(), 0
                episode.replan += 1

    def _leftover(self, episode: _Episode) -> Tensor:
        """`(horizon, A)` where the search starts: the old plan shifted by what was executed, then mean actions."""
        start = torch.zeros(self.settings.horizon, self.model.config.action_block_size, device=self._device)
        if episode.blocks is not None:
            rest = episode.blocks[self.receding_horizon :]
            start[: len(rest)] = rest
        return start

    def _advance(self, episode: _Episode) -> np.ndarray:
        action = episode.actions[episode.step]
        episode.step += 1
        block, within = divmod(episode.step, self.model.config.frameskip)
        if within == 0 and self.context_frames > 1:
            episode.executed = [*episode.executed, episode.blocks[block - 1]][1 - self.context_frames :]
        return action

    def _encode(self, frames) -> Tensor:
        pixels = self.processor(frames, return_tensors="pt")["pixel_values"]
        return encode_frames(self.model, pixels.to(self._device))

    @property
    def _device(self) -> torch.device:
        return self.model.device

    def _check_env(self, env_id: int) -> int:
        if not 0 <= env_id < self.num_envs:
            raise ValueError(f"environment {env_id} does not exist: there are {self.num_envs}, counted from 0")
        return int(env_id)
