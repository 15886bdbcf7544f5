"""The arguments of `probe`, written once."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ..common.arguments import RecordedArguments

PROBES = ("linear", "mlp")


@dataclass(frozen=True)
class ProbeArguments(RecordedArguments):
    """What to read out of whose embeddings, and with which probes.

    Args:
        episodes: an `EpisodeData`, or a data set's folder or Hub id, of which `split` is loaded.
        targets: names; default: all of the environment, or what was observed where it knows of none.
        columns: instead of targets, columns of numbers of the data set, `observation.state` or some entries of one,
            `observation.state[0:2]`; needs no environment.
        frames: how many, spread evenly over the episodes; all where there are fewer.
        seeds: of splits and MLPs.
        probes: any of `"linear"`, `"mlp"`.
        mlp_steps: optimizer steps of an MLP probe.
        controls: probe an untrained copy of the encoder and the pictures' principal components too.
        progress: show a bar.
    """

    episodes: Any
    _: KW_ONLY
    targets: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    frames: int = 4000
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    probes: Sequence[str] = PROBES
    mlp_steps: int = 1500
    controls: bool = True
    progress: bool = False
