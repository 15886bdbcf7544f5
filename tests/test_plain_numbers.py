"""Settings take the numbers of arrays, and keep them as Python's."""

import dataclasses
import enum
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given
from hypothesis import strategies as st

from lewm_hf import LeWMConfig
from lewm_hf.arguments_of import arguments_of
from lewm_hf.configuration_lewm_decoder import LeWMDecoderConfig
from lewm_hf.data.collect.arguments import CollectArguments
from lewm_hf.data.importers.mapping import ColumnMapping
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.plain_numbers import plain
from lewm_hf.planning.plan_settings import PlanSettings
from lewm_hf.planning.planners import load_planner
from lewm_hf.planning.solvers import make_solver
from lewm_hf.planning.solvers.base import check_counts
from lewm_hf.training.actor import ActorFit
from lewm_hf.training.arguments import TrainingRecipe
from lewm_hf.training.decoder_arguments import DecoderRecipe
from lewm_hf.world_models.dino_wm import DinoWMConfig
from lewm_hf.world_models.imitation import ImitationConfig
from lewm_hf.world_models.lewm_with_decoder import LeWMWithDecoderConfig
from lewm_hf.world_models.pldm import PLDMConfig

WHOLE = (np.int8, np.uint16, np.int64, np.array, torch.tensor, lambda n: enum.IntEnum("Number", {"ONE": n}).ONE)
REAL = (np.float16, np.float32, np.float64, torch.tensor, np.array, Fraction)
RUN = {"dataset": "walks", "output_dir": "run"}
SETTINGS = [
    *(make_solver(name) for name in ("cem", "icem", "mppi", "gradient", "random", "hybrid")),
    PlanSettings(guard=0.5, problem_batch=4),
    dataclasses.replace(load_planner("goal-time"), retry=2, context_frames=3),
    load_protocol("clean"),
    TrainingRecipe(**RUN, max_steps=10, moving_columns=[0, 2]),
    DecoderRecipe(model="model", **RUN),
    ActorFit(),
    CollectArguments("two_room", "out", 4, max_steps=9, noise=0.5),
    ColumnMapping(fps=10.0, action_dim=2, every=5, action_shift=1, skip_episodes=(3, 7)),
    *(kind() for kind in (LeWMConfig, LeWMDecoderConfig, PLDMConfig, DinoWMConfig, ImitationConfig)),
    LeWMWithDecoderConfig(encoder="conv", encoder_kwargs={"convolutions": [[8, 4, 4]]}),
]


@given(n=st.integers(0, 100), kind=st.sampled_from(WHOLE))
def test_whole_numbers_of_any_kind_are_ints(n, kind):
    found = plain([{"n": kind(n)}, (kind(n), "walk")])
    assert found == [{"n": n}, (n, "walk")] and type(found[0]["n"]) is int and type(found[1][0]) is int
    assert json.loads(json.dumps(found)) == [{"n": n}, [n, "walk"]]


@given(x=st.integers(-1000, 1000), kind=st.sampled_from(REAL))
def test_real_numbers_of_any_kind_are_floats(x, kind):
    found = plain(kind(x / 8))  # which every one of them holds exactly
    assert found == x / 8 and type(found) is float


def is_numbers(value):
    several = type(value) in (list, tuple) and len(value) > 0
    return all(type(one) in (int, float) for one in (value if several else [value]))


def same(value):
    """The same numbers as arrays hand them out."""
    if type(value) in (list, tuple):
        return type(value)(same(one) for one in value)
    return {int: np.int64, float: np.float32}.get(type(value), lambda it: it)(value)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_settings_keep_numbers_of_arrays_as_python_s(settings):
    given = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings) if entry.init}
    numbers = {name: value for name, value in given.items() if is_numbers(value)}
    assert len(numbers) >= 2
    for name, value in numbers.items():
        changed = type(settings)(**given | {name: same(value)})
        kept = getattr(changed, name)
        assert type(kept) is type(value), name
        assert kept == (pytest.approx(value, rel=1e-6) if type(value) is float else value)
        json.dumps(kept)


def test_hashes_and_results_are_those_of_plain_numbers():
    clean, goal_time = load_protocol("clean"), load_planner("goal-time")
    assert clean.override({"budget": np.int64(40), "seeds": [np.int32(1), 2]}).hash == (
        clean.override({"budget": 40, "seeds": [1, 2]}).hash
    )
    assert clean.override({"seeds": np.int64(5)}).seeds == (5,)
    changed = [dataclasses.replace(goal_time, horizon_floor=kind(1), horizon=kind(4)) for kind in (int, np.uint8)]
    assert changed[0].hash == changed[1].hash


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), torch.tensor(True), 8.5, np.float32(8.5), np.ones(2), "8", None]
)
def test_what_is_no_whole_number_is_refused_as_it_was_given(value):
    for solver in ("cem", "icem", "mppi", "gradient", "random", "hybrid"):
        with pytest.raises(ValueError, match="samples=.* must be a whole number of at least 1"):
            dataclasses.replace(make_solver(solver), samples=value)
    with pytest.raises(ValueError, match="horizon=.* must be a whole number"):
        PlanSettings(horizon=value)
    with pytest.raises(StrictDataclassError, match="'embed_dim' expected int"):
        LeWMConfig(embed_dim=value)


@pytest.mark.parametrize("value", [True, np.bool_(True), np.float32("nan"), np.inf, "0.5", np.ones(2)])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="initial_std=.* must be positive and finite"):
        dataclasses.replace(make_solver("cem"), initial_std=value)


def test_arguments_of_a_function_arrive_as_python_s_numbers():
    @dataclasses.dataclass(frozen=True)
    class Arguments:
        """Some.

        Args:
            seeds: of what is drawn.
            share: of the episodes.
        """

        seeds: list[int]
        share: float = 0.5

    @arguments_of(Arguments)
    def drawn(given: Arguments) -> str:
        """What was given.

        Returns:
            It, as JSON.
        """
        return json.dumps([given.seeds, given.share])

    assert drawn([np.int64(3), torch.tensor(4)], share=np.float32(0.25)) == "[[3, 4], 0.25]"


def test_a_solver_of_somebody_s_own_may_count_with_arrays():
    class Own:
        samples = np.int64(4)

    check_counts(Own(), "samples")
