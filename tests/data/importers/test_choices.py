"""Recorded actions that name choices, against the one-hot vectors that NumPy makes of them."""

import logging

import numpy as np
import pytest

from lewm_hf import LeWMConfig
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.importers import import_dataset
from lewm_hf.data.importers.choices import one_hot
from lewm_hf.data.importers.mapping import ColumnMapping, read_mapping
from lewm_hf.tasks import registry
from lewm_hf.training.world_model import with_action_statistics

from . import foreign
from .test_odd_sources import load
from .test_table import write

BUTTON = np.arange(15) % 4
PAIR = np.stack([np.arange(15) % 3, np.arange(15) // 8], 1)
EXPECTED = {"button": np.eye(4)[BUTTON], "pair": np.hstack([np.eye(3)[PAIR[:, 0]], np.eye(2)[PAIR[:, 1]]])}


@pytest.fixture(scope="module")
def rows():
    return foreign.make_rows((4, 6, 5))


@pytest.mark.parametrize(
    ("command", "sizes", "expected"),
    [
        (BUTTON.tolist(), [4], "button"),
        (BUTTON.astype(float).tolist(), [4], "button"),
        (EXPECTED["button"].tolist(), [4], "button"),
        (PAIR.tolist(), [3, 2], "pair"),
        (EXPECTED["pair"].astype(bool).tolist(), [3, 2], "pair"),
    ],
)
def test_numbers_and_one_hot_columns_are_the_same_choices(command, sizes, expected, rows, tmp_path, caplog):
    folder = write(tmp_path / "set", rows, command=command)
    with caplog.at_level(logging.WARNING):
        loaded = load(folder, tmp_path, fps=10.0, action_choices=sizes)
    np.testing.assert_array_equal(loaded.actions, EXPECTED[expected][: len(loaded.actions)])
    assert loaded.action_choices == sizes and "learned and planned as amounts" not in caplog.text
    config = with_action_statistics(LeWMConfig(action_dim=sum(sizes)), loaded)
    assert config.action_choices == sizes
    np.testing.assert_allclose(config.action_mean, EXPECTED[expected].mean(0))


def test_blocks_and_missing_actions(tmp_path):
    """Two actions in a row, of which the last row has none."""
    blocks = np.array([[0, 2], [1, 1], [np.nan, np.nan]])
    found = one_hot(blocks, [3], every=2)
    np.testing.assert_array_equal(found[:2], np.eye(3)[[[0, 2], [1, 1]]].reshape(2, 6))
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize(
    ("command", "sizes", "message"),
    [
        (
            BUTTON.tolist(),
            [3],
            r"episode 0 of .* has the action \[3\], but action_choices=\[3\] want numbers from 0 to 2",
        ),
        ((BUTTON - 1).tolist(), [4], r"has the action \[-1\]"),
        ((BUTTON / 2).tolist(), [4], r"has the action \[0.5\]"),
        (EXPECTED["button"].tolist(), [2, 2], r"\[1, 0, 0, 0\].* want a single 1 among the zeros of each choice"),
        (PAIR.tolist(), [3, 2, 2], "has 2 numbers in an action, but .* are 3 numbers of values, or 7 that are 0 or 1"),
        (BUTTON.tolist(), [4, 1], r"action_choices=\[4, 1\] must be numbers of values, at least 2 each"),
    ],
)
def test_what_chooses_nothing_is_one_line(command, sizes, message, rows, tmp_path):
    folder = write(tmp_path / "set", rows, command=command)
    with pytest.raises(ValueError, match=message) as error:
        load(folder, tmp_path, fps=10.0, action_choices=sizes)
    assert "\n" not in str(error.value)


def test_a_mapping_says_it_and_so_does_an_environment(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))  # no trace of the new task afterwards
    (tmp_path / "m.yaml").write_text("action_choices: [2]\nfps: 50\ncolumns: {image: camera, action: command}\n")
    said = read_mapping(tmp_path / "m.yaml")
    assert said.action_choices == (2,)
    folder = write(tmp_path / "set", rows, command=(BUTTON % 2).tolist())
    keys = {"image": "camera", "action": ("command",), "episode": "take", "fps": 50.0}
    for name, mapping, env in (
        ("said", ColumnMapping(**keys, action_choices=said.action_choices), None),
        ("known", ColumnMapping(**keys), "CartPole-v1"),
    ):
        out = import_dataset("table", folder, tmp_path / name, mapping=mapping, env=env, test_fraction=0, workers=1)
        loaded = load_episodes(out, cache_dir=tmp_path / "cache")
        assert loaded.action_choices == [2] and loaded.env_id == env
        np.testing.assert_array_equal(loaded.actions, np.eye(2)[BUTTON % 2][: len(loaded.actions)])
        # The same command again finds it complete.
        assert import_dataset("table", folder, out, mapping=mapping, env=env, test_fraction=0, workers=1) == out
    (tmp_path / "m.yaml").write_text("action_choices: 2\n")
    with pytest.raises(ValueError, match="action_choices: 2, expected a list of how many values each choice has"):
        read_mapping(tmp_path / "m.yaml")
