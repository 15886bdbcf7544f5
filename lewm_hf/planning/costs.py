"""How far imagined futures end from the goal."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..action_blocks import to_blocks
from ..world_models.base import WorldModelConfig

# `(predicted (B, S, T, *latent), goal (B, *latent) or (B, G, *latent)) -> costs (B, S)`
Cost = Callable[[Tensor, Tensor], Tensor]

STEPS = ("final", "path")
GOALS = ("min", "mean")


def goal_cost(predicted: Tensor, goal: Tensor, steps: str = "final", goals: str = "min") -> Tensor:
    """Squared distance to the goal, summed over the latent, in float32.

    Args:
        predicted: `(B, S, T, *latent)` imagined latents.
        goal: `(B, *latent)`, or `(B, G, *latent)` where any of G goals will do.
        steps: `"final"` judges the last step alone (the paper), `"path"` the mean over all steps (EB-JEPA reports
            97 % against 89 % in Two Rooms).
        goals: with several goals the distance to the nearest (`"min"`) or to all (`"mean"`), at each step.

    Returns:
        `(B, S)` costs.

    Raises:
        ValueError: for an unknown `steps` or `goals`, or shapes that do not fit each other.
    """
    for name, value, allowed in (("steps", steps, STEPS), ("goals", goals, GOALS)):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is unknown: use {' or '.join(map(repr, allowed))}")
    latent = predicted.shape[3:]
    if goal.shape == (len(predicted), *latent):
        goal = goal.unsqueeze(1)
    elif goal.dim() != len(latent) + 2 or goal.shape[0] != len(predicted) or goal.shape[2:] != latent:
        raise ValueError(
            f"goals of shape {tuple(goal.shape)} do not fit predictions of shape {tuple(predicted.shape)}: expected "
            f"(batch, {', '.join(map(str, latent))}) or (batch, goals, {', '.join(map(str, latent))})"
        )
    if steps == "final":
        predicted = predicted[:, :, -1:]
    # One goal after the other: the differences to all of them at once would multiply the memory of the largest tensor.
    distances = torch.stack(
        [(predicted.float() - one[:, None, None].float()).square().flatten(3).sum(-1) for one in goal.unbind(1)]
    )
    return (distances.amin(0) if goals == "min" else distances.mean(0)).mean(-1)


def control_cost(candidates: Tensor, config: WorldModelConfig) -> Tensor:
    """Squared size of all actions of each plan: `(B, S, T, A)` z-scored blocks -> `(B, S)`, in float32.

    Actions count in standard deviations of the data set's, from the zero action of the environment.
    """
    still = to_blocks(torch.zeros(config.frameskip, config.action_dim, device=candidates.device), config)[0]
    return (candidates.float() - still).square().sum((-1, -2))
