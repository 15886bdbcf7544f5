"""The arguments of `evaluate`, written once."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch

from ...plain_numbers import make_plain
from ...planning.planners import Planner
from ..common.outputs import check_out
from .manifest import Manifest
from .protocol import Protocol

MAX_ENVS = 50


@dataclass(frozen=True)
class EvaluateArguments:
    """What to measure, on which problems, and what becomes of the results.

    Args:
        model: folder, Hub id, or a world model in eval mode (then `processor` is needed).
        env: short name or id. Default: that of the episodes or the manifest, else what the checkpoint was trained on; a
            contradiction is refused.
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which the protocol's split is loaded.
        episodes_revision: branch, tag or commit of a Hub data set.
        manifest: fixed pairs, one manifest per seed; they work without episodes, starts and goals are then rendered.
            Without episodes and manifest: the manifests that ship with the package for the environment and protocol.
        protocol: name, `.yaml` file or `Protocol`: which problems there are.
        planner: name, `.yaml` file or `Planner`: how they are solved. Default: the protocol's `default_planner`; of the
            actor alone, whose deadlines a planner decides too, `actor-guided`.
        policy: who acts: the `"planner"`, the checkpoint's `"actor"`, or a floor, `"random"` or `"zero"`.
        overrides: single values of protocol and planner to change; recorded.
        n: pairs per seed. Default: the protocol's, or all of the manifest.
        seeds: default: the protocol's; given manifests bring their own.
        num_envs: pairs that run side by side.
        out: folder for `results.json`, `episodes.jsonl`, `manifests/` and `videos/`. Default: nothing is written. What
            was measured is kept there seed by seed, so that an interrupted evaluation continues with the same call.
        overwrite: replace an evaluation that `out` holds, once the new one is complete.
        videos, video_successes: episodes to film: failed ones, filled up with solved ones, and further solved ones.
        decoder: folder or Hub id of a `LeWMDecoder`, or one in memory: draws what the model imagined in the films.
            Without one they show the most similar known pictures.
        floors: run the random policy and zero actions too.
        processor: of a model in memory, which turns pictures into its inputs.
        revision, decoder_revision: of a Hub checkpoint and decoder.
        device: default: the accelerator, else the CPU.
        progress: show a bar.
    """

    model: Any
    _: KW_ONLY
    env: str | None = None
    episodes: Any = None
    decoder: Any = None
    decoder_revision: str | None = None
    episodes_revision: str | None = None
    manifest: Manifest | str | Path | Sequence[Manifest | str | Path] | None = None
    protocol: str | Path | Protocol = "clean"
    planner: str | Path | Planner | None = None
    policy: str = "planner"
    overrides: Mapping[str, Any] | None = None
    n: int | None = None
    seeds: Sequence[int] | None = None
    num_envs: int = MAX_ENVS
    out: str | Path | None = None
    overwrite: bool = False
    videos: int = 0
    video_successes: int = 0
    floors: bool = True
    processor: Any = None
    revision: str | None = None
    device: torch.device | str | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        make_plain(self)
        check_out(self.out)
        for name, least in (("n", 1), ("num_envs", 1), ("videos", 0), ("video_successes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        if self.out is None and (self.videos or self.video_successes):
            raise ValueError("videos were asked for, but there is no folder for them: give out=DIR")
        if self.manifest is not None and self.seeds is not None:
            raise ValueError(f"seeds={list(self.seeds)} contradict the manifests, which bring their own: omit seeds")
