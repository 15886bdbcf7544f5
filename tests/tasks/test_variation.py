import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lewm_hf.tasks.variation import MAX_DRAWS, Choice, Integers, Uniform, VariationSpace


def space(**constraints):
    return VariationSpace(
        {
            "wall.width": Integers(initial=3, low=1, high=9, constraint=constraints.get("width"), rule="odd"),
            "agent.position": Uniform(initial=np.array([1.0, 2.0]), low=[0, 0], high=[10, 20]),
            "agent.color": Integers(initial=np.array([255, 0, 0]), low=0, high=255),
            "agent.mass": Uniform(initial=1.0, low=0.5, high=2.0),
            "block.shape": Choice(initial="T", choices=("T", "L", "+")),
        },
        default=("agent.position",),
    )


def same(left, right):
    return all(np.array_equal(left[name], right[name]) for name in left)


def test_only_the_default_names_are_resampled_and_the_others_restored():
    values = space().sample(np.random.default_rng(0))
    initial = space().initial_values()
    assert not np.array_equal(values["agent.position"], initial["agent.position"])
    del values["agent.position"], initial["agent.position"]
    assert same(values, initial)


def test_requested_names_replace_the_default_ones_and_an_empty_list_resamples_nothing():
    variations = space()
    assert same(variations.sample(np.random.default_rng(0), []), variations.initial_values())
    values = variations.sample(np.random.default_rng(0), ["agent.mass"])
    assert values["agent.mass"] != 1.0
    assert np.array_equal(values["agent.position"], [1.0, 2.0])


@given(
    st.permutations(["wall.width", "agent.position", "agent.color", "agent.mass", "block.shape"]), st.integers(0, 99)
)
def test_the_order_of_the_request_does_not_matter(names, seed):
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    assert same(space().sample(rng, names), space().sample(again, ["all"]))
    assert rng.random() == again.random()


@given(st.integers(0, 500))
def test_draws_stay_in_their_range_and_have_the_type_of_the_initial_value(seed):
    values = space().sample(np.random.default_rng(seed), ["all"])
    assert 1 <= values["wall.width"] <= 9 and isinstance(values["wall.width"], int)
    assert np.all((values["agent.position"] >= 0) & (values["agent.position"] <= [10, 20]))
    assert values["agent.color"].shape == (3,) and values["agent.color"].dtype.kind == "i"
    assert 0.5 <= values["agent.mass"] <= 2.0 and isinstance(values["agent.mass"], float)
    assert values["block.shape"] in ("T", "L", "+")


def test_integers_reach_both_ends():
    drawn = {space().sample(np.random.default_rng(seed), ["wall"])["wall.width"] for seed in range(200)}
    assert drawn == set(range(1, 10))


def test_a_group_stands_for_its_members_only():
    assert space().expand(["agent"]) == {"agent.position", "agent.color", "agent.mass"}


def test_rejection_keeps_only_accepted_draws():
    odd = space(width=lambda width, values: width % 2 == 1)
    assert {odd.sample(np.random.default_rng(seed), ["wall"])["wall.width"] for seed in range(99)} == {1, 3, 5, 7, 9}


def test_a_constraint_sees_earlier_factors_new_and_explicit_ones_anywhere():
    seen = []
    factors = {
        "a": Uniform(initial=0.0, low=1.0, high=2.0),
        "b": Uniform(
            initial=0.0, low=0.0, high=1.0, constraint=lambda value, values: seen.append(dict(values)) or True
        ),
        "c": Uniform(initial=0.0, low=0.0, high=9.0),
    }
    values = VariationSpace(factors).sample(np.random.default_rng(0), ["all"], {"c": 7})
    assert seen[0]["a"] == values["a"] >= 1 and seen[0]["c"] == 7.0


def test_rejection_gives_up_after_1000_draws():
    draws = []
    never = space(width=lambda width, values: bool(draws.append(width)))
    with pytest.raises(ValueError, match=r"no value of wall.width .* after 1000 draws \(odd\)"):
        never.sample(np.random.default_rng(0), ["wall.width"])
    assert len(draws) == MAX_DRAWS == 1000


def test_explicit_values_win_and_are_not_resampled():
    values = space().sample(np.random.default_rng(0), ["all"], {"agent.position": [3, 4], "block.shape": "L"})
    assert np.array_equal(values["agent.position"], [3.0, 4.0]) and values["block.shape"] == "L"


def test_values_are_fresh_copies():
    variations = space()
    variations.sample(np.random.default_rng(0), [])["agent.color"][:] = 7
    assert np.array_equal(variations.initial_values()["agent.color"], [255, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["agent.size"]}, "unknown factor of variation 'agent.size': use 'all' or any of wall.width, agent"),
        ({"names": "agent"}, r"must be a list of names: write \['agent'\]"),
        ({"values": {"size": 1}}, "unknown factor of variation 'size': use any of wall.width"),
        ({"values": {"wall.width": 10}}, r"wall.width=10 is outside \[1, 9\]"),
        ({"values": {"wall.width": 2.5}}, "wall.width=2.5 must be whole"),
        ({"values": {"wall.width": "wide"}}, "wall.width='wide' is not numeric"),
        ({"values": {"agent.mass": float("nan")}}, "agent.mass=nan is outside"),
        ({"values": {"agent.position": [1.0]}}, r"has shape \(1,\): expected \(2,\)"),
        ({"values": {"block.shape": "Q"}}, "block.shape='Q' is none of T, L, +"),
    ],
)
def test_bad_requests_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        space().sample(np.random.default_rng(0), **arguments)
    assert "\n" not in str(error.value)


def test_explicit_values_must_satisfy_the_constraint():
    with pytest.raises(ValueError, match="wall.width=4 breaks its constraint: odd"):
        space(width=lambda width, values: width % 2 == 1).sample(np.random.default_rng(0), [], {"wall.width": 4})
