"""What many episodes cost: to open, to shuffle and to draw windows from, and the memory that it takes.

    OMP_NUM_THREADS=1 python training/bench_scale.py --episodes 10000 100000 --clock cpu --out scale.json

Every number of episodes is a real data set of tiny ones on disk (10 rows that are 5 steps apart, 16 px: 1.5 kB an
episode in the copy that `datasets` maps into memory), opened by a process of its own. Frames are so small that they
cost next to nothing to decode: what is measured is everything else. `training/bench_data.py` measures frames.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lewm_hf import LeWMConfig, __version__
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.schema import ACTION, IMAGE, TASK, episode_features
from lewm_hf.data.storage.dataset_card import FORMAT, finish_dataset, write_description
from lewm_hf.data.storage.encoding import FrameEncoder
from lewm_hf.data.storage.layout import FILES, file_names
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.provenance import hardware
from lewm_hf.files import write_atomic
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.training.batches import WindowBatches

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ROWS, EVERY, ACTION_DIM, PICTURES, SIZE = 10, 5, 2, 256, 16
EPISODES_PER_FILE = 10_000
BATCH, SECONDS = 128, 3.0


def write_episodes(folder: Path, episodes: int, test: int = 10) -> None:
    """A data set of so many episodes of random actions that share a few pictures, and some in a test split."""
    rng = np.random.default_rng(0)
    encode = FrameEncoder("webp0")
    colors = rng.integers(256, size=(PICTURES, 2, 2, 3), dtype=np.uint8)
    pictures = pa.array([encode(picture) for picture in colors.repeat(SIZE // 2, 1).repeat(SIZE // 2, 2)])
    schema = episode_features(EVERY * ACTION_DIM, None, None, goal=False, success=False).arrow_schema
    description = {
        "format": FORMAT, "env": None, "env_kwargs": {}, "image_size": SIZE, "every": EVERY, "fps": 2.0,
        "action_dim": ACTION_DIM, "collector": {}, "versions": {"lewm-hf": __version__},
        "columns": schema.names,
        FILES: {"train": -(-episodes // EPISODES_PER_FILE), "test": 1},
    }  # fmt: skip
    write_description(folder, description)
    for split, first, count in (("train", 0, episodes), ("test", episodes, test)):
        for number, name in enumerate(file_names(description[FILES])[split]):
            start = first + number * EPISODES_PER_FILE
            stop = min(start + EPISODES_PER_FILE, first + count)
            index = np.arange(start * ROWS, stop * ROWS)
            frame = index % ROWS
            actions = rng.normal(size=(len(index), EVERY * ACTION_DIM)).astype(np.float32)
            actions[frame == ROWS - 1] = np.nan
            shown = pictures.take(pa.array(rng.integers(PICTURES, size=len(index))))
            columns = {
                "episode_index": index // ROWS,
                "frame_index": frame,
                "index": index,
                TASK: np.zeros_like(index),
                "timestamp": (frame / 2).astype(np.float32),
                IMAGE: pa.StructArray.from_arrays([shown, pa.nulls(len(index), pa.string())], ["bytes", "path"]),
                ACTION: pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), actions.shape[1]),
                "next.done": frame == ROWS - 1,
            }
            table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / name)
    finish_dataset(folder, description)


def memory() -> dict[str, float]:
    """GB that this process has held at most, mapped pages of files included, and what it holds now without these."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    # Not `getrusage`, whose peak a child inherits from its parent.
    held = {name: int(status[name].split()[0]) * 1024 / 1e9 for name in ("VmHWM", "RssAnon")}
    return {"peak_gb": held["VmHWM"], "private_gb": held["RssAnon"]}


def measure(folder: Path, cache: Path, clock: Callable[[], float]) -> dict[str, Any]:
    """Opens the data set, starts an epoch and draws shuffled batches for some seconds."""
    before = memory()
    start = clock()
    episodes = load_episodes(folder, "train", cache_dir=cache)
    opened = clock() - start
    mean, std = episodes.action_statistics()
    config = LeWMConfig(action_dim=ACTION_DIM, action_mean=mean, action_std=std)
    start = clock()
    windows = WindowDataset(episodes, config)
    indexed = clock() - start
    after_opening = memory()
    start = clock()
    batches = iter(WindowBatches(len(windows), BATCH, seed=0, start=0, stop=10**9))
    windows.batch(next(batches))
    first = clock() - start
    drawn, start = 0, clock()
    while (spent := clock() - start) < SECONDS:
        drawn += len(windows.batch(next(batches))["actions"])
    return {
        "episodes": len(episodes),
        "rows": episodes.num_rows,
        "windows": len(windows),
        "open_seconds": opened,
        "windows_found_seconds": indexed,
        "first_batch_seconds": first,
        "windows_per_second": drawn / spent,
        "imports_gb": before["peak_gb"],
        "opened_gb": after_opening["peak_gb"],
        **memory(),
    }


def in_a_process_of_its_own(*arguments: Any) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def bench(args: argparse.Namespace) -> None:
    """Raises:
    ValueError: where episodes do not fill a batch.
    """
    if args.measure:
        folder, cache = args.measure
        print(json.dumps(measure(folder, cache, CLOCKS[args.clock])))
        return
    if (least := min(args.episodes)) < BATCH:
        raise ValueError(f"--episodes {least} do not fill a batch: give at least {BATCH}")
    found = []
    for episodes in args.episodes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path, cache = Path(folder) / "set", Path(folder) / "cache"
            path.mkdir()
            write_episodes(path, episodes)
            first, again = (in_a_process_of_its_own("--measure", path, cache, "--clock", args.clock) for _ in range(2))
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        found.append({**again, "first_open_seconds": first["open_seconds"], "gigabytes": size / 1e9})
        print(json.dumps(found[-1]))
    if args.out:
        result = {"machine": hardware("cpu"), "clock": args.clock, "batch_size": BATCH, "sizes": found}
        write_atomic(args.out, json.dumps(result, indent=2) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("--episodes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: on a machine that is busy")
    parser.add_argument("--folder", type=Path, help="where the data sets lie while they are measured")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--measure", type=Path, nargs=2, metavar=("SET", "CACHE"), help=argparse.SUPPRESS)
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
