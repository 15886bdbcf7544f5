"""PLDM: planning with a latent dynamics model, kept from collapsing by variance and covariance (arXiv 2502.14819).

`objective="lewm"` is the form that the LeWM paper compares with: LeWM's encoder, predictor and projectors, teacher
forcing, and the terms at every time step. `objective="original"` is that of the paper itself: a GRU imagines the whole
window from its first frame, and variance and covariance are taken of that frame alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import initialization as init

from ..configuration_lewm import LeWMConfig
from ..modeling_lewm import ROLLOUT_TYPES, LeWMModel, LeWMOutput
from ..plain_numbers import plain_fields
from ..rollout_lewm import prepare
from .variance_covariance import centered, over_batch, over_time

OBJECTIVES = ("lewm", "original")
# Coefficients of the paper's Two-Rooms model.
ORIGINAL = {
    "objective": "original", "std_weight": 3.9843, "cov_weight": 6.9238, "std_t_weight": 0.24535, "cov_t_weight": 0.0,
    "similarity_weight": 0.74242, "inverse_weight": 1.072, "embed_dim": 512, "history_size": 15,
}  # fmt: skip


@plain_fields
@strict
class PLDMConfig(LeWMConfig):
    """`LeWMConfig` with other loss terms. Defaults: the coefficients of the LeWM paper's comparison.

    Args:
        objective: `"lewm"` or `"original"`; `PLDMConfig(**ORIGINAL)` also takes the original's coefficients and sizes.
        std_weight, cov_weight: of variance and covariance over the batch.
        std_t_weight, cov_t_weight: of variance and covariance over the time steps of a window.
        similarity_weight: of the squared difference of consecutive embeddings.
        sigreg_weight: PLDM has none; above 0 SIGReg is added to the other terms.
        inverse_hidden_size: see `LeWMConfig`.
    """

    model_type = "pldm"

    objective: str = "lewm"
    std_weight: float | int = 18.0
    cov_weight: float | int = 12.0
    std_t_weight: float | int = 0.7
    cov_t_weight: float | int = 0.0
    similarity_weight: float | int = 0.2

    sigreg_weight: float | int = 0.0
    inverse_hidden_size: int = 512

    def validate_objective(self) -> None:
        """Refuses an unknown objective and weights below 0.

        Raises:
            ValueError: one line that names the value.
        """
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective={self.objective!r} is unknown: use one of {', '.join(OBJECTIVES)}")
        for name in ("std_weight", "cov_weight", "std_t_weight", "cov_t_weight", "similarity_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value} must be a finite number of at least 0")


@dataclass
class PLDMOutput(LeWMOutput):
    """What one training window gives; `LeWMOutput` and PLDM's own terms, each before its weight.

    Args:
        std_loss, cov_loss: scalars, over the global batch, means over time steps.
        std_t_loss, cov_t_loss: scalars, over the time steps of each window; the latter where it has a weight.
        similarity_loss: scalar, mean squared difference of consecutive embeddings.
    """

    std_loss: Tensor | None = None
    cov_loss: Tensor | None = None
    std_t_loss: Tensor | None = None
    cov_t_loss: Tensor | None = None
    similarity_loss: Tensor | None = None


class PLDMModel(LeWMModel):
    """LeWM's parts under PLDM's losses; with `objective="original"` a linear projection and a GRU instead of them.

    The GRU's state is the embedding, its input the action block; embeddings and predictions end in one LayerNorm.

    Args:
        config: sizes and weights of the losses; see `PLDMConfig`.
    """

    config: PLDMConfig
    config_class = PLDMConfig
    method = ("PLDM", "https://arxiv.org/abs/2502.14819")
    output_class = PLDMOutput

    def __init__(self, config: PLDMConfig):
        super().__init__(config)
        if config.objective == "original":
            self.projector = nn.Sequential(
                nn.Linear(self.encoder.output_size, config.embed_dim), nn.LayerNorm(config.embed_dim)
            )
            self.predictor = nn.GRUCell(config.action_block_size, config.embed_dim)
            for unused in ("action_encoder", "pred_proj"):
                self.register_module(unused, None)
            self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.GRUCell):  # torch's default
            bound = module.hidden_size**-0.5
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)

    def regularization(
        self, embeddings: Tensor, sigreg_directions: Tensor | None = None
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of every term that keeps embeddings `(B, T, D)` from collapsing.

        Raises:
            ValueError: where the global batch has a single window.
        """
        config, embeddings = self.config, embeddings.float()
        if config.objective == "original":
            std, cov = over_batch(centered(embeddings[:, :1]))
            later = embeddings[:, 1:]
            std_t, cov_t = over_time(later - later.mean(1, keepdim=True))
        else:
            rows = centered(embeddings)
            (std, cov), (std_t, cov_t) = over_batch(rows), over_time(rows)
        terms = {
            "std_loss": (config.std_weight, std),
            "cov_loss": (config.cov_weight, cov),
            "std_t_loss": (config.std_t_weight, std_t),
            "cov_t_loss": (config.cov_t_weight, cov_t),
            "similarity_loss": (config.similarity_weight, F.mse_loss(embeddings[:, :-1], embeddings[:, 1:])),
        }
        if config.sigreg_weight > 0:
            terms |= super().regularization(embeddings, sigreg_directions)
        return terms

    def _default_directions(self) -> Tensor | None:
        return super()._default_directions() if self.config.sigreg_weight > 0 else None

    def step_inputs(self, seed: int, number: int) -> dict[str, Tensor]:
        """SIGReg's directions where it has a weight, nothing otherwise."""
        return super().step_inputs(seed, number) if self.config.sigreg_weight > 0 else {}

    def predict(self, embeddings: Tensor, actions: Tensor) -> Tensor:
        """Next embeddings `(B, T, D)`: entry t is the successor of `embeddings[:, t]` under `actions[:, t]`."""
        if self.config.objective != "original":
            return super().predict(embeddings, actions)
        self.check_blocks(actions)
        return self._step(embeddings.flatten(0, 1), actions.flatten(0, 1)).unflatten(0, embeddings.shape[:2])

    def rollout(self, context: Tensor, candidates: Tensor, executed: Tensor | None = None) -> Tensor:
        """`(B, C, D)`, `(B, S, T, A)` -> `(B, S, T, D)`; the original's GRU looks at the last context frame alone."""
        if self.config.objective != "original":
            return super().rollout(context, candidates, executed)
        self.check_blocks(candidates)
        first = context[:, -1].repeat_interleave(candidates.shape[1], 0)
        return self._imagine_from(first, candidates.flatten(0, 1)).unflatten(0, candidates.shape[:2])

    def prepare_rollout(self, dtype: torch.dtype | None = None) -> Callable[..., Tensor] | None:
        """See `LeWMModel.prepare_rollout`; the original's GRU has nothing to prepare."""
        return prepare(self, ROLLOUT_TYPES, dtype) if self.config.objective != "original" else None

    def _predict_all(self, embeddings: Tensor, blocks: Tensor) -> Tensor:
        """Training's predictions: from every real frame, or in the original of the whole window from its first one."""
        if self.config.objective != "original":
            return super()._predict_all(embeddings, blocks)
        self.check_blocks(blocks)
        return self._imagine_from(embeddings[:, 0], blocks)

    def _imagine_from(self, embedding: Tensor, blocks: Tensor) -> Tensor:
        """`(N, D)`, `(N, T, A)` -> `(N, T, D)`."""
        imagined = []
        for block in blocks.unbind(1):
            embedding = self._step(embedding, block)
            imagined.append(embedding)
        return torch.stack(imagined, 1)

    def _step(self, embedding: Tensor, block: Tensor) -> Tensor:
        return self.projector[1](self.predictor(block.to(self.predictor.weight_ih.dtype), embedding))
