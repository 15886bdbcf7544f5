"""Episodes without pictures are the episodes that a collection writes."""

import numpy as np
import pytest

from lewm_hf.data.collect import collect
from lewm_hf.data.collect.arguments import CollectArguments
from lewm_hf.data.collect.settings import settle
from lewm_hf.data.collect.states import record_states
from lewm_hf.data.episodes import load_episodes
from lewm_hf.evaluation.common.provenance import dataset_fingerprint


def collection(env: str, episodes: int, image_size: int, env_kwargs: dict | None, max_steps: int | None, share=0.1):
    given = {"env_kwargs": env_kwargs, "test_fraction": share, "max_steps": max_steps}
    expert = "default" if env != "reacher" else "random"
    return settle(CollectArguments(env, "unused", episodes, seed=5, image_size=image_size, expert=expert, **given))


@pytest.mark.parametrize(
    ("env", "env_kwargs", "max_steps"),
    [
        ("two_room", None, None),
        ("push_t", None, 10),
        ("reacher", {"render_quality": "fast"}, 4),
        ("cube", {"render_quality": "fast"}, 3),
    ],
)
def test_both_have_the_same_states_and_fingerprint(env, env_kwargs, max_steps, tmp_path):
    expert = "random" if env == "reacher" else "default"
    given = {"env_kwargs": env_kwargs, "max_steps": max_steps, "test_fraction": 0.25, "expert": expert}
    collect(env, tmp_path / "data", 4, seed=5, image_size=16, workers=1, **given)
    # Another picture size: it makes no difference to what happens.
    without = collection(env, 4, 32, env_kwargs, max_steps, 0.25)
    for split in ("train", "test"):
        written = load_episodes(tmp_path / "data", split)
        recorded = record_states(without, split, workers=1)
        for name in ("episode_ids", "lengths", "offsets", "states", "actions"):
            np.testing.assert_array_equal(getattr(recorded, name), getattr(written, name), err_msg=name)
        assert dataset_fingerprint(recorded) == dataset_fingerprint(written)
        assert (recorded.split, recorded.env_id) == (split, written.env_id)


def test_processes_change_nothing():
    one, two = (record_states(collection("two_room", 40, 32, None, 30), "train", workers=n) for n in (1, 2))
    assert dataset_fingerprint(one) == dataset_fingerprint(two)


def test_a_split_without_episodes_is_refused():
    with pytest.raises(ValueError, match="no test split"):
        record_states(collection("two_room", 4, 32, None, 30, share=0), "test", workers=1)
