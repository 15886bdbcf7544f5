"""The arguments of `surprise`, written once."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ..common.arguments import AnalysisArguments


@dataclass(frozen=True)
class SurpriseArguments(AnalysisArguments):
    """Where a model is to be surprised, and how often.

    Args:
        env: short name or id. Default: that of `episodes`, or what the checkpoint was trained on.
        episodes: a data set (`EpisodeData`, folder or Hub id) whose environment settings are used: pictures must look
            as in training. Default: the settings that the checkpoint was trained with.
        env_kwargs: of the environment, on top of those; default picture size: the model's.
        trajectories: episodes per variant.
        steps: environment steps of an episode; the event is in the middle. Default: per environment.
        seed: of starts, policies and events.
        progress: show a bar.
    """

    _: KW_ONLY
    env: str | None = None
    episodes: Any = None
    env_kwargs: Mapping[str, Any] | None = None
    trajectories: int = 100
    steps: int | None = None
    seed: int = 0
    progress: bool = False
