"""Runs in lerobot's own environment: `lerobot_side.py read ROOT OUT.npz`, or `... write ROOT OUT.npz KIND`."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

if torch.version.cuda is None:
    # A build of PyTorch for CPUs has no torchvision that was built for it. lerobot uses its transforms alone, which
    # need none of its compiled operators: those that it wants to see are declared.
    sources = Path(find_spec("torchvision").origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
    operators = torch.library.Library("torchvision", "DEF")
    for name in re.findall(r'register_fake\("torchvision::(\w+)"\)', sources):
        operators.define(f"{name}(Tensor x) -> Tensor")

from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402

FPS, LENGTHS, SIZE = 10, (7, 5, 9), 64


def read(root: Path, out: Path) -> None:
    """Every row, with its neighbours, as lerobot's own class gives it."""
    step = 1 / LeRobotDataset("local/set", root=root).meta.fps
    times = {"observation.image": [-step, 0.0, step], "action": [0.0, step]}
    dataset = LeRobotDataset("local/set", root=root, delta_timestamps=times)
    items = [dataset[row] for row in range(len(dataset))]
    columns = {name: np.stack([item[name].numpy() for item in items]) for name in items[0] if name != "task"}
    np.savez(
        out, **columns, task=[item["task"] for item in items], episodes=dataset.num_episodes,
        mean=dataset.meta.stats["action"]["mean"], image_mean=dataset.meta.stats["observation.image"]["mean"],
    )  # fmt: skip


def write(root: Path, out: Path, kind: str) -> None:
    """A data set that lerobot records itself: pictures or videos of a square that moves."""
    rng = np.random.default_rng(0)
    dataset = LeRobotDataset.create(
        "local/set", fps=FPS, root=root, use_videos=kind == "video",
        features={
            "observation.images.top": {
                "dtype": kind, "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"],
            },
            "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
            "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        },
    )  # fmt: skip
    frames, actions = [], []
    for length in LENGTHS:
        for row in range(length):
            frame = np.full((SIZE, SIZE, 3), 40, np.uint8)
            frame[4 * row : 4 * row + 16, 8:24] = (200, 90, 10)
            frames.append(frame)
            actions.append(rng.uniform(-1, 1, 2).astype(np.float32))
            dataset.add_frame({
                "observation.images.top": frame, "observation.state": 2 * actions[-1], "action": actions[-1],
                "task": "move",
            })  # fmt: skip
        dataset.save_episode()
    dataset.finalize()
    np.savez(out, frames=np.stack(frames), actions=np.stack(actions), lengths=LENGTHS)


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](*map(Path, sys.argv[2:4]), *sys.argv[4:])
