"""Optional heads beside the world model: inverse dynamics, and a goal-conditioned actor.

Neither is needed to load, train or plan with a model. Inverse dynamics puts into the embeddings what actions control
(Pathak et al. 2017, arXiv 1705.05363; with SIGReg: arXiv 2606.20104). The actor is imitation: it regresses the action
block that the data's behavior took on its way to a later frame (goal-conditioned supervised learning, Ghosh et al.
2021, arXiv 1912.06088), and proposes where the planner's search starts.
"""

import torch
from torch import Tensor, nn

from .configuration_lewm import LeWMConfig
from .sigreg import GlobalBatchNorm, all_reduce_sum, world_size


def mlp(size_in: int, hidden: int, layers: int, size_out: int) -> nn.Sequential:
    """Linear layers with GELU between; `layers` hidden ones."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(size_in, hidden), nn.GELU()]
        size_in = hidden
    return nn.Sequential(*parts, nn.Linear(size_in, size_out))


class LeWMInverseDynamics(nn.Module):
    """Two consecutive embeddings `(B, T, D)` each -> the z-scored block between them, `(B, T, A)`."""

    def __init__(self, config: LeWMConfig):
        super().__init__()
        self.net = mlp(2 * config.embed_dim, config.inverse_hidden_size, 2, config.action_block_size)

    def forward(self, embeddings: Tensor, next_embeddings: Tensor) -> Tensor:
        return self.net(torch.cat([embeddings, next_embeddings], -1))


class LeWMActor(nn.Module):
    """What is seen, what is wanted and the blocks left until then -> the next z-scored block.

    Args:
        size: of one input vector.
        standardize: bring inputs to unit variance first, as features of an encoder need and embeddings do not.
    """

    def __init__(self, size: int, config: LeWMConfig, standardize: bool):
        super().__init__()
        self.max_blocks = config.actor_max_blocks
        self.batch_norm = GlobalBatchNorm(size) if standardize else None
        self.net = mlp(3 * size + self.max_blocks, config.actor_hidden_size, config.actor_layers,
                       config.action_block_size)  # fmt: skip

    def standardize(self, rows: Tensor) -> Tensor:
        """`(N, size) -> (N, size)`; in training with the statistics of these rows."""
        return rows if self.batch_norm is None else self.batch_norm(rows).to(self.net[0].bias.dtype)

    def forward(self, seen: Tensor, goal: Tensor, blocks_left: Tensor | int) -> Tensor:
        """Standardized `(N, size)` twice and whole numbers `(N,)`, taken as 1 to `max_blocks` -> `(N, A)`.

        Raises:
            ValueError: for numbers that are not whole, or not one or N of them.
        """
        # One-hot; `F.one_hot` looks at every number first, which takes as long as the rest.
        numbers = torch.arange(1, self.max_blocks + 1, device=seen.device)
        blocks_left = _one_each(blocks_left, len(seen), seen.device)
        left = (blocks_left.clamp(1, self.max_blocks)[:, None] == numbers).to(seen.dtype)
        return self.net(torch.cat([seen, goal, goal - seen, left], -1))


class LeWMActors(nn.Module):
    """One actor on embeddings, which imagined futures have too, and one on the encoder's features where asked for.

    Features hold what the embedding may drop: on PushT the block's angle.
    """

    def __init__(self, feature_size: int, config: LeWMConfig):
        super().__init__()
        self.on_embeddings = LeWMActor(config.embed_dim, config, standardize=False)
        self.on_features = None
        if config.actor_inputs == "features":
            self.on_features = LeWMActor(feature_size + config.embed_dim, config, standardize=True)

    def forward(
        self,
        embeddings: Tensor,
        goal_embeddings: Tensor,
        blocks_left: Tensor | int,
        features: Tensor | None = None,
        goal_features: Tensor | None = None,
    ) -> Tensor:
        """`(B, D)` twice, `(B,)` and, of real frames, `(B, F)` twice -> z-scored blocks `(B, A)`."""
        if self.on_features is None or features is None:
            return self.on_embeddings(embeddings, goal_embeddings, blocks_left)
        actor = self.on_features
        seen, goal = (
            actor.standardize(torch.cat(pair, -1))
            for pair in ((features, embeddings), (goal_features, goal_embeddings))
        )
        return actor(seen, goal, blocks_left)

    def loss(self, features: Tensor, embeddings: Tensor, actions: Tensor, blocks: Tensor) -> Tensor:
        """Mean squared error over all pairs of a frame and a later one, a scalar; of both actors where there are two.

        Args:
            features, embeddings: `(B, T, F)` and `(B, T, D)`, frames that goals may be taken from.
            actions: `(B, N, A)`, N < T: the blocks that leave the first N frames.
            blocks: `(B, T)` whole numbers, how many blocks after the first frame each frame is seen.
        """
        now, later = torch.triu_indices(actions.shape[1], embeddings.shape[1], 1, device=embeddings.device)
        left = blocks[:, later] - blocks[:, now]
        valid = ((left >= 1) & (left <= self.on_embeddings.max_blocks)).float()
        # The mean over the pairs of all ranks: DistributedDataParallel divides the sum of gradients by their number.
        weights = valid * world_size() / all_reduce_sum(valid.sum())

        def error(actor: LeWMActor, rows: Tensor) -> Tensor:
            predicted = actor(rows[:, now].flatten(0, 1), rows[:, later].flatten(0, 1), left.flatten())
            squared = (predicted.float() - actions[:, now].flatten(0, 1).float()).square().mean(-1)
            return (squared * weights.flatten()).sum()

        total = error(self.on_embeddings, embeddings)
        if self.on_features is not None:
            rows = torch.cat([features, embeddings], -1)
            rows = self.on_features.standardize(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
            total = total + error(self.on_features, rows)
        return total


def _one_each(blocks_left: Tensor | int, rows: int, device: torch.device) -> Tensor:
    """`(rows,)` whole numbers; one alone is that of all."""
    numbers = torch.as_tensor(blocks_left, device=device)
    if numbers.is_floating_point() or numbers.shape not in ((), (1,), (rows,)):
        raise ValueError(
            f"blocks_left of shape {tuple(numbers.shape)} and {numbers.dtype} does not fit {rows} embeddings: give one "
            f"whole number for all, or ({rows},) of them"
        )
    return numbers.expand(rows)
