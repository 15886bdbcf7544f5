"""The arguments of `health`, written once."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from ..common.arguments import RecordedArguments


@dataclass(frozen=True)
class HealthArguments(RecordedArguments):
    """What to examine a model on.

    Args:
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which `split` is loaded.
        frames: how many single frames, spread evenly over the episodes.
        stretches: how many stretches of `history_size + horizon` frames.
        horizon: imagined action blocks of a stretch.
        seed: of all draws.
    """

    episodes: Any
    _: KW_ONLY
    frames: int = 1000
    stretches: int = 256
    horizon: int = 5
    seed: int = 0
