import logging
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, default_collate

from lewm_hf import LeWMConfig
from lewm_hf.data.storage.encoding import decode
from lewm_hf.data.windows import WindowDataset, collate_windows
from lewm_hf.training.batches import WindowBatches

from .conftest import row_frame, synthetic


def config(frameskip=5, history_size=3, action_dim=2, **kwargs):
    kwargs = {"action_mean": [0.25] * action_dim, "action_std": [0.5] * action_dim, **kwargs}
    return LeWMConfig(frameskip=frameskip, history_size=history_size, action_dim=action_dim, **kwargs)


def naive_windows(lengths, actions, num_frames, frameskip, mean, std):
    """Every window by loops: rows of its frames, and its blocks."""
    windows, offset = [], 0
    for length in lengths:
        for start in range(length):
            rows = [start + k * frameskip for k in range(num_frames)]
            if start + num_frames * frameskip > length:
                continue
            blocks = []
            for row in rows:
                block = []
                for step in range(frameskip):
                    for value in actions[offset + row + step]:
                        block.append(0.0 if np.isnan(value) else (value - mean) / std)
                blocks.append(block)
            windows.append(([offset + row for row in rows], blocks))
        offset += length
    return windows


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=6),
    frameskip=st.integers(1, 4),
    history=st.integers(1, 3),
    action_dim=st.integers(1, 3),
)
def test_windows_against_loops(lengths, frameskip, history, action_dim):
    episodes = synthetic(lengths, action_dim=action_dim)
    expected = naive_windows(lengths, episodes.actions, history + 1, frameskip, 0.25, 0.5)
    made = config(frameskip, history, action_dim)
    if not expected:
        with pytest.raises(ValueError, match="shorter than a window"):
            WindowDataset(episodes, made)
        return
    windows = WindowDataset(episodes, made)
    assert len(windows) == len(expected)
    batch = windows.batch(range(len(windows)))
    assert batch["pixel_values"].dtype == torch.uint8 and batch["actions"].dtype == torch.float32
    assert batch["pixel_values"].shape == (len(windows), history + 1, 4, 4, 3)
    assert batch["actions"].shape == (len(windows), history + 1, frameskip * action_dim)
    for index, (rows, blocks) in enumerate(expected):
        np.testing.assert_array_equal(batch["pixel_values"][index], [row_frame(row) for row in rows])
        np.testing.assert_allclose(batch["actions"][index], blocks, rtol=1e-5, atol=1e-6)
        # Never across an episode's end.
        ends = np.cumsum(lengths)
        assert len(np.unique(np.searchsorted(ends, [rows[0], rows[0] + windows.span - 1], side="right"))) == 1


def test_count_is_rows_minus_nineteen_per_episode(room):
    mean, std = room.action_statistics()
    windows = WindowDataset(room, config(action_mean=mean, action_std=std))
    long_enough = room.lengths[room.lengths >= 20]
    assert len(windows) == long_enough.sum() - 19 * len(long_enough)


def test_a_missing_action_becomes_the_mean_action():
    windows = WindowDataset(synthetic([8]), config(2, 3))
    last = windows[0]["actions"][-1]  # rows 6 and 7; no action leaves row 7
    assert (last[:2] != 0).all() and (last[2:] == 0).all()
    assert torch.isfinite(windows[0]["actions"]).all()


def test_short_episodes_are_dropped_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        windows = WindowDataset(synthetic([4, 30, 19, 20]), config())
    assert len(windows) == 11 + 1
    assert "2 of 4 train episodes are shorter than a window of 20 rows" in caplog.text
    with pytest.raises(ValueError, match="all 2 train episodes .* window of 20 rows .* the longest has 19") as error:
        WindowDataset(synthetic([4, 19]), config())
    assert "\n" not in str(error.value)


def test_only_the_frames_of_a_window_are_decoded():
    count = []

    def counting(data):
        count.append(1)
        return decode(data)

    windows = WindowDataset(synthetic([40], decode=counting), config())
    count.clear()
    _ = windows[3]
    assert len(count) == 4  # of the 20 rows it spans
    windows.__getitems__([0, 7, 9])
    assert len(count) == 16


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"config": config(action_dim=3)}, "has 2-dimensional actions, but config.action_dim is 3"),
        ({"config": config(action_mean=None, action_std=None)}, "no action statistics"),
        ({"config": config(), "frameskip": 4}, "frameskip=4 contradicts the config's 5"),
        ({"config": config(), "num_frames": 0}, "num_frames=0"),
        ({"config": config(), "cache": "disk"}, "cache='disk' is unknown"),
    ],
)
def test_contradictions_are_refused(kwargs, message):
    with pytest.raises(ValueError) as error:
        WindowDataset(synthetic([30]), **kwargs)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_windows_out_of_range():
    windows = WindowDataset(synthetic([25]), config())
    for index in (6, -1):
        with pytest.raises(IndexError, match="there are 6"):
            _ = windows[index]


@pytest.mark.parametrize("cache", [None, "ram", "memmap"])
def test_caches_change_nothing(room, tmp_path, cache):
    windows = WindowDataset(room, config(), cache=cache, cache_dir=tmp_path)
    plain = WindowDataset(room, config())
    order = np.random.default_rng(0).permutation(len(plain))[:20]
    for name, values in windows.batch(order).items():
        assert torch.equal(values, plain.batch(order)[name])


@pytest.mark.parametrize(
    ("workers", "method", "collate"),
    [
        (0, None, None),
        (0, None, collate_windows),
        (2, "fork", None),
        (2, "fork", collate_windows),
        pytest.param(1, "spawn", collate_windows, marks=pytest.mark.long),  # imports everything anew
    ],
)
def test_loaders_yield_the_same_batches(room, tmp_path, workers, method, collate):
    windows = WindowDataset(room, config(), cache="memmap" if method == "spawn" else None, cache_dir=tmp_path)
    batches = WindowBatches(len(windows), 8, seed=1, start=0, stop=3)
    loader = DataLoader(
        windows, batch_sampler=batches, num_workers=workers, multiprocessing_context=method, collate_fn=collate
    )
    loaded = list(loader)
    assert len(loaded) == 3
    for indices, batch in zip(batches, loaded, strict=True):
        expected = default_collate([windows[index] for index in indices])
        assert batch.keys() == expected.keys()
        for name in batch:
            assert torch.equal(batch[name], expected[name])


def test_collate_also_takes_windows_from_anywhere(room):
    windows = WindowDataset(room, config())
    together = windows.__getitems__([4, 2])
    assert collate_windows(together)["pixel_values"] is together.batch["pixel_values"]  # not copied
    apart = collate_windows([windows[4], windows[2]])
    for name, values in apart.items():
        assert torch.equal(values, together.batch[name])


@pytest.mark.parametrize("cache", [None, "memmap"])
def test_pickles_are_small(room, tmp_path, cache):
    """What a loader's process gets where processes are spawned."""
    windows = WindowDataset(room, config(), cache=cache, cache_dir=tmp_path)
    copy = pickle.loads(pickle.dumps(windows))
    assert len(pickle.dumps(windows)) < 40_000
    assert torch.equal(copy[3]["pixel_values"], windows[3]["pixel_values"])
