"""Does the model still tell frames apart when it computes in bfloat16, as `from_pretrained(dtype=...)` lets it?

An encoder whose features hardly vary loses what tells frames apart to the rounding of its activations, and a BatchNorm
behind it multiplies what is left: embeddings move by more than they differ, while nothing else looks wrong.
"""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..common.agent import Agent
from ..common.embeddings import encode_rows
from ..common.ranks import Ranks
from .result import Precision

logger = logging.getLogger(__name__)

FRAMES = 256


class _Rounded:
    """A model's encoder as a checkpoint that is loaded in bfloat16 has it, BatchNorm in float32."""

    def __init__(self, model: Any):
        self.model, self.config = copy.deepcopy(model).to(torch.bfloat16), model.config

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.parameters()

    def encode(self, *seen: Tensor) -> Tensor:
        """As the world model's, of inputs that are rounded too."""
        return self.model.encode(*(one.to(torch.bfloat16) for one in seen))


def measure_precision(
    agent: Agent, episodes: Any, rows: np.ndarray, embeddings: Tensor, ranks: Ranks
) -> Precision | None:
    """How far bfloat16 moves the embeddings of some of the frames; `None` where the model does not compute in it.

    Args:
        agent: model and image processor.
        episodes: an `EpisodeData`.
        rows: `(n,)` of the frames.
        embeddings: `(n, *latent)` what the model makes of them in its own arithmetic.
        ranks: processes that divide the frames, each of which calls this.
    """
    some = np.linspace(0, len(rows) - 1, min(FRAMES, len(rows))).astype(int)
    model, rows, exact = agent.model, rows[some], embeddings[some]
    if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in model.parameters()):
        whole = copy.deepcopy(model).float()
        exact = encode_rows(whole, agent.processor, episodes, rows, ranks=ranks)["embeddings"]
    rounded = _Rounded(model)
    try:
        encode_rows(rounded, agent.processor, episodes, rows[:1])  # on every rank alike
    except (RuntimeError, TypeError) as error:
        logger.warning("%s does not compute in bfloat16: %s", type(model).__name__, str(error).splitlines()[0])
        return None
    moved = encode_rows(rounded, agent.processor, episodes, rows, ranks=ranks)["embeddings"]
    return of_embeddings(exact, moved)


def of_embeddings(exact: Tensor, moved: Tensor) -> Precision:
    """From embeddings `(n, *latent)` of the same frames in float32 and in bfloat16."""
    exact, moved = exact.flatten(1).double(), moved.flatten(1).double()
    shift = float((moved - exact).norm(dim=1).mean())
    spread = float((exact - exact.mean(0)).square().sum(1).mean().sqrt())
    return Precision(frames=len(exact), shift=shift, spread=spread, ratio=shift / spread if spread > 0 else None)
