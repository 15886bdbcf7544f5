"""Reading and importing data, converting, exporting and the doctor need no environment's library."""

import subprocess
import sys

import pytest

from lewm_hf.data.collect import collect

from .importers import foreign

BLOCKED = ("gymnasium", "pymunk", "cv2", "mujoco", "dm_control", "ogbench")
# One process for all of it: each pays for importing torch and transformers.
CODE = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
directory, source, folder = sys.argv[1:]

from lewm_hf import LeWMConfig
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.windows import WindowDataset
from lewm_hf.hub.convert.action_statistics import measure_actions
episodes = load_episodes(directory, "train", cache_dir=folder + "/cache")
config = LeWMConfig(image_size=28, frameskip=2, action_mean=[0.0, 0.0], action_std=[1.0, 1.0])
print(len(episodes), WindowDataset(episodes, config)[0]["pixel_values"].shape, measure_actions(directory).rows > 2)

from lewm_hf.data.importers import import_dataset
import_dataset("lerobot", source, folder + "/imported", workers=1, image_format="png", test_fraction=0.5)
print("imported")

import lewm_hf.hub.convert.run, lewm_hf.hub.cards.write, lewm_hf.hub.push
import lewm_hf.hub.export.graphs, lewm_hf.data.storage.dataset_card
from lewm_hf.cli.doctor import check_versions
print("doctor", len(check_versions()) > 10)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> list[str]:
    """What the process prints."""
    folder = tmp_path_factory.mktemp("without")
    directory = collect(
        "two_room", folder / "episodes", 2, image_size=28, test_fraction=0.5, max_steps=12, workers=1
    )  # fmt: skip
    source = foreign.write_lerobot(folder / "source", foreign.make_rows((4, 3, 5)))
    command = [sys.executable, "-c", CODE, *map(str, (directory, source, folder))]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_episodes_windows_and_action_statistics_are_read(said):
    assert said[0] == "1 torch.Size([4, 28, 28, 3]) True"


def test_recordings_are_imported(said):
    assert said[1] == "imported"


def test_the_modules_behind_convert_card_push_export_and_doctor_import(said):
    assert said[2] == "doctor True"
