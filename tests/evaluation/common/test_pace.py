"""Evaluations on data sets that keep every fifth simulator step."""

import numpy as np
import pytest

from lewm_hf import LeWMImageProcessor
from lewm_hf.data.collect import collect
from lewm_hf.data.collect.recording import episode_phase
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.common.embeddings import blocks_of, sample_stretches
from lewm_hf.evaluation.health.run import health
from lewm_hf.evaluation.probe.run import probe
from lewm_hf.evaluation.success.manifest import sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.rollouts import StoredFrames
from lewm_hf.evaluation.success.run import evaluate
from lewm_hf.hub.convert.action_statistics import measure_actions
from lewm_hf.tasks.two_room.env import TwoRoomEnv

EVERY, SEED = 5, 2


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same episodes at full rate and every fifth step."""
    folder = tmp_path_factory.mktemp("pace")
    given = {
        "image_size": 28,
        "seed": SEED,
        "workers": 1,
        "test_fraction": 0.8,
        "stop_at_success": False,
        "max_steps": 60,
    }
    collect("two_room", folder / "full", 20, **given)
    collect("two_room", folder / "kept", 20, every=EVERY, **given)
    return folder / "full", folder / "kept"


def at_full_rate(full, kept, index: int, frame):
    """Rows at full rate of frames of the episode at a place in both data sets."""
    return full.offsets[index] + episode_phase(SEED, int(kept.episode_ids[index]), EVERY) + EVERY * np.asarray(frame)


def test_pairs_are_as_many_steps_apart_as_the_protocol_says(both):
    full, kept = (load_episodes(folder, "test") for folder in both)
    protocol = load_protocol("clean", {"goal_offset": 25})
    manifest = sample_manifest(kept, protocol, 8, 3)
    pictures = StoredFrames(kept)
    stored = zip(manifest.pairs, pictures.starts(manifest.pairs), pictures.goals(manifest.pairs), strict=True)
    for pair, start, goal in stored:
        index = list(kept.episode_ids).index(pair.episode)
        row = at_full_rate(full, kept, index, pair.start_frame)
        np.testing.assert_array_equal(full.states[row], pair.start_state)
        np.testing.assert_array_equal(full.states[row + 25], pair.goal_state)
        np.testing.assert_array_equal(full.frames([row, row + 25]), [start, goal])
    assert manifest.counts.valid < sample_manifest(full, protocol, 8, 3).counts.valid / 4
    with pytest.raises(ValueError, match="no two of its frames are 24 steps apart: use 20 or 25") as error:
        sample_manifest(kept, load_protocol("clean", {"goal_offset": 24}), 2, 3)
    assert "\n" not in str(error.value)


def test_stretches_have_all_actions_between_their_frames(both, tiny_config):
    full, kept = (load_episodes(folder, "test") for folder in both)
    stretches = sample_stretches(kept, 9, 4, 2 * EVERY, seed=1)
    for rows, actions, episode in zip(stretches.rows, stretches.actions, stretches.episodes, strict=True):
        there = at_full_rate(full, kept, episode, rows - kept.offsets[episode])
        np.testing.assert_array_equal(kept.states[rows], full.states[there])
        assert np.diff(there).tolist() == [2 * EVERY] * 3
        np.testing.assert_array_equal(actions, full.actions[there[0] : there[-1]])
    tiny_config.frameskip = 2 * EVERY
    tiny_config.action_mean, tiny_config.action_std = [0.0, 0.0], [1.0, 1.0]
    assert blocks_of(stretches, tiny_config).shape == (9, 3, 2 * EVERY * 2)
    with pytest.raises(ValueError, match="4 frames 30 steps apart need episodes of 90 steps, the longest has [56]"):
        sample_stretches(kept, 2, 4, 30, seed=1)


def test_every_measurement_takes_them(both, tiny_model):
    processor = LeWMImageProcessor(image_size=28)
    kept = load_episodes(both[1], "test")
    tiny_model.config.frameskip = EVERY
    small = {"samples": 4, "iterations": 1, "elites": 2, "horizon": 1, "receding_horizon": 1, "budget": 10}
    evaluated = evaluate(
        tiny_model, processor=processor, episodes=kept, protocol="clean", n=3, seeds=[0],
        overrides=small,
    )  # fmt: skip
    assert [row.goal_step - row.start for row in evaluated.rows] == [25 // EVERY] * 3
    found = health(tiny_model, kept, processor=processor, stretches=16, horizon=2, frames=60)
    assert np.isfinite(found.result["straightness"]["pixels"])


def test_a_velocity_between_rows_is_that_of_one_step(both, tiny_model, monkeypatch):
    kept = load_episodes(both[1], "test")
    known, seen = TwoRoomEnv.probe_values, []

    def probe_values(env, states, previous):
        seen.append((states, previous))
        return known(env, states, previous)

    monkeypatch.setattr(TwoRoomEnv, "probe_values", probe_values)
    probe(
        tiny_model, kept, processor=LeWMImageProcessor(image_size=28), frames=120, seeds=[0], probes=["linear"],
        controls=False,
    )  # fmt: skip
    ((states, previous),) = seen
    rows = [int(np.flatnonzero((kept.states == state).all(1))[0]) for state in states]
    np.testing.assert_allclose(EVERY * (states - previous), kept.states[rows] - kept.states[np.subtract(rows, 1)])


def test_statistics_for_published_checkpoints_are_of_raw_actions(both):
    full, kept = (measure_actions(folder) for folder in both)
    np.testing.assert_allclose(kept.mean, load_episodes(both[1]).action_statistics()[0], rtol=1e-9)
    assert len(kept.std) == len(full.std) == 2
