"""A checkpoint's goal-conditioned actor: acting by itself, or rolled through the world model to start a search."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..action_blocks import block_bounds, from_blocks
from ..world_models.base import ActingWorldModel, device_of
from .block_policy import BlockPolicy, Episode
from .solvers.base import Bounds, clip
from .world_model import Imaginer, check_actor, check_ready


@torch.no_grad()
def propose(
    model: ActingWorldModel,
    context: Tensor,
    goal: Tensor,
    blocks_left: Tensor,
    horizon: int,
    executed: Tensor | None = None,
    features: Tensor | None = None,
    goal_features: Tensor | None = None,
    imaginer: Imaginer | None = None,
) -> Tensor:
    """The plan that the actor would follow if the world were as the model imagines it: `(B, horizon, A)`, z-scored.

    The first block answers the real frame, with its features where they are given; later ones answer imagined latents.

    Args:
        context: `(B, C, D)` latents of the last frames, `executed` `(B, C - 1, A)` the blocks between them.
        goal: `(B, D)`, one goal each.
        blocks_left: `(B,)` blocks until the goal is due; counts down to 1 along the plan.
        imaginer: what imagines where a block leads, from `for_search`; default: the model.

    Raises:
        ValueError: for several goals per problem.
    """
    goal = _one_goal(context, goal)
    first = _first(model, context, goal, blocks_left, features, goal_features)
    return _follow(model, imaginer, context, goal, blocks_left, executed, first, [None] * horizon)[0]


@torch.no_grad()
def propose_around(
    model: ActingWorldModel,
    context: Tensor,
    goal: Tensor,
    blocks_left: Tensor,
    noise: Tensor,
    executed: Tensor | None = None,
    features: Tensor | None = None,
    goal_features: Tensor | None = None,
    imaginer: Imaginer | None = None,
    bounds: Bounds = None,
) -> tuple[Tensor, Tensor]:
    """Plans `(B, S, horizon, A)` of an actor that is disturbed and answers, and where they lead `(B, S, horizon, D)`.

    Noise is added to each block that the actor gives, and its next one answers the future that follows from both. (The
    policy's trajectories among the candidates of TD-MPC, Hansen et al. 2022, arXiv 2203.04955, are undisturbed.)

    Args:
        noise: `(B, S, horizon, A)` in standard deviations of the data set's actions; zeros leave the actor alone.
        bounds: of the disturbed blocks, see `clip`.

    Other arguments and errors are those of `propose`.
    """
    goal = _one_goal(context, goal)
    first, samples = _first(model, context, goal, blocks_left, features, goal_features), noise.shape[1]
    context, goal, blocks_left, first = (
        part.repeat_interleave(samples, 0) for part in (context, goal, blocks_left, first)
    )
    executed = None if executed is None else executed.repeat_interleave(samples, 0)
    steps = noise.flatten(0, 1).unbind(1)
    plans, futures = _follow(model, imaginer, context, goal, blocks_left, executed, first, steps, bounds)
    return plans.unflatten(0, (-1, samples)), torch.stack(futures, 1).unflatten(0, (-1, samples))


def _one_goal(context: Tensor, goal: Tensor) -> Tensor:
    if goal.shape == (len(context), 1, *context.shape[2:]):
        goal = goal[:, 0]
    if goal.shape != context[:, -1].shape:
        raise ValueError(f"an actor goes to one goal, but goal has shape {tuple(goal.shape)}: give one per problem")
    return goal.to(context)


def _first(
    model: ActingWorldModel,
    context: Tensor,
    goal: Tensor,
    blocks_left: Tensor,
    features: Tensor | None,
    goal_features: Tensor | None,
) -> Tensor:
    """The block `(B, A)` that answers the real frame."""
    known = features is not None and goal_features is not None
    seen = (features, goal_features) if known else (None, None)
    return model.act(context[:, -1], goal, blocks_left.clamp_min(1), *seen)


def _follow(
    model: ActingWorldModel,
    imaginer: Imaginer | None,
    context: Tensor,
    goal: Tensor,
    blocks_left: Tensor,
    executed: Tensor | None,
    block: Tensor,
    noise: Sequence[Tensor | None],
    bounds: Bounds = None,
) -> tuple[Tensor, list[Tensor]]:
    """The plans `(N, steps, A)` that begin with `block`, and the latents they lead to; the last if it has noise."""
    further = None
    blocks: list[Tensor] = []
    futures: list[Tensor] = []
    for step, disturbance in enumerate(noise):
        if step > 0:
            block = model.act(futures[-1], goal, (blocks_left - step).clamp_min(1))
        if disturbance is not None:
            block = clip(block + disturbance, bounds)
        blocks.append(block)
        if step + 1 < len(noise) or disturbance is not None:
            # Not asked for a single block: a model may only imitate.
            further = further or _stepwise(model if imaginer is None else imaginer, context, executed)
            futures.append(further(block).to(goal.dtype))
    return torch.stack(blocks, 1), futures


def _stepwise(
    world: ActingWorldModel | Imaginer, context: Tensor, executed: Tensor | None
) -> Callable[[Tensor], Tensor]:
    """What follows from one more block `(N, A)`, again and again: `(N, D)`."""
    if (own := getattr(world.rollout, "stepwise", None)) is not None:
        return own(context, executed)
    history = world.config.history_size
    latents, blocks = [*context.unbind(1)], [] if executed is None else [*executed.unbind(1)]

    def further(block: Tensor) -> Tensor:
        # Imagined frames are context like real ones: one block further instead of all anew.
        window = latents[-history:]
        between = torch.stack(blocks[1 - len(window) :], 1) if len(window) > 1 else None
        latents.append(world.rollout(torch.stack(window, 1), block[:, None, None], between)[:, 0, 0])
        blocks.append(block)
        return latents[-1]

    return further


class ActorPolicy(BlockPolicy):
    """Follows the checkpoint's goal-conditioned actor in N environments: no search, one forward pass per block.

    The actor imitates the behavior that the checkpoint was trained on; where goals come from the same behavior, its
    success says how well that is copied, not how well the model plans.

    Args:
        model: a world model with an actor, in eval mode, with action statistics in its config.
        processor: `LeWMImageProcessor` of the checkpoint.
        num_envs: N.
        action_bounds: lowest and highest action, `(action_dim,)` each in environment units, where the checkpoint's
            config states none. Actions are clipped to them.
        retry: blocks that a goal is given anew once it is overdue, and from the start where nobody says when it is due;
            as many as `"actor-guided"` gives. `None`: see `BlockPolicy`.

    Raises:
        ValueError: for a model without an actor or not ready, or bounds of another shape.
    """

    def __init__(
        self,
        model: ActingWorldModel,
        processor: Any,
        *,
        num_envs: int = 1,
        action_bounds: tuple[Sequence[float], Sequence[float]] | np.ndarray | None = None,
        retry: int | None = 5,
    ):
        check_ready(model)
        check_actor(model, "policy 'actor'")
        super().__init__(
            model, processor, num_envs=num_envs, context_frames=1, longest=model.config.actor_max_blocks,
            sees_features=True, retry=retry,
        )  # fmt: skip
        self.action_bounds = action_bounds
        self.bounds = block_bounds(model.config, action_bounds, device_of(model))

    def keep_within(self, low: Sequence[float], high: Sequence[float]) -> None:
        if self.action_bounds is None:
            self.bounds = block_bounds(self.model.config, (low, high), self._device)
            self.action_bounds = low, high

    def _decide(self, episodes: list[Episode]) -> None:
        # Episodes that know their goal's picture, then those that know its embedding alone.
        for known in (True, False):
            batch = [episode for episode in episodes if (episode.goal_features is not None) == known]
            if not batch:
                continue
            features: tuple[Tensor, ...] = ()
            if known:
                features = (torch.stack([e.features for e in batch]), torch.stack([e.goal_features for e in batch]))
            blocks = propose(
                self.model,
                torch.stack([torch.stack(episode.latents) for episode in batch]),
                torch.stack([_one_goal(episode.latents[-1][None, None], episode.goal[None])[0] for episode in batch]),
                torch.tensor([max(1, self.blocks_left(episode)) for episode in batch], device=self._device),
                1,
                None,
                *features,
            )
            blocks = clip(blocks.float(), self.bounds)
            for episode, chosen, actions in zip(batch, blocks, from_blocks(blocks, self.model.config), strict=True):
                self._follow(episode, chosen, actions)
