"""A checkpoint's goal-conditioned actor: acting by itself, or rolled through the world model to start a search."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..action_blocks import block_bounds, from_blocks
from ..world_models.base import ActingWorldModel, device_of
from .block_policy import BlockPolicy, Episode
from .solvers.base import clip
from .world_model import Imaginer, check_actor


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
    if goal.shape == (len(context), 1, *context.shape[2:]):
        goal = goal[:, 0]
    if goal.shape != context[:, -1].shape:
        raise ValueError(f"an actor goes to one goal, but goal has shape {tuple(goal.shape)}: give one per problem")
    known = features is not None and goal_features is not None
    seen = (features, goal_features) if known else (None, None)
    # Not asked for a single block: a model may only imitate.
    world: ActingWorldModel | Imaginer = model if imaginer is None else imaginer
    before = list(context.unbind(1)), [] if executed is None else list(executed.unbind(1))
    latents, blocks = (part[-model.config.history_size :] for part in before)
    for step in range(horizon):
        left = (blocks_left - step).clamp_min(1)
        blocks.append(model.act(latents[-1], goal, left, *(seen if step == 0 else ())))
        if step + 1 < horizon:  # imagined frames are context like real ones: one block further instead of all anew
            window = latents[-model.config.history_size :]
            between = torch.stack(blocks[-len(window) : -1], 1) if len(window) > 1 else None
            further = world.rollout(torch.stack(window, 1), blocks[-1][:, None, None], between)
            latents.append(further[:, 0, 0].to(goal.dtype))
    return torch.stack(blocks[-horizon:], 1)


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
        retry: blocks that a goal is given anew once it is overdue, as in `Planner`.

    Raises:
        ValueError: for a model without an actor or not ready, or bounds of another shape.
    """

    def __init__(
        self,
        model: ActingWorldModel,
        processor: Any,
        *,
        num_envs: int = 1,
        action_bounds: tuple[Sequence[float], Sequence[float]] | None = None,
        retry: int | None = None,
    ):
        check_actor(model, "policy 'actor'")
        super().__init__(
            model, processor, num_envs=num_envs, context_frames=1, longest=model.config.actor_max_blocks,
            sees_features=True, retry=retry,
        )  # fmt: skip
        self.bounds = block_bounds(model.config, action_bounds, device_of(model))

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
                torch.stack([episode.goal for episode in batch]),
                torch.tensor([max(1, self.blocks_left(episode)) for episode in batch], device=self._device),
                1,
                None,
                *features,
            )
            blocks = clip(blocks.float(), self.bounds)
            for episode, chosen, actions in zip(batch, blocks, from_blocks(blocks, self.model.config), strict=True):
                self._follow(episode, chosen, actions)
