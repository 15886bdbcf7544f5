"""Data sets that keep every n-th simulator step: the same episodes, with the actions between the rows."""

import json

import numpy as np
import pytest
import torch

from lewm_hf import LeWMConfig
from lewm_hf.data.collect import collect
from lewm_hf.data.collect.arguments import CollectArguments
from lewm_hf.data.collect.recording import episode_phase, record_all
from lewm_hf.data.collect.settings import settle
from lewm_hf.data.collect.states import record_states
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.pace import rows_apart
from lewm_hf.data.storage.dataset_card import data_stats
from lewm_hf.data.windows import WindowDataset
from lewm_hf.evaluation.common.provenance import dataset_fingerprint
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.registry import make_env

EVERY = 5
TASKS = {"two_room": {"max_steps": 40}, "push_t": {"max_steps": 28}}


@pytest.fixture(scope="module", params=TASKS)
def both(request, tmp_path_factory):
    """The same episodes at full rate and every fifth step."""
    folder = tmp_path_factory.mktemp(request.param)
    given = {"image_size": 16, "seed": 11, "workers": 1, "test_fraction": 0.25, **TASKS[request.param]}
    collect(request.param, folder / "full", 8, **given)
    collect(request.param, folder / "kept", 8, every=EVERY, **given)
    return folder / "full", folder / "kept"


def kept_rows(full, kept, seed=11) -> list[tuple[np.ndarray, slice]]:
    """Of every episode: its rows at full rate that are kept, and where they are in the other data set."""
    found = []
    for episode, (offset, length) in enumerate(zip(full.offsets, full.lengths, strict=True)):
        phase = min(episode_phase(seed, int(full.episode_ids[episode]), EVERY), length - 1)
        start = kept.offsets[episode]
        found.append((np.arange(offset + phase, offset + length, EVERY), slice(start, start + kept.lengths[episode])))
    return found


@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_are_those_of_the_full_rate(both, split):
    full, kept = (load_episodes(folder, split) for folder in both)
    assert (kept.every, full.every) == (EVERY, 1)
    assert kept.action_dim == full.action_dim == kept.actions.shape[1] // EVERY
    assert kept.fps == full.fps / EVERY
    np.testing.assert_array_equal(kept.episode_ids, full.episode_ids)
    success = [np.array(one._dataset["next.success"]) for one in (full, kept)]
    for episode, (rows, part) in enumerate(kept_rows(full, kept)):
        assert len(rows) == kept.lengths[episode]
        np.testing.assert_array_equal(kept.states[part], full.states[rows])
        np.testing.assert_array_equal(kept.goals[part], full.goals[rows])
        np.testing.assert_array_equal(kept.frames(np.arange(part.start, part.stop)), full.frames(rows))
        for number, (row, after) in enumerate(zip(rows, rows[1:], strict=False)):
            np.testing.assert_array_equal(kept.actions[part][number], full.actions[row:after].ravel())
            assert success[1][part][number] == success[0][row:after].any()
        assert np.isnan(kept.actions[part][-1]).all()
        end = full.offsets[episode] + full.lengths[episode]
        assert success[1][part][-1] == success[0][max(rows[-1] - 1, full.offsets[episode]) : end].any()


def test_windows_are_those_of_the_full_rate_at_the_kept_rows(both):
    full, kept = (load_episodes(folder) for folder in both)
    mean, std = full.action_statistics()
    config = LeWMConfig(
        frameskip=EVERY, history_size=2, action_dim=full.action_dim, action_mean=mean, action_std=std
    )  # fmt: skip
    at_rows, at_kept = WindowDataset(full, config), WindowDataset(kept, config)
    number = {int(row): index for index, row in enumerate(at_rows.starts(range(len(at_rows))))}
    starts = at_kept.starts(range(len(at_kept)))
    compared = 0
    for rows, part in kept_rows(full, kept):
        for place, row in enumerate(rows):
            index = np.flatnonzero(starts == part.start + place)
            # A window at the kept rows needs its frames; one at full rate also the row of its last action.
            assert len(index) == (place + 3 <= len(rows))
            if not len(index) or int(row) not in number:
                continue
            here, there = at_kept[int(index[0])], at_rows[number[int(row)]]
            assert torch.equal(here["pixel_values"], there["pixel_values"])
            blocks = 2 if place + 3 == len(rows) else 3  # what leaves an episode's last row is not kept
            assert torch.equal(here["actions"][:blocks], there["actions"][:blocks])
            assert not here["actions"][blocks:].any()
            compared += 1
    assert compared >= 10


def test_windows_of_several_rows_a_frame(both):
    """A model twice as slow as the data set: frames two rows apart, blocks put together from two rows."""
    full, kept = (load_episodes(folder) for folder in both)
    size = full.action_dim
    given = {"history_size": 1, "action_dim": size, "action_mean": [0.0] * size, "action_std": [1.0] * size}
    windows = WindowDataset(kept, LeWMConfig(frameskip=2 * EVERY, **given))
    start = int(windows.starts([0])[0])
    window = windows[0]
    assert window["actions"].shape == (2, 2 * EVERY * full.action_dim)
    np.testing.assert_array_equal(window["pixel_values"], kept.frames([start, start + 2]))
    np.testing.assert_array_equal(window["actions"][0], kept.actions[[start, start + 1]].ravel())
    with pytest.raises(ValueError, match="5 steps apart, so no two of its frames are 7 steps apart: use 5 or 10") as e:
        WindowDataset(kept, LeWMConfig(frameskip=7, **given))
    assert "\n" not in str(e.value)


def test_statistics_are_of_raw_actions_and_measured_again(both):
    full, kept = (load_episodes(folder) for folder in both)
    mean, std = kept.action_statistics()
    parts = []
    for split in ("train", "test"):
        one, other = (load_episodes(folder, split) for folder in both)
        for rows, _ in kept_rows(one, other):
            parts.append(one.actions[rows[0] : rows[-1]].astype(np.float64))
    actions = np.concatenate(parts)
    np.testing.assert_allclose(mean, actions.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(std, actions.std(0), rtol=1e-9, atol=1e-12)
    facts = data_stats(both[1])
    before, after = np.concatenate([part[:-1] for part in parts]), np.concatenate([part[1:] for part in parts])
    expected = [np.corrcoef(before[:, axis], after[:, axis])[0, 1] for axis in range(full.action_dim)]
    np.testing.assert_allclose(facts.action_autocorrelation, expected, rtol=1e-6)
    assert facts.successful_episodes == pytest.approx(data_stats(both[0]).successful_episodes)
    card = (both[1] / "README.md").read_text()
    assert "One row per frame, every 5 simulator steps" in card and "the 5 actions that lead" in card
    said = json.loads((both[1] / "episodes.json").read_text())
    assert (said["every"], said["action_dim"]) == (EVERY, full.action_dim)


def test_states_without_pictures_are_the_same_rows(both):
    kept = load_episodes(both[1], "test")
    said = kept.description["collector"]
    collection = settle(CollectArguments(
        kept.env_id, both[1], 8, seed=11, image_size=16, expert=said["expert"], test_fraction=0.25,
        max_steps=said["max_steps"], every=EVERY,
        env_kwargs={name: value for name, value in kept.env_kwargs.items() if name != "image_size"},
    ))  # fmt: skip
    recorded = record_states(collection, "test", workers=1)
    assert (recorded.every, recorded.action_dim) == (EVERY, kept.action_dim)
    assert dataset_fingerprint(recorded) == dataset_fingerprint(kept)


@pytest.mark.parametrize(("name", "expert"), [("reacher", "random"), ("cube", "expert")])
def test_pictures_of_a_renderer_do_not_depend_on_those_before(name, expert):
    env, policy = make_env(name, image_size=16, render_quality="fast"), make_expert(name, expert)
    (full,), (kept,) = (list(record_all(env, policy, 1, [2], 14, False, every=every)) for every in (1, EVERY))
    env.close()
    rows = np.arange(episode_phase(1, 2, EVERY), 15, EVERY)
    np.testing.assert_array_equal(kept.images, np.array(full.images)[rows])
    np.testing.assert_array_equal(kept.actions.ravel(), full.actions[rows[0] : rows[-1]].ravel())
    for field in ("states", "observations", "goals", "success"):
        np.testing.assert_array_equal(getattr(kept, field), getattr(full, field)[rows], err_msg=field)


def test_dropped_steps_are_not_drawn():
    env, drawn = make_env("push_t", image_size=16), []
    render = env.render
    env.render = lambda: drawn.append(1) or render()
    (episode,) = record_all(env, make_expert("push_t"), 0, [3], 60, False, every=EVERY)
    assert len(drawn) == len(episode) in (12, 13)


def test_an_episode_that_ends_before_its_first_step_is_kept_has_its_last_row():
    env, expert = make_env("push_t", image_size=16), make_expert("push_t")
    number = next(number for number in range(99) if episode_phase(4, number, EVERY) == 4)
    (full,), (kept,) = (list(record_all(env, expert, 4, [number], 2, False, every=n)) for n in (1, EVERY))
    assert len(full) == 3 and len(kept) == 1
    np.testing.assert_array_equal(kept.states[0], full.states[-1])
    np.testing.assert_array_equal(kept.images[0], full.images[-1])
    assert kept.row_actions.shape == (1, EVERY * 2)


def test_phases_are_uniform_and_of_seed_and_number_alone():
    counts = np.bincount([episode_phase(0, number, EVERY) for number in range(5000)], minlength=EVERY)
    assert np.abs(counts - 1000).max() < 120  # 4 standard deviations
    assert [episode_phase(7, 3, EVERY) for _ in range(3)] == [episode_phase(7, 3, EVERY)] * 3
    assert any(episode_phase(7, n, EVERY) != episode_phase(8, n, EVERY) for n in range(10))


def test_impossible_paces_are_refused(both, tmp_path):
    for every, message in ((0, "every=0 must be at least 1"), (41, "every=41 is more than max_steps=40")):
        with pytest.raises(ValueError, match=message):
            collect("two_room", tmp_path / "new", 4, max_steps=40, every=every)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="was collected with every=5, not 1"):
        task = json.loads((both[1] / "episodes.json").read_text())["env"]
        arguments = next(value for name, value in TASKS.items() if name.replace("_", "") in task.lower())
        collect(task, both[1], 8, image_size=16, seed=11, workers=1, test_fraction=0.25, **arguments)
    with pytest.raises(ValueError, match="no two of its frames are 3 steps apart: use 5, or episodes with every step"):
        rows_apart(3, 5, "x")
    broken = json.loads((both[1] / "episodes.json").read_text())
    (tmp_path / "data").symlink_to(both[1] / "data")
    for every, message in ((4, "have actions of .* but episodes.json says every=4"), ("5", "every='5'")):
        (tmp_path / "episodes.json").write_text(json.dumps({**broken, "every": every}))
        with pytest.raises(ValueError, match=message):
            load_episodes(tmp_path)


def test_a_collection_of_before_continues(tmp_path):
    """Descriptions of older versions say nothing of `every` and `action_dim`."""
    arguments = {"episodes": 6, "image_size": 16, "max_steps": 10, "workers": 1, "episodes_per_file": 2}
    out = collect("two_room", tmp_path / "set", **arguments)
    said = json.loads((out / "episodes.json").read_text())
    for name in ("every", "action_dim", "splits", "action_mean", "action_std"):
        del said[name]
    (out / "episodes.json").write_text(json.dumps(said))
    (out / "README.md").unlink()
    victim = out / "data/chunk-000/file-001.parquet"
    content = victim.read_bytes()
    victim.unlink()
    collect("two_room", out, **arguments)
    assert victim.read_bytes() == content
    assert load_episodes(out).every == 1
