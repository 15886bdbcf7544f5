"""The manifests inside the package: whole, by the rules, and from the episodes that they name."""

import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from lewm_hf.data.collect.arguments import CollectArguments
from lewm_hf.data.collect.recording import record_all
from lewm_hf.data.collect.settings import paper_preset, settle
from lewm_hf.evaluation.common.results import read_result, read_rows
from lewm_hf.evaluation.success.floors import ZeroPolicy
from lewm_hf.evaluation.success.manifest import load_manifest, protocol_env_kwargs
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.rollouts import run_policy
from lewm_hf.evaluation.success.shipped import shipped_folder, shipped_manifests, shipped_name
from lewm_hf.tasks.policies import make_expert
from lewm_hf.tasks.registry import make_env, task_names
from lewm_hf.tasks.vector import GoalVectorEnv

CARDS = Path(__file__).parents[3] / "model_cards"
CLEAN, PAPER = load_protocol("clean"), load_protocol("paper")
OFFSETS = (25, 50, 75, 100)


def at(offset: int):
    return load_protocol("clean", {"goal_offset": offset})


def test_every_task_has_both_protocols_and_no_file_is_left_over():
    expected = {
        shipped_name(env, at(offset), seed) for env in task_names() for offset in OFFSETS for seed in CLEAN.seeds
    }
    expected |= {shipped_name(env, PAPER, seed) for env in task_names() for seed in PAPER.seeds}
    assert {path.name for path in shipped_folder().iterdir()} == expected


@pytest.mark.parametrize("env", task_names())
@pytest.mark.parametrize("offset", OFFSETS)
def test_clean_pairs_obey_the_rules(env, offset):
    protocol = at(offset)
    world = make_env(env, image_size=16, **protocol_env_kwargs(env, {}, protocol))
    world.reset(seed=0, options={"goal_image": False})
    first_held_out = round(0.9 * paper_preset(env)["episodes"])
    for seed, manifest in zip(protocol.seeds, shipped_manifests(env, protocol, protocol.seeds), strict=True):
        assert len(manifest) == protocol.pairs == 100 and manifest.seed == seed
        assert len({pair.episode for pair in manifest.pairs}) == 100  # one pair of each
        assert min(pair.episode for pair in manifest.pairs) >= first_held_out
        assert {pair.goal_frame - pair.start_frame for pair in manifest.pairs} == {offset}
        assert not world.reached(manifest.start_states, manifest.goal_states).any()
        if env == "two_room":
            for (x, y), (u, v) in zip(manifest.start_states, manifest.goal_states, strict=True):
                assert (x < 112) != (u < 112) and min(abs(x - 112), abs(u - 112)) > 12
                assert all(21 <= value <= 203 for value in (x, y, u, v))
    world.close()


@pytest.mark.parametrize("env", task_names())
def test_paper_pairs_come_from_training_episodes(env):
    world = make_env(env, image_size=16, **protocol_env_kwargs(env, {}, PAPER))
    world.reset(seed=0, options={"goal_image": False})
    for manifest in shipped_manifests(env, PAPER, PAPER.seeds):
        assert len(manifest) == PAPER.pairs == 50
        assert max(pair.episode for pair in manifest.pairs) < round(0.9 * paper_preset(env)["episodes"])
        # What the data set held is in the file: some pairs are solved before the first action, and stay in.
        assert 0 < manifest.counts.solved_at_start < manifest.counts.valid == manifest.counts.admitted
    world.close()


@pytest.mark.parametrize("env", task_names())
def test_states_are_those_of_the_episode_that_is_named(env):
    """Simulated again from (seed, episode number) alone, along another way than the maker's."""
    preset = paper_preset(env)
    given = settle(CollectArguments(env, "unused", image_size=16, **preset))
    manifest = shipped_manifests(env, CLEAN, [42])[0]
    pair = min(manifest.pairs, key=lambda pair: pair.goal_frame)
    world = make_env(env, image_size=16)
    expert = make_expert(env, given.expert, **given.expert_kwargs)
    steps = pair.goal_frame
    (episode,) = record_all(world, expert, given.seed, [pair.episode], steps, given.stop_at_success, pictures=False)
    for frame, state in ((pair.start_frame, pair.start_state), (pair.goal_frame, pair.goal_state)):
        np.testing.assert_allclose(episode.states[frame], state, atol=1e-6)
    world.close()


def doing_nothing(env: str, manifest, rest_start: bool = False) -> list[bool]:
    kwargs = protocol_env_kwargs(env, {"image_size": 16}, CLEAN)
    with GoalVectorEnv(env, len(manifest), **kwargs) as worlds:
        policy = ZeroPolicy(worlds.single_action_space, len(manifest))
        rollouts = run_policy(worlds, policy, manifest, CLEAN.budget, see_goals=False, rest_start=rest_start)
    return [outcome.success for outcome in rollouts.outcomes]


def measured_floor(env: str) -> dict[tuple[int, int, int], bool]:
    """What doing nothing reached on the shipped pairs when the shipped checkpoints were evaluated, by problem."""
    folder = {"two_room": "tworoom", "push_t": "pusht"}.get(env, env)
    results = CARDS.glob(f"lewm-{folder}-mini/evaluation/clean-*/results.json")
    found = [(read_result(path), path) for path in results]
    near = [
        (one.success.n, path) for one, path in found if one.pairs == "shipped" and one.protocol["goal_offset"] == 25
    ]
    rows = read_rows(max(near)[1])
    return {(row.seed, row.episode, row.start): row.zero_action_success for row in rows}


@pytest.mark.parametrize("env", ["two_room", "push_t"])
def test_doing_nothing_solves_nothing_under_clean(env):
    pairs = {"two_room": 100, "push_t": 20}[env]
    assert not any(doing_nothing(env, shipped_manifests(env, CLEAN, [42], pairs)[0]))
    assert not any(measured_floor(env).values())


@pytest.mark.parametrize(("env", "solved"), [("reacher", 5), ("cube", 18)])
def test_where_things_move_by_themselves_doing_nothing_solves_what_the_protocol_says(env, solved):
    """The floor beside every rate, its number in the protocol's file, and the same again on some of the pairs."""
    floor = measured_floor(env)
    assert len(floor) == 300 and sum(floor.values()) == solved
    text = (files("lewm_hf.evaluation.success") / "protocols" / "clean.yaml").read_text(encoding="utf-8")
    assert f"{solved} in {env.capitalize()}" in text
    manifest = shipped_manifests(env, CLEAN, [42])[0]

    def reached(pair) -> bool:
        return floor[42, pair.episode, pair.start_frame]

    some = sorted(manifest.pairs, key=reached)[-4:] + sorted(manifest.pairs, key=reached)[:2]
    some = replace(manifest, pairs=tuple(sorted(some, key=lambda pair: (pair.episode, pair.start_frame))))
    assert doing_nothing(env, some) == [reached(pair) for pair in some.pairs]
    # An arm at rest stays; a cube falls from rest too.
    from_rest = zip(doing_nothing(env, some, rest_start=True), some.pairs, strict=True)
    assert [success for success, pair in from_rest if reached(pair)] == [env == "cube"] * 3


def test_fewer_pairs_are_a_part_of_all():
    few, all_of_them = (shipped_manifests("two_room", CLEAN, [43], n)[0] for n in (10, 100))
    assert len(few) == 10 and set(few.pairs) < set(all_of_them.pairs)
    assert load_manifest(shipped_folder() / shipped_name("lewm/TwoRoom-v0", CLEAN, 43)).hash == all_of_them.hash


def test_what_does_not_ship_is_refused_with_what_does():
    offered = "clean at 25, 50, 75, 100; paper at 25; seeds 42, 43, 44"
    with pytest.raises(FileNotFoundError, match=f"no pairs ship for two_room, .* seed 7: .* choose of {offered}"):
        shipped_manifests("two_room", CLEAN, [7])
    with pytest.raises(FileNotFoundError, match="no pairs ship for two_room, protocol clean, goal_offset=30, seed 42"):
        shipped_manifests("two_room", at(30), [42])
    with pytest.raises(ValueError, match="drawn with split=test, but protocol clean-v1"):
        shipped_manifests("two_room", load_protocol("clean", {"split": "train"}), [42])
    with pytest.raises(ValueError, match="n=101 pairs were asked for"):
        shipped_manifests("two_room", CLEAN, [42], 101)


def test_distances_in_the_files_are_what_the_data_can_do():
    """25 steps of at most 5 px along each axis."""
    for pair in shipped_manifests("two_room", PAPER, [42])[0].pairs:
        assert math.dist(pair.start_state, pair.goal_state) <= 25 * math.hypot(5, 5) + 24
