"""What a search asks of a world model: where candidate plans lead, and what that costs."""

import math
from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..compiler_cache import naming_the_compilers_cache
from ..world_models.base import WorldModelConfig
from .costs import Cost, control_cost, goal_cost
from .solvers.base import take
from .world_model import Imaginer


def judge_plans(
    model: Imaginer,
    cost: Literal["final", "path"] | Cost,
    goals: Literal["min", "mean"],
    control_penalty: float,
    capacity: int,
    context: Tensor,
    executed: Tensor | None,
    goal: Tensor,
    candidates: Tensor,
) -> tuple[Tensor, Tensor]:
    """Costs `(B, S)` of candidate plans `(B, S, T, A)`, and where the last portion of them leads."""
    costs = []
    for part in candidates.split(even(candidates.shape[1], capacity), 1):
        predicted = model.rollout(context, part, executed)
        costs.append(plan_costs(model.config, cost, goals, control_penalty, goal, part, predicted))
    return torch.cat(costs, 1), predicted


def plan_costs(
    config: WorldModelConfig,
    cost: Literal["final", "path"] | Cost,
    goals: Literal["min", "mean"],
    control_penalty: float,
    goal: Tensor,
    candidates: Tensor,
    predicted: Tensor,
) -> Tensor:
    """Costs `(B, S)` of candidate plans `(B, S, T, A)` that lead to `predicted` `(B, S, T, *latent)`."""
    judged = goal_cost(predicted, goal, cost, goals) if isinstance(cost, str) else cost(predicted, goal)
    if control_penalty:
        judged = judged + control_penalty * control_cost(candidates, config)
    return judged


class Judged(NamedTuple):
    """Candidates `(B, S, T, A)` of one call, their costs, and where they lead, of the last portion of them at least."""

    candidates: Tensor
    costs: Tensor
    predicted: Tensor

    def find(self, plans: Tensor) -> tuple[Tensor, Tensor] | None:
        """What is known of plans `(B, P, T, A)`, as from `judge_plans`; `None` unless all of them were candidates.

        Asked on CPUs only: an accelerator would have to be waited for.
        """
        if plans.device.type != "cpu" or self.predicted.shape[:2] != self.costs.shape:
            return None
        same = (self.candidates[:, None] == plans[:, :, None]).all(-1).all(-1)
        if not same.any(2).all():
            return None
        which = same.byte().argmax(2)
        return self.costs.gather(1, which), take(self.predicted, which)


@cache
def compiled_judge() -> Callable[..., tuple[Tensor, Tensor]]:
    # One object per process: with a new one every plan would compile again.
    return naming_the_compilers_cache()(torch.compile(judge_plans, mode="reduce-overhead", dynamic=False))


def even(total: int, most: int) -> int:
    """The size of equal portions of `total` that are no larger than `most`: equal shapes compile once."""
    return math.ceil(total / math.ceil(total / min(total, max(1, most))))
