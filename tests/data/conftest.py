"""A small TwoRoom data set, and synthetic ones of any shape whose frames tell which row they are."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from lewm_hf.data.collect import collect
from lewm_hf.data.episodes import EpisodeData, load_episodes

SIZE = 4


def row_frame(row: int) -> np.ndarray:
    """A picture of the row's number."""
    return np.full((SIZE, SIZE, 3), (row % 256, row // 256, 7), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def synthetic_columns(lengths, action_dim=2, seed=0) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    columns = {"episode_index": [], "frame_index": [], "action": [], "observation.image": []}
    for episode, length in enumerate(lengths):
        for frame in range(length):
            row = len(columns["action"])
            columns["episode_index"].append(episode)
            columns["frame_index"].append(frame)
            last = frame == length - 1
            columns["action"].append([float("nan")] * action_dim if last else rng.normal(size=action_dim).tolist())
            columns["observation.image"].append({"bytes": png(row_frame(row)), "path": None})
    return columns


def as_dataset(columns: dict[str, list]) -> datasets.Dataset:
    features = datasets.Features(
        {
            "episode_index": datasets.Value("int64"),
            "frame_index": datasets.Value("int64"),
            "action": datasets.List(datasets.Value("float32")),
            "observation.image": datasets.Image(),
        }
    )
    kept = {name: feature for name, feature in features.items() if name in columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kept))


def synthetic(lengths, **kwargs) -> EpisodeData:
    return EpisodeData(as_dataset(synthetic_columns(lengths, kwargs.pop("action_dim", 2))), **kwargs)


@pytest.fixture(scope="session")
def room_dir(tmp_path_factory):
    """20 episodes of TwoRoom at 32 pixels, in files of 3."""
    return collect(
        "two_room", tmp_path_factory.mktemp("room") / "set", 20, image_size=32, episodes_per_file=3, workers=1,
        test_fraction=0.2, seed=7,
    )  # fmt: skip


@pytest.fixture(scope="session")
def arrow_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("arrow")


@pytest.fixture(scope="session")
def room(room_dir, arrow_cache) -> EpisodeData:
    return load_episodes(room_dir, "train", cache_dir=arrow_cache)
