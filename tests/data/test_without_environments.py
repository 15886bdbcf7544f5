"""Reading data, converting and exporting need no environment's library."""

import subprocess
import sys

import pytest

from lewm_hf.data.collect import collect

BLOCKED = ("gymnasium", "pymunk", "cv2", "mujoco", "dm_control", "ogbench")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    out = tmp_path_factory.mktemp("episodes") / "two-room"
    return collect("two_room", out, 2, image_size=28, test_fraction=0.5, max_steps=12, workers=1)


def without_environments(code: str, *arguments) -> str:
    block = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
    run = subprocess.run([sys.executable, "-c", block + code, *map(str, arguments)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_episodes_windows_and_action_statistics_are_read(directory, tmp_path):
    code = """
from lewm_hf import LeWMConfig
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.hub.convert.action_statistics import measure_actions
episodes = load_episodes(sys.argv[1], "train", cache_dir=sys.argv[2])
config = LeWMConfig(image_size=28, frameskip=2, action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
print(len(episodes), WindowDataset(episodes, config)[0]["pixel_values"].shape, measure_actions(sys.argv[1]).rows > 2)
"""
    said = without_environments(code, directory, tmp_path)
    assert said.startswith("1 torch.Size([4, 28, 28, 3]) True")


def test_the_modules_behind_convert_card_push_and_export_import():
    without_environments(
        "import lewm_hf.hub.convert.run, lewm_hf.hub.cards.write, lewm_hf.hub.push"
        ", lewm_hf.hub.export.graphs, lewm_hf.data.storage.dataset_card"
    )
