"""The data path on this machine: image formats, collecting, reading windows, each beside the obvious way to do it.

    OMP_NUM_THREADS=1 python training/bench_data.py --env two_room --image-size 224 --episodes 60
    OMP_NUM_THREADS=1 python training/bench_data.py --env push_t --parts formats loader --out push_t.json

Windows are also read the way the documentation of `datasets` shows it, by a reader that decodes only what it uses, and
from HDF5 with Blosc in the layout of the released files. `memmap, cold` forgets its pages before each batch: it is as
fast as the disk.

Ratios within one run are the reliable part: both sides of each are measured in turns, and the best round counts. On a
machine that is busy with other things, `--clock cpu` counts this process's processor time instead of the time of day.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
from data_baselines import Reader, as_documented, forget_pages, hdf5, only_what_is_used, write_hdf5
from PIL import Image

from lewm_hf import LeWMConfig
from lewm_hf.data.cache import FrameCache
from lewm_hf.data.collect import collect
from lewm_hf.data.collect.recording import record_all
from lewm_hf.data.collect.run import PROBE_EPISODES
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.storage.encoding import IMAGE_FORMATS, FrameEncoder, decode
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.provenance import hardware
from lewm_hf.files import size_text
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.registry import find_task, make_env, task_names
from lewm_hf.training.batches import WindowBatches, batch_loader

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PARTS = ("formats", "collection", "loader")
SAMPLED_FRAMES = 60


Clock = Callable[[], float]


def best_rates(
    works: Mapping[str, Callable[[], int]], seconds: float, clock: Clock, rounds: int = 5
) -> dict[str, float]:
    """Units per second of each work, which returns how many it did: the best of rounds that alternate between them."""
    rates = dict.fromkeys(works, 0.0)
    for _ in range(rounds):
        for name, work in works.items():
            done, start = 0, clock()
            while (spent := clock() - start) < seconds / rounds:
                done += work()
            rates[name] = max(rates[name], done / spent)
    return rates


def endless(make: Callable[[], Iterator]) -> Iterator:
    while True:
        yield from make()


def pillow_png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def frames_of(env_name: str, image_size: int, expert: str | None) -> np.ndarray:
    """Frames spread over a few episodes of the expert."""
    env = make_env(env_name, image_size=image_size)
    task = find_task(env_name)
    stop = task.recording.stop_at_success
    steps = task.max_episode_steps if stop else SAMPLED_FRAMES // 3
    episodes = record_all(env, make_expert(env_name, expert), 0, range(3), steps, stop)
    frames = np.concatenate([np.stack(list(episode.images)) for episode in episodes])
    env.close()
    return frames[np.linspace(0, len(frames) - 1, SAMPLED_FRAMES).astype(int)]


def bench_formats(frames: np.ndarray, seconds: float, clock: Clock) -> None:
    print(f"\nimage formats, {len(frames)} frames of {frames.nbytes // len(frames):,} raw bytes; all lossless")
    print(f"{'format':12}{'bytes/frame':>12}{'written/s':>12}{'read/s':>12}")
    encoders = {name: FrameEncoder(name) for name in IMAGE_FORMATS} | {"pillow png": pillow_png}
    files = {name: [encode(frame) for frame in frames] for name, encode in encoders.items()}
    for name, stored in files.items():
        if not all(np.array_equal(decode(data), frame) for data, frame in zip(stored, frames, strict=True)):
            raise ValueError(f"{name} is not lossless")
    order = {name: endless(lambda: iter(range(len(frames)))) for name in encoders}

    def write(name: str) -> int:
        return bool(encoders[name](frames[next(order[name])]))

    def read_one(name: str) -> int:
        return decode(files[name][next(order[name])]).ndim // 3

    writing, reading = ({name: partial(work, name) for name in encoders} for work in (write, read_one))
    written, read = best_rates(writing, seconds, clock), best_rates(reading, seconds, clock)
    for name, stored in files.items():
        size = np.mean([len(data) for data in stored])
        print(f"{name:12}{size:12,.0f}{written[name]:12,.0f}{read[name]:12,.0f}")


def bench_collection(
    env_name: str, image_size: int, expert: str | None, episodes: int, folder: Path, clock: Clock
) -> Path:
    """Collects in this process alone, and the same frames one by one through Pillow."""
    start = clock()
    out = folder / "episodes"
    collect(env_name, out, episodes, image_size=image_size, expert=expert or "default", workers=1)
    spent = clock() - start
    data = load_episodes(out, "train", cache_dir=folder / "cache")
    rows = sum(load_episodes(out, split, cache_dir=folder / "cache").num_rows for split in ("train", "test"))
    probed = min(PROBE_EPISODES, episodes) * rows / episodes  # measured first, to estimate size and time
    ours = (rows + probed) / spent
    size = sum(path.stat().st_size for path in (out / "data").rglob("*.parquet")) / rows

    env = make_env(env_name, image_size=image_size)
    env.reset(seed=0)
    policy = make_expert(env_name, expert)
    policy.reset(env, np.random.default_rng(0))
    steps, start = 0, clock()
    while clock() - start < min(spent, 5.0):
        pillow_png(env.render())
        env.step(policy.act(env))
        steps += 1
    naive = steps / (clock() - start)
    env.close()
    print(
        f"\ncollection, one core: {ours:,.0f} frames/s with {size:,.0f} bytes/frame in the files ({rows:,} frames, "
        f"{size_text(size * rows)}); step, render, Pillow PNG: {naive:,.0f} frames/s; ratio {ours / naive:.1f}"
    )
    if data.num_rows < 1:
        raise ValueError("nothing was collected")
    return out


def bench_loader(
    out: Path, folder: Path, batch_size: int, num_workers: list[int], seconds: float, clock: Clock
) -> dict[str, float]:
    """Windows per second of each way to read them."""
    episodes = load_episodes(out, "train", cache_dir=folder / "cache")
    mean, std = episodes.action_statistics()
    config = LeWMConfig(action_dim=episodes.action_dim, action_mean=mean, action_std=std)
    table = datasets.load_dataset(str(out), split="train", cache_dir=str(folder / "cache"))
    windows = {
        cache or "decode": WindowDataset(episodes, config, cache=cache, cache_dir=folder)
        for cache in (None, "ram", "memmap")
    }
    rng = np.random.default_rng(0)
    first, mapped = windows["decode"], windows["memmap"]
    span, skip = first.span, config.frameskip

    def one_by_one(read: Reader) -> Callable[[], int]:
        def work() -> int:
            read(int(first.starts([int(rng.integers(len(first)))])[0]))
            return 1

        return work

    def batches(dataset: WindowDataset, workers: int) -> Callable[[], int]:
        size = min(batch_size, len(dataset))
        device = torch.device("cpu")
        loader = endless(
            lambda: iter(batch_loader(dataset, WindowBatches(len(dataset), size, 0, 0, 1000), workers, device))
        )
        return lambda: len(next(loader)["actions"])

    def cold() -> int:
        assert isinstance(mapped._cache, FrameCache)
        forget_pages(mapped._cache)
        return len(mapped.batch(rng.integers(len(mapped), size=min(batch_size, len(mapped))))["actions"])

    write_hdf5(folder / "frames.h5", episodes)
    print(f"\nwindows of {first.num_frames} frames, batches of {batch_size}, random order, {episodes.image_size} px")
    with hdf5(folder / "frames.h5", span, skip) as from_hdf5:
        works = {
            "datasets, as documented": one_by_one(as_documented(table, span, skip)),
            "datasets, only what is used": one_by_one(only_what_is_used(table, span, skip)),
            "HDF5 with Blosc": one_by_one(from_hdf5),
            "memmap, cold": cold,
        } | {
            f"{name}, {workers} workers": batches(dataset, workers)
            for name, dataset in windows.items()
            for workers in num_workers
        }
        rates = best_rates(works, seconds, clock)
    fair = rates["datasets, only what is used"]
    for name, rate in rates.items():
        print(f"{name:28}{rate:10,.1f} windows/s{rate / fair:10.2f} x only what is used")
    return rates


def bench(arguments: argparse.Namespace) -> None:
    """Raises:
    ValueError: where processor time is asked of several processes.
    """
    if arguments.clock == "cpu" and any(arguments.num_workers):
        raise ValueError("--clock cpu counts one process only: use --num-workers 0")
    clock = CLOCKS[arguments.clock]
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    machine = hardware("cpu")
    print(f"{arguments.env} at {arguments.image_size} px; {machine['device_name']}, {machine['cpu_count']} cores")
    if "formats" in arguments.parts:
        bench_formats(frames_of(arguments.env, arguments.image_size, arguments.expert), arguments.seconds, clock)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"collection", "loader"} & set(arguments.parts):
            out = bench_collection(
                arguments.env, arguments.image_size, arguments.expert, arguments.episodes, folder, clock
            )
        if "loader" in arguments.parts:
            rates = bench_loader(out, folder, arguments.batch_size, arguments.num_workers, arguments.seconds, clock)
            if arguments.out:
                settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "parts")}
                record = {"machine": machine, **settings, "windows_per_second": rates}
                arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--env", choices=task_names(), default="two_room")
    parser.add_argument("--expert", help="default: the environment's own")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--num-workers", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per figure")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="a JSON file for the loader's figures, with the machine's name")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
