"""The arguments of `collect`, written once."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from ...plain_numbers import make_plain


@dataclass(frozen=True)
class CollectArguments:
    """What to collect, where to, and how the work is divided; `settings.settle` fills in the defaults.

    Args:
        env: short name or id of the environment.
        out: the directory, new, empty, or holding the same collection; of this machine, wherever the work is done, or
            an address that fsspec knows (`"s3://bucket/set"`), to which files are copied as they are finished.
        episodes: of all splits and shards together.
        seed: episode i depends on (seed, i) alone.
        image_size: side of the frames in pixels.
        expert: who acts: the name of one of the task's policies (`"default"` is its first, `"random"` every task has),
            `"module:Class"`, or the file of a Stable-Baselines3 checkpoint; see `lewm_hf.tasks.policies`.
        noise: of the expert, where it has any; default: the expert's.
        expert_kwargs, env_kwargs: further constructor arguments.
        test_fraction: share of the episodes, the last ones, that makes the test split.
        max_steps: longest episode; default: the environment's limit.
        stop_at_success, image_format, episodes_per_file: default: as the task says (`Task.recording`).
        every: draw and keep every n-th simulator step only, from a random one of the first n on (a pure function of
            seed and number; the episode itself is the same). A row's `action` is then the block of the n actions that
            leave it, flattened.
        task_sentence: what the episodes are for, in words, where LeRobot's layout says it (`task`); default: names the
            environment.
        workers: processes; default: one per core.
        on: where the work is done: by `"processes"` of this machine, on a `"ray"` cluster (extra `ray`), on whose
            machines this package, its environments and policies must be installed, or on an engine of your own, see
            `register_engine`.
        ray_address: of the cluster, see `connected_to_ray`; default: `RAY_ADDRESS`, else a local one. Other engines
            take it as theirs.
        shard: (i, n): this call collects every n-th file from the i-th on, counted from 0. Shards may share `out` or
            have their own; put together, the directory is completed by calling once more.
        progress: show a progress bar.
    """

    env: str
    out: str | Path
    episodes: int
    _: KW_ONLY
    seed: int = 0
    image_size: int = 224
    expert: str = "default"
    noise: float | None = None
    expert_kwargs: Mapping[str, Any] | None = None
    env_kwargs: Mapping[str, Any] | None = None
    test_fraction: float = 0.1
    max_steps: int | None = None
    stop_at_success: bool | None = None
    image_format: str | None = None
    episodes_per_file: int | None = None
    every: int = 1
    task_sentence: str | None = None
    workers: int | None = None
    on: str = "processes"
    ray_address: str | None = None
    shard: tuple[int, int] = (0, 1)
    progress: bool = False

    def __post_init__(self) -> None:
        make_plain(self)
