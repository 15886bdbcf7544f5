"""Actions that are choices: one-hot groups, which a plan may not mix.

Behind a search for such plans is nothing but its usual Gaussian over scores: what it draws is projected to the value
with the highest score of each choice, so that the elites' mean holds how often each value was chosen, and the next
candidates are drawn about as often.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Choices:
    """Moves z-scored action blocks to the nearest that can be executed: one value of every choice.

    A value that was never chosen in training is not chosen either: no model knows what it does.

    Args:
        sizes: how many values each choice has; they lie side by side in a raw action.
        mean, std: `(action_dim,)` of the raw actions, as blocks are z-scored with.
        moved: `(action_dim,)` bool, whether an entry ever changed in training.
        frameskip: raw actions of a block.
    """

    def __init__(self, sizes: Sequence[int], mean: Tensor, std: Tensor, moved: Tensor, frameskip: int):
        self.sizes, self.mean, self.std, self.frameskip = list(sizes), mean, std, frameskip
        self.never = ~moved & (mean < 0.5)

    def even(self) -> Tensor:
        """The z-scored block `(frameskip * action_dim,)` that prefers no value of any choice: where a search starts."""
        shares = torch.cat([self.mean.new_full((size,), 1.0 / size) for size in self.sizes])
        return ((shares - self.mean) / self.std).repeat(self.frameskip)

    def __call__(self, blocks: Tensor) -> Tensor:
        """`(..., frameskip * action_dim)` -> the same, one-hot in raw units."""
        raw = blocks.unflatten(-1, (self.frameskip, -1)) * self.std + self.mean
        raw = raw.masked_fill(self.never, -torch.inf)
        chosen = [torch.zeros_like(part).scatter(-1, part.argmax(-1, True), 1.0) for part in raw.split(self.sizes, -1)]
        return ((torch.cat(chosen, -1) - self.mean) / self.std).flatten(-2)


def chosen_values(actions: Tensor, sizes: Sequence[int]) -> Tensor:
    """Raw one-hot actions `(..., action_dim)` -> numbers of the chosen values `(..., choices)`, counted from 0."""
    return torch.stack([part.argmax(-1) for part in actions.split(list(sizes), -1)], -1)
