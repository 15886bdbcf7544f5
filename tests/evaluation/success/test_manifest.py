import contextlib
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from lewm_hf.evaluation.success import pairs
from lewm_hf.evaluation.success.manifest import load_manifest, protocol_env_kwargs, sample_manifest
from lewm_hf.evaluation.success.protocol import content_hash, load_protocol
from lewm_hf.tasks.registry import make_env

from ..conftest import make_episodes

PAPER = load_protocol("paper", {"split": "test"})
CLEAN = load_protocol("clean")


def solved(pair) -> bool:
    return math.dist(pair.start_state, pair.goal_state) < 16


def crosses(pair) -> bool:
    """Written from the rule: both disks (radius 7) inside the border and beside the wall, on different sides."""
    sides = set()
    for x, y in (pair.start_state, pair.goal_state):
        if not (21 <= x <= 203 and 21 <= y <= 203) or abs(x - 112) <= 12:
            return False
        sides.add(x < 112)
    return len(sides) == 2


def admitted(episodes, rule):
    """Naive list of (episode, start) that a rule admits."""
    found = []
    for episode, offset, length in zip(episodes.episode_ids, episodes.offsets, episodes.lengths, strict=True):
        for start in range(length - 25):
            first, last = episodes.states[offset + start], episodes.states[offset + start + 25]
            if rule(first, last):
                found.append((int(episode), start))
    return found


def test_pairs_lie_in_one_episode_and_carry_its_states(episodes):
    manifest = sample_manifest(episodes, PAPER, 80, seed=42)
    assert len(manifest) == 80
    assert len({(pair.episode, pair.start_frame) for pair in manifest.pairs}) == 80
    assert [(p.episode, p.start_frame) for p in manifest.pairs] == sorted(
        (p.episode, p.start_frame) for p in manifest.pairs
    )
    for pair in manifest.pairs:
        index = pair.episode - 100
        assert pair.goal_frame == pair.start_frame + 25 < episodes.lengths[index]
        first = episodes.states[episodes.offsets[index] + pair.start_frame]
        last = episodes.states[episodes.offsets[index] + pair.goal_frame]
        assert pair.start_state == tuple(first) and pair.goal_state == tuple(last)


def test_paper_admits_every_valid_row_and_keeps_solved_pairs(episodes):
    every = admitted(episodes, lambda first, last: True)
    manifest = sample_manifest(episodes, PAPER, len(every), seed=1)
    assert [(p.episode, p.start_frame) for p in manifest.pairs] == every
    assert manifest.counts.valid == manifest.counts.admitted == len(every)
    assert manifest.counts.solved_at_start == sum(solved(pair) for pair in manifest.pairs) > 0
    with pytest.raises(ValueError, match=f"finds {len(every)} admitted pairs in 60 episodes, but n={len(every) + 1}"):
        sample_manifest(episodes, PAPER, len(every) + 1, seed=1)


def test_clean_takes_one_unsolved_crossing_pair_of_each_episode(episodes):
    def rule(first, last):
        between = dataclasses.make_dataclass("Ends", ["start_state", "goal_state"])(tuple(first), tuple(last))
        return crosses(between) and not solved(between)

    every = admitted(episodes, rule)
    count = len({episode for episode, _ in every})
    assert count >= 10
    manifest = sample_manifest(episodes, CLEAN, count, seed=42)
    assert len({pair.episode for pair in manifest.pairs}) == count
    assert {(p.episode, p.start_frame) for p in manifest.pairs} <= set(every)
    assert (manifest.counts.admitted, manifest.counts.episodes) == (len(every), count)
    with pytest.raises(ValueError, match=f"finds {count} episodes with an admitted pair"):
        sample_manifest(episodes, CLEAN, count + 1, seed=42)


def test_rows_are_drawn_uniformly(episodes):
    every = admitted(episodes, lambda first, last: True)
    hits = dict.fromkeys(every, 0)
    for seed in range(300):
        for pair in sample_manifest(episodes, PAPER, 50, seed).pairs:
            hits[pair.episode, pair.start_frame] += 1
    assert chisquare(list(hits.values())).pvalue > 1e-3


def test_episodes_are_drawn_uniformly_whatever_their_length(episodes):
    protocol = load_protocol("clean", {"drop_solved": False, "opposite_rooms": False})
    hits: dict[int, int] = {}
    for seed in range(400):
        for pair in sample_manifest(episodes, protocol, 10, seed).pairs:
            hits[pair.episode] = hits.get(pair.episode, 0) + 1
    assert len(hits) == (episodes.lengths > 25).sum()
    assert chisquare(list(hits.values())).pvalue > 1e-3


def test_a_draw_is_fixed_for_ever(episodes):
    """Computed once with plain Python integers: neither NumPy's streams nor the platform may change it."""

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    def rank(pair):
        return mix(mix(mix(42 * 4 + 1) ^ pair[0]) ^ pair[1])

    every = admitted(episodes, lambda first, last: True)
    manifest = sample_manifest(episodes, PAPER, 20, seed=42)
    assert [(p.episode, p.start_frame) for p in manifest.pairs] == sorted(sorted(every, key=rank)[:20])


@pytest.mark.parametrize("protocol", [PAPER, CLEAN])
def test_a_smaller_draw_is_part_of_a_larger_one_and_seeds_differ(episodes, protocol):
    small, large, other = (sample_manifest(episodes, protocol, n, s) for n, s in ((4, 42), (9, 42), (9, 43)))
    assert set(small.pairs) < set(large.pairs)
    assert set(large.pairs) != set(other.pairs)


def test_the_order_of_the_episodes_does_not_matter(episodes):
    order = np.random.default_rng(0).permutation(60)
    rows = np.concatenate([np.arange(episodes.offsets[e], episodes.offsets[e] + episodes.lengths[e]) for e in order])
    shuffled = dataclasses.replace(
        episodes,
        episode_ids=episodes.episode_ids[order],
        lengths=episodes.lengths[order],
        states=episodes.states[rows],
        actions=episodes.actions[rows],
    )
    assert sample_manifest(shuffled, CLEAN, 8, 42).pairs == sample_manifest(episodes, CLEAN, 8, 42).pairs


def test_portions_change_nothing(episodes, monkeypatch):
    whole = sample_manifest(episodes, CLEAN, 10, 42)
    monkeypatch.setattr(pairs, "PORTION", 7)
    assert sample_manifest(episodes, CLEAN, 10, 42) == whole


def test_zero_steps_solve_nothing_under_clean(episodes):
    env = make_env("two_room", image_size=32)
    manifest = sample_manifest(episodes, CLEAN, 10, 42)
    assert not env.reached(manifest.start_states, manifest.goal_states).any()


def test_save_and_load_are_inverse(episodes, tmp_path):
    manifest = sample_manifest(episodes, CLEAN, 10, 42)
    path = manifest.save(tmp_path / "folder" / "m.json")
    assert load_manifest(path) == manifest
    assert load_manifest(path).hash == json.loads(path.read_text())["hash"] == manifest.hash
    assert [entry.name for entry in path.parent.iterdir()] == ["m.json"]


def test_a_changed_or_damaged_file_is_refused(episodes, tmp_path):
    path = sample_manifest(episodes, PAPER, 3, 42).save(tmp_path / "m.json")
    text = path.read_text()
    content = json.loads(text)
    content["pairs"][0][3][0] += 1e-9
    damaged = {
        "changed after it was written": json.dumps(content),
        "not valid JSON": text[: len(text) // 2],
        "has format 7": text.replace('"format": 1', '"format": 7'),
        "lacks or misspells a field": text.replace('"seed"', '"sed"'),
        "holds a list instead of an object": "[]",
    }
    for message, broken in damaged.items():
        path.write_text(broken)
        with pytest.raises(ValueError, match=message) as error:
            load_manifest(path)
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="there is no manifest .*none.json: give a file"):
        load_manifest(tmp_path / "none.json")


ABSURD = [10**400, -1, 2**63, 1e308, float("nan"), float("-inf"), 1.5, True, None, "9" * 50, [], {}, [[[]]]]


@given(place=st.data())
@settings(max_examples=150, deadline=None)
def test_absurd_numbers_are_one_line_and_never_reach_an_environment(manifest_content, place, tmp_path_factory):
    """Any one value replaced, with a hash that fits: it is refused in words that name the file, or was harmless."""
    content = json.loads(manifest_content)
    part, path = content, []
    while isinstance(part, dict | list) and part:
        keys = sorted(part) if isinstance(part, dict) else range(len(part))
        path.append(place.draw(st.sampled_from(keys)))
        part = part[path[-1]]
    whole = content
    for key in path[:-1]:
        whole = whole[key]
    before = whole[path[-1]]
    whole[path[-1]] = place.draw(st.sampled_from(ABSURD))
    with contextlib.suppress(ValueError):
        content["hash"] = content_hash({key: value for key, value in content.items() if key != "hash"})
    file = tmp_path_factory.mktemp("absurd") / "m.json"
    file.write_text(json.dumps(content))
    try:
        manifest = load_manifest(file)
    except ValueError as error:
        assert "m.json" in str(error) and "\n" not in str(error) and len(str(error)) < 400, (path, before)
        return
    assert all(0 <= pair.problem < 2**63 for pair in manifest.pairs)
    assert np.isfinite(manifest.start_states).all() and np.abs(manifest.goal_states).max() <= 1e9
    assert manifest.start_states.shape == (len(manifest), len(manifest.state_names))


@pytest.fixture(scope="module")
def manifest_content(episodes, tmp_path_factory):
    return sample_manifest(episodes, PAPER, 2, 42).save(tmp_path_factory.mktemp("m") / "m.json").read_text()


def test_what_json_itself_cannot_read_is_one_line(manifest_content, tmp_path):
    for number, text in enumerate(("[" * 100_000, manifest_content.replace('"seed": 42', '"seed": ' + "1" * 5000))):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{number}.json is not valid JSON") as error:
            load_manifest(path)
        assert "\n" not in str(error.value)


def test_checks_name_what_does_not_fit(episodes):
    manifest = sample_manifest(episodes, CLEAN, 5, 42)
    env = make_env("two_room")
    manifest.check_env(env, "lewm/TwoRoom-v0")
    manifest.check_protocol(CLEAN)
    manifest.check_protocol(load_protocol("clean", {"budget": 60}))
    manifest.check_episodes(episodes)
    with pytest.raises(ValueError, match="made for lewm/TwoRoom-v0, not for lewm/TwoRoom-v1"):
        manifest.check_env(env, "lewm/TwoRoom-v1")
    with pytest.raises(ValueError, match="states are \\(x, y, z\\)"):
        dataclasses.replace(manifest, state_names=("x", "y", "z")).check_env(env, "lewm/TwoRoom-v0")
    with pytest.raises(ValueError, match="drawn with split=test, but protocol paper-v3 has split=train"):
        manifest.check_protocol(load_protocol("paper"))
    with pytest.raises(ValueError, match="drawn from the data set"):
        manifest.check_episodes(make_episodes(60, seed=1))


def test_the_wrong_split_and_short_episodes_are_refused(episodes):
    with pytest.raises(ValueError, match="draws from split='train', but these episodes are 'test'"):
        sample_manifest(episodes, load_protocol("paper"), 5, 42)
    with pytest.raises(ValueError, match=f"goal_offset=200: the longest has {episodes.lengths.max()} rows, 201"):
        sample_manifest(episodes, load_protocol("clean", {"goal_offset": 200}), 5, 42)


def test_reacher_s_success_rule_follows_the_protocol():
    assert protocol_env_kwargs("reacher", {"image_size": 64}, load_protocol("paper")) == {
        "image_size": 64,
        "compat": True,
    }
    assert protocol_env_kwargs("lewm/Reacher-v0", {}, CLEAN) == {"compat": False}
    assert protocol_env_kwargs("two_room", {"compat": True}, CLEAN) == {"compat": True}
