"""Model predictive control: plan, execute a few action blocks, look, plan again."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..action_blocks import block_bounds
from ..action_choices import Choices
from ..world_models.base import WorldModel
from .block_policy import BlockPolicy, Episode
from .horizon import horizon_until
from .planner import plan
from .planners import Planner, load_planner
from .world_model import check_actor, check_ready


class MPCPolicy(BlockPolicy):
    """Plans and acts in N environments side by side; each works on its own problem, unaffected by the others.

        policy = MPCPolicy(model, processor)
        policy.reset(env_ids, problems=ids, goals=goal_frames, steps_left=25)
        while running:
            wanted = policy.wants_frame()                          # (N,) bool: render only these
            actions = policy.act(render(np.flatnonzero(wanted)))   # (N, action_dim), environment units

    It cannot see where an episode ends: `reset` begins the next one; `VectorAgent` calls it for gymnasium's vector
    environments.

    Args:
        model: the world model, in eval mode, with action statistics in its config.
        processor: `LeWMImageProcessor` of the checkpoint.
        planner: how to plan: a name, a file or a `Planner`. The default plans until the goal is due, again after every
            block; `"paper"` executes whole plans.
        num_envs: N.
        seed: of the planner's noise.
        action_bounds: lowest and highest action, `(action_dim,)` each in environment units, where the checkpoint's
            config states none.
        goals: where a problem has several goal pictures, whether the nearest counts (`"min"`) or their mean (`"mean"`,
            the same plans as for the mean of their embeddings).
        compute: fields of `PlanSettings` that change how fast a plan is found and not which: `rollout_dtype`,
            `compile`, `memory_budget`, `problem_batch`.

    Raises:
        ValueError: for a model that is not ready to plan, a planner that it cannot follow, or bounds of another shape.
    """

    def __init__(
        self,
        model: WorldModel,
        processor: Any,
        planner: Planner | str = "goal-time",
        *,
        num_envs: int = 1,
        seed: int = 42,
        action_bounds: tuple[Sequence[float], Sequence[float]] | np.ndarray | None = None,
        goals: str = "min",
        **compute: Any,
    ):
        check_ready(model)
        self.planner = load_planner(planner)
        frames = self.planner.frames(model.config)
        guided = self.planner.proposal is not None
        super().__init__(
            model, processor, num_envs=num_envs, context_frames=frames, longest=self.planner.horizon,
            sees_features=guided, retry=self.planner.retry,
        )  # fmt: skip
        if guided:
            check_actor(model, f"planner {self.planner.label}")
        self.settings = self.planner.settings(seed=seed, goals=goals, **compute)
        # What torch.compile made for `plan` outside of inference mode, it would make anew for the inside.
        if self.settings.compile or getattr(self.settings.search, "differentiates", True):
            self._unrecorded = torch.no_grad
        self.action_bounds = action_bounds
        limits = block_bounds(model.config, action_bounds, self._device)  # refused here, before any work
        self._unplanned = torch.zeros(model.config.action_block_size, device=self._device)
        if isinstance(limits, Choices):
            self._unplanned += limits.even()

    def keep_within(self, low: Sequence[float], high: Sequence[float]) -> None:
        if self.action_bounds is None:
            block_bounds(self.model.config, (low, high))  # refused here, before any work
            self.action_bounds = low, high

    def _decide(self, episodes: list[Episode]) -> None:
        """One batch for each length of context and of plan, and number of goals."""
        batches: dict[tuple[int, int, tuple[int, ...]], list[Episode]] = {}
        for episode in episodes:
            kind = len(episode.latents), self._horizon(episode), tuple(episode.goal.shape)
            batches.setdefault(kind, []).append(episode)
        for (frames, horizon, _), batch in sorted(batches.items()):
            self._plan(batch, frames, horizon)

    def _horizon(self, episode: Episode) -> int:
        if self.planner.horizon_rule == "fixed":
            return self.planner.horizon
        return horizon_until(self.blocks_left(episode), self.planner.horizon, self.planner.horizon_floor)

    def _plan(self, batch: list[Episode], frames: int, horizon: int) -> None:
        executed = None
        if frames > 1:
            executed = torch.stack([torch.stack(episode.executed[1 - frames :]) for episode in batch])
        guidance = {"initial_plan": torch.stack([self._leftover(episode, horizon) for episode in batch])}
        if self.planner.proposal is not None:
            guidance = {"blocks_left": [max(1, self.blocks_left(episode)) for episode in batch]}
            if all(episode.goal_features is not None for episode in batch):
                guidance["features"] = torch.stack([episode.features for episode in batch])
                guidance["goal_features"] = torch.stack([episode.goal_features for episode in batch])
        output = plan(
            self.model,
            torch.stack([torch.stack(episode.latents) for episode in batch]),
            torch.stack([episode.goal for episode in batch]),
            replace(self.settings, horizon=horizon),
            problems=[episode.problem for episode in batch],
            replans=[episode.decisions for episode in batch],
            executed=executed,
            bounds=self.action_bounds,
            **guidance,
        )
        execute = min(self.planner.receding_horizon, horizon) * self.model.config.frameskip
        found = zip(batch, output.blocks, output.actions, output.executable, strict=True)
        for episode, blocks, actions, executable in found:
            self._follow(episode, blocks, actions, execute, executable)

    def _leftover(self, episode: Episode, horizon: int) -> Tensor:
        """`(horizon, A)` where the search starts: the old plan shifted by what was executed, then mean actions, or no
        preferred ones where they are choices."""
        start = self._unplanned.repeat(horizon, 1)
        if episode.blocks is not None:
            assert episode.actions is not None
            rest = episode.blocks[len(episode.actions) // self.model.config.frameskip :][:horizon]
            start[: len(rest)] = rest
        return start
