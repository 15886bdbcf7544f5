"""What a world model must offer, whoever wrote it.

Planning, probes, surprise and health take a `WorldModel`; the training loop takes a `TrainableWorldModel`. Both are
protocols: a class satisfies them by its members and inherits nothing. `lewm_hf.testing.check_world_model` tells
whether yours does. Shapes: B batch, C context frames, T time, S candidate plans, A action block.
"""

from collections.abc import Mapping
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from ..proprioception_lewm import size_of

# `pixel_values` `(B, T, 3, H, W)` normalized frames, `actions` `(B, T, A)` z-scored blocks (block t leaves frame t).
# Where a goal is asked for also `goal_pixel_values` `(B, 3, H, W)`, a later frame of each window's episode, and
# `goal_blocks` `(B,)`, how many blocks after the first frame it is seen.
Batch = Mapping[str, Tensor]


class WorldModelConfig(Protocol):
    """Fields that data, planner and analyses read. They take no argument that repeats one of them."""

    history_size: int  # frames that a prediction looks at, at most; a training window holds one more
    frameskip: int  # environment steps between two frames
    action_dim: int
    action_mean: list[float | int] | None  # of each raw action dimension, float64; None until a data set has filled it
    action_std: list[float | int] | None
    # Optional: `action_low` and `action_high`, bounds of each raw action dimension that plans keep; `action_choices`,
    # numbers of values where an action is one-hot vectors side by side; `actions_per_second` of the training episodes;
    # `window_frames`, frames of a training window where they are more than `history_size + 1`; `proprioception_size`,
    # how many numbers come with each frame as a second input (see `proprioception_lewm.py`): `encode` and `observe`
    # then take them too, and batches hold them.
    image_size: int  # side of the square input in pixels

    @property
    def action_block_size(self) -> int:
        """A, that is `frameskip * action_dim`."""
        ...


class ActingConfig(WorldModelConfig, Protocol):
    """Fields of a world model with an actor."""

    has_actor: bool
    actor_max_blocks: int  # the most blocks until the goal that the actor knows


@runtime_checkable
class WorldModel(Protocol):
    """Encodes frames and imagines what follows them.

    Latents may have any shape: `(D,)` in LeWM and PLDM, `(patches, D)` in DINO-WM. In evaluation mode both methods
    are deterministic, and no row depends on the others of its batch. Latents and the blocks between them are all that
    a roll-out knows of the past: from imagined ones it goes on as if it had never stopped.

    The optional method `prepare_rollout(dtype)` gives the planner a faster `rollout` for one search, during which the
    weights do not change and which several threads may call, or `None`. Where that has a method `stepwise(context,
    executed)`, which returns a function from the next blocks `(N, A)` to latents `(N, *latent)`, futures whose blocks
    answer them are imagined by it. The optional attribute `optional_heads` names
    children that latents and roll-outs do not depend on. A child called `encoder` may have the method
    `initialize_from_data(frames)`, which is shown some frames before a training starts.
    """

    config: WorldModelConfig

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> latents `(B, T, *latent)`; each of its frame alone."""
        ...

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """Imagines S candidate plans from one context: `(B, S, T, *latent)`, entry t after block t.

        Args:
            context: `(B, C, *latent)` latents of the last C frames, `frameskip` environment steps apart; what exceeds
                `history_size` is ignored.
            candidates: `(B, S, T, A)` z-scored action blocks; the first one leaves the last context frame.
            executed: `(B, C - 1, A)` z-scored blocks between the context frames; needed if C > 1.
        """
        ...


@runtime_checkable
class ActingWorldModel(WorldModel, Protocol):
    """A world model with the optional goal-conditioned actor: latents are vectors, `(D,)`.

    Its config says `has_actor = True`.
    """

    config: ActingConfig

    def observe(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized frames `(B, T, 3, H, W)` -> latents `(B, T, D)` and the encoder's features `(B, T, F)`."""
        ...

    def act(
        self,
        embeddings: Tensor,
        goal_embeddings: Tensor,
        blocks_left: Tensor,
        features: Tensor | None = None,
        goal_features: Tensor | None = None,
    ) -> Tensor:
        """The z-scored action block `(B, A)` that leads from one latent `(B, D)` towards another.

        Args:
            blocks_left: `(B,)` whole numbers, action blocks until the goal is due, at least 1.
            features, goal_features: `(B, F)` of real frames; imagined ones have none.
        """
        ...


@runtime_checkable
class TrainableWorldModel(WorldModel, Protocol):
    """A world model that says what it is trained by.

    Where a latent is only part of what the encoder knows of a frame, the optional method
    `observe(pixel_values) -> (latents, features)`, `(B, T, ...)` each, shows probes both in one pass.
    """

    def losses(self, batch: Batch, step_inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What one batch of training windows of `history_size + 1` frames costs.

        Returns:
            `"loss"`, a scalar to be minimized, and whatever else there is to tell: scalars are logged under their
            names (`"prediction_loss"` also judges held-out windows); `"embeddings"` `(B, T, *latent)` are watched for
            collapse. On several ranks every rank passes its share of the batch, and the mean of the ranks' gradients
            is the gradient of the whole batch's loss.
        """
        ...

    def step_inputs(self, seed: int, number: int) -> dict[str, Tensor]:
        """What `losses` needs at a step that must be the same on every rank: a pure function of the arguments.

        LeWM draws SIGReg's directions here; most models need nothing.
        """
        ...


def device_of(model: WorldModel) -> torch.device:
    """Where a model computes: what its attribute `device` says, else where its weights lie."""
    device = getattr(model, "device", None)
    return next(cast(nn.Module, model).parameters()).device if device is None else device


@torch.no_grad()
def latent_shape(model: WorldModel) -> tuple[int, ...]:
    """Shape of one latent of a model in evaluation mode, `(D,)` or `(patches, D)`, found by encoding a gray frame."""
    config, device = model.config, device_of(model)
    size = (1, 1, getattr(config, "num_channels", 3), config.image_size, config.image_size)
    seen = [torch.zeros(size, device=device)]
    if numbers := size_of(config):
        seen.append(torch.zeros((1, 1, numbers), device=device))
    return tuple(model.encode(*seen)[0, 0].shape)
