import json
import shutil

import datasets
import numpy as np
import pytest
from huggingface_hub import DatasetCard

from lewm_hf.data.storage.dataset_card import data_stats, fact_rows, read_description


@pytest.fixture
def copy(room_dir, tmp_path):
    return shutil.copytree(room_dir, tmp_path / "set")


def test_the_card_says_what_a_reader_counts(room_dir, tmp_path):
    """Every fact again, from the data set as a user loads it."""
    card = DatasetCard.load(room_dir / "README.md")
    assert card.data.license == "apache-2.0" and card.data.task_categories == ["robotics"]
    # Their library opens the folder, see test_lerobot.
    assert {"LeRobot", "lewm"} <= set(card.data.tags)
    assert card.data.size_categories == ["1K<n<10K"]
    loaded = datasets.load_dataset(str(room_dir), cache_dir=str(tmp_path))
    rows = [row for split in ("train", "test") for row in loaded[split].remove_columns("observation.image")]
    parts = {}
    for row in rows:
        parts.setdefault(row["episode_index"], []).append(row)
    lengths = [len(part) for part in parts.values()]
    actions = np.array([row["action"] for row in rows if not row["next.done"]], np.float32).astype(np.float64)
    pairs = [
        np.linalg.norm(np.subtract(part[t]["sim.state"], part[t + 25]["sim.state"])) < 16
        for part in parts.values()
        for t in range(len(part) - 25)
    ]
    success = np.mean([any(row["next.success"] for row in part) for part in parts.values()])
    train, test = (len(loaded[split]) for split in ("train", "test"))
    text = card.text
    assert (
        f"| episodes | 20 (train 16, test 4) |\n| rows (frames) | {train + test:,} (train {train:,}, test {test:,}) |"
        in text
    )
    assert f"| rows per episode | mean {np.mean(lengths):.2f}; min {min(lengths)}," in text
    mean, std = actions.mean(0), actions.std(0)
    assert (
        f"| action mean | [{mean[0]:.4f}, {mean[1]:.4f}] |\n| action std (population) | [{std[0]:.4f}, {std[1]:.4f}] |"
        in text
    )
    assert f"| successful episodes | {100 * success:.2f} % |" in text
    assert f"| (t, t+25) pairs already solved at t | {100 * np.mean(pairs):.2f} % |" in text
    assert "| seed | 7 |" in text and '| expert_kwargs | {"noise_std": 2.0} |' in text
    description = json.loads((room_dir / "episodes.json").read_text())
    np.testing.assert_allclose(description["action_mean"], mean)
    np.testing.assert_allclose(description["action_std"], std)
    assert description["splits"]["train"]["lengths"] == lengths[:16]


def test_a_true_card_passes(room_dir):
    facts = data_stats(room_dir)
    assert facts.episodes == 20
    assert ("successful episodes", f"{100 * facts.successful_episodes:.2f} %") in fact_rows(facts)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("| episodes | 20 ", "| episodes | 21 ", "says 'episodes' is '21 (train 16, test 4)', the files say '20"),
        (" % |\n| (t, t+25)", "1 % |\n| (t, t+25)", "says 'successful episodes'"),
        ("| action mean |", "| mean of actions |", "says 'action mean' is None"),
    ],
)
def test_a_card_that_lies_is_caught(copy, old, new, message):
    card = copy / "README.md"
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new))
    with pytest.raises(ValueError) as error:
        data_stats(copy)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_description_that_lies_is_caught(copy):
    path = copy / "episodes.json"
    content = json.loads(path.read_text())
    content["action_std"][0] *= 1.001
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="says action_std="):
        data_stats(copy)


def test_missing_parts_are_named(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory"):
        data_stats(tmp_path / "none")
    (copy / "data/chunk-001/file-001.parquet").unlink()
    with pytest.raises(ValueError, match="describes 4 test episodes, the files hold 3"):
        data_stats(copy)
    shutil.rmtree(copy / "data")
    with pytest.raises(ValueError, match="has no episode files"):
        data_stats(copy)
    (copy / "README.md").unlink()
    with pytest.raises(ValueError, match="has no README.md"):
        data_stats(copy)
    (copy / "episodes.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        data_stats(copy)
    (copy / "episodes.json").write_text("[]")
    with pytest.raises(ValueError, match="has format None"):
        read_description(copy)
    (copy / "episodes.json").unlink()
    with pytest.raises(ValueError, match="has no episodes.json"):
        data_stats(copy)
