"""The arguments of `decode`, written once."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from ..common.arguments import RecordedArguments


@dataclass(frozen=True)
class DecodeArguments(RecordedArguments):
    """Whose imagination to draw, with which decoder, and how much of it.

    Args:
        decoder: folder or Hub id of a `LeWMDecoder`, or one in memory.
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which `split` is loaded.
        strips: how many stretches are drawn.
        steps: environment steps that are imagined, rounded down to whole action blocks.
        stretches: how many stretches the errors are measured on.
        seed: of the stretches.
        decoder_revision: of a Hub decoder.
    """

    decoder: Any
    episodes: Any
    _: KW_ONLY
    strips: int = 8
    steps: int = 35
    stretches: int = 128
    seed: int = 0
    decoder_revision: str | None = None
