"""Roll-outs prepared for a search against the window slid step by step, and when they must not be."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from lewm_hf import LeWMConfig, LeWMModel, fixed_weights_lewm, rollout_lewm
from lewm_hf.planning import PlanSettings, plan
from lewm_hf.threads import one_thread, side_by_side

from .worlds import NaiveWorld


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def opened(config: LeWMConfig, seed: int) -> LeWMModel:
    """Random weights whose gates are open and whose BatchNorms have uneven statistics."""
    torch.manual_seed(seed)
    model = LeWMModel(config).eval()
    with torch.no_grad():
        for layer in model.predictor.layers:
            layer.modulation.weight.normal_(std=0.3)
            layer.modulation.bias.normal_(std=0.3)
        norm = model.pred_proj.batch_norm
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.normal_(1, 0.3)
        norm.bias.normal_()
    return model


@given(
    history=st.integers(1, 5), context=st.integers(1, 6), horizon=st.integers(1, 7), problems=st.integers(1, 3),
    samples=st.integers(1, 9), wider=st.booleans(), heads=st.sampled_from([2, 3]), portion=st.integers(1, 9),
    few=st.sampled_from([0, 27]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_both_ways_equal_the_window_slid_step_by_step(
    history, context, horizon, problems, samples, wider, heads, portion, few
):
    config = LeWMConfig(
        image_size=8, patch_size=8, encoder_hidden_size=8, encoder_layers=1, encoder_heads=1, encoder_mlp_size=8,
        embed_dim=16, projector_hidden_size=32, predictor_hidden_size=24 if wider else 16, predictor_layers=2,
        predictor_heads=heads, predictor_head_dim=8, predictor_mlp_size=32, action_mlp_size=48, history_size=history,
        sigreg_projections=8,
    )  # fmt: skip
    model = opened(config, seed=history + 10 * context)
    frames, plans = torch.randn(problems, context, 16), torch.randn(problems, samples, horizon, 10)
    executed = torch.randn(problems, context - 1, 10) if context > 1 else None
    expected = NaiveWorld(model).rollout(frames, plans, executed)
    torch.testing.assert_close(model.rollout(frames, plans, executed), expected, rtol=1e-5, atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout_lewm, "SMALLEST_PORTION", portion)
        patch.setattr(rollout_lewm, "LARGEST_PORTION", portion)
        patch.setattr(rollout_lewm, "FEW", few)  # 3 problems of 9 candidates are few, or one is many
        prepared = model.prepare_rollout()
        torch.testing.assert_close(prepared(frames, plans, executed), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("wide", [0, 128], ids=["packed", "plain"])
def test_half_precision_is_as_close_as_autocast(tiny_config, context, wide, monkeypatch):
    monkeypatch.setattr(fixed_weights_lewm, "WIDE", wide)
    model = opened(tiny_config, 0)
    frames, plans, executed = torch.randn(2, context, 16), torch.randn(2, 50, 5, 10), torch.randn(2, context - 1, 10)
    exact = model.rollout(frames, plans, executed)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.rollout(frames, plans, executed)
        prepared = model.prepare_rollout(torch.bfloat16)(frames, plans, executed)
    assert prepared.dtype == torch.float32 and not torch.equal(prepared, exact)
    assert (prepared - exact).abs().mean() < 1.5 * (rough - exact).abs().mean()


@torch.no_grad()
def test_what_the_candidates_share_is_computed_once(tiny_model):
    rows = {}
    for name, part in (("actions", tiny_model.action_encoder.fc2), ("keys", tiny_model.predictor.layers[0].attention)):
        part.register_forward_hook(
            lambda module, inputs, output, name=name: rows.setdefault(name, []).append(inputs[0].shape[:2].numel())
        )
    tiny_model.rollout(torch.randn(2, 3, 16), torch.randn(2, 7, 5, 10), torch.randn(2, 2, 10))
    assert sum(rows["actions"]) == 2 * 7 * 5 + 2 * 2
    # Windows of three tokens, of which two, one and none belong to the context of both problems.
    assert rows["keys"] == [2 * 2, 14 * 1, 2 * 1, 14 * 2, 14 * 3, 14 * 3, 14 * 3]


@torch.no_grad()
def test_a_window_s_first_token_costs_one_small_product(tiny_model):
    config, samples, prepared = tiny_model.config, 40, tiny_model.prepare_rollout()
    width, inner = config.predictor_hidden_size, config.predictor_heads * config.predictor_head_dim
    layers, mlp = config.predictor_layers, 2 * width * config.predictor_mlp_size
    assert config.history_size == 3
    # Windows of one, two and three tokens, then twice of three tokens anew: nine tokens, three of them the first of
    # their window. The last layer is asked for the last token of each window, once the first.
    tokens = (layers - 1) * (6 * 4 * width * inner + 9 * mlp) + (6 * 2 + 4 * 2) * width * inner + 5 * mlp
    tokens += layers * (3 + 5 * 6) * width**2 + (9 + 5) * config.embed_dim * width
    actions = config.action_mlp_size * (config.action_block_size + width)
    projector = 2 * config.embed_dim * config.projector_hidden_size
    with FlopCounterMode(display=False) as counter:
        prepared(torch.randn(1, 1, config.embed_dim), torch.randn(1, samples, 5, 10))
    assert counter.get_total_flops() == 2 * samples * (tokens + 5 * (actions + projector))


@torch.no_grad()
def test_weights_are_read_when_a_search_begins_and_never_changed(tiny_model):
    before = copy.deepcopy(tiny_model.state_dict())
    frames, plans = torch.randn(1, 1, 16), torch.randn(1, 4, 5, 10)
    first = tiny_model.prepare_rollout()(frames, plans)
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    tiny_model.predictor.layers[0].attention.qkv.weight.data.mul_(2)  # behind autograd's back
    second = tiny_model.prepare_rollout()(frames, plans)
    torch.testing.assert_close(second, tiny_model.rollout(frames, plans), rtol=1e-5, atol=1e-5)
    assert (second - first).abs().max() > 1e-3


def by_an_optimizer(model):
    parameters = [*model.pred_proj.fc1.parameters()]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(parameters, lr=0.1).step()


def by_other_statistics(model):
    model.pred_proj.batch_norm.running_var.mul_(2)


def by_another_checkpoint(model):
    model.load_state_dict({name: 1.5 * value for name, value in model.state_dict().items()})


def behind_autograd_s_back(model):
    model.action_encoder.fc2.bias.data.add_(0.5)


def by_another_tensor(model):
    layer = model.predictor.layers[0].mlp.fc1
    layer.weight = torch.nn.Parameter(2 * layer.weight.detach())


@pytest.mark.parametrize(
    "change",
    [by_an_optimizer, by_other_statistics, by_another_checkpoint, behind_autograd_s_back, by_another_tensor],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("samples", [4, 90], ids=["few", "many"])
def test_weights_are_laid_out_again_only_when_they_changed(tiny_model, two_threads, monkeypatch, change, samples):
    made = []
    lay_out = rollout_lewm.FixedWeights
    monkeypatch.setattr(rollout_lewm, "FixedWeights", lambda *given: made.append(given[1]) or lay_out(*given))
    frames, plans = torch.randn(1, 1, 16), torch.randn(1, samples, 5, 10)
    first = [tiny_model.prepare_rollout()(frames, plans) for _ in range(3)][0]
    tiny_model.prepare_rollout(torch.bfloat16)
    assert made == [torch.float32, torch.bfloat16]
    with torch.no_grad():
        change(tiny_model)
        second = tiny_model.prepare_rollout()(frames, plans)
        torch.testing.assert_close(second, tiny_model.rollout(frames, plans), rtol=1e-5, atol=1e-5)
    assert made == [torch.float32, torch.bfloat16, torch.float32] and not torch.allclose(first, second, atol=1e-4)


def test_weights_made_without_counts_of_changes_are_laid_out_every_time(tiny_config):
    with torch.inference_mode():
        model = opened(tiny_config, 0)
        frames, plans = torch.randn(1, 1, 16), torch.randn(1, 4, 5, 10)
        first = model.prepare_rollout()(frames, plans)
        model.pred_proj.fc2.weight.mul_(2)
        assert not torch.allclose(model.prepare_rollout()(frames, plans), first)


def test_a_model_that_has_planned_is_let_go(tiny_config):
    model = opened(tiny_config, 0)
    model.prepare_rollout()(torch.randn(1, 1, 16), torch.randn(1, 4, 5, 10))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_gradients_reach_the_candidates(tiny_model):
    frames, plans = torch.randn(1, 1, 16), torch.randn(1, 4, 5, 10)
    gradients = []
    for rollout in (tiny_model.rollout, tiny_model.prepare_rollout()):
        leaf = plans.clone().requires_grad_()
        gradients.append(torch.autograd.grad(rollout(frames, leaf).square().sum(), leaf)[0])
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().min() > 0


class Doubled(LeWMModel):
    def rollout(self, context, candidates, executed=None):
        return 2 * super().rollout(context, candidates, executed)


def adapted(model):
    get_peft_model(model, LoraConfig(target_modules=["fc1"]))


def hooked(model):
    model.predictor.layers[1].mlp.fc2.register_forward_hook(lambda *_: None)


def replaced(model):
    model.predictor.layers[0].attention.out = torch.nn.Sequential(model.predictor.layers[0].attention.out)


def patched(model):
    model.pred_proj.forward = torch.autocast("cpu", torch.bfloat16)(model.pred_proj.forward)


def overridden(model):
    model.__class__ = Doubled


def in_training(model):
    model.pred_proj.batch_norm.train()


def remembering_longer(model):
    model.config.history_size = 9


@pytest.mark.parametrize(
    "change",
    [adapted, hooked, replaced, patched, overridden, in_training, remembering_longer],
    ids=lambda f: f.__name__,
)
def test_whatever_stands_between_weights_and_results_is_asked(tiny_model, change):
    assert tiny_model.prepare_rollout() is not None
    change(tiny_model)
    assert tiny_model.prepare_rollout() is None


@pytest.mark.parametrize(("dtype", "wide"), [(None, 128), ("bfloat16", 128), ("bfloat16", 0)])
def test_problems_side_by_side_keep_every_bit(tiny_model, two_threads, dtype, wide, monkeypatch):
    monkeypatch.setattr(fixed_weights_lewm, "WIDE", wide)  # whether weights are packed, which forbids recordings
    generator = torch.Generator().manual_seed(0)
    frames, goals = torch.randn(5, 1, 16, generator=generator), torch.randn(5, 16, generator=generator)
    search = PlanSettings.of(samples=90, iterations=3, elites=9, rollout_dtype=dtype)
    names = [f"episode {number}" for number in range(5)]
    together = plan(tiny_model, frames, goals, search, problems=names)
    for row in range(5):
        part = slice(row, row + 1)
        alone = plan(tiny_model, frames[part], goals[part], search, problems=names[part])
        for name, value in alone.items():
            assert torch.equal(value, together[name][part]), name


def test_every_item_has_one_thread_and_nobody_else_loses_any(two_threads):
    meeting = threading.Barrier(2)  # passed only by two at a time

    def work(item):
        meeting.wait(timeout=20)
        within = side_by_side(lambda x: (x, threading.get_ident()), [1, 2])
        assert {identity for _, identity in within} == {threading.get_ident()}
        return item, torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    with torch.no_grad():
        assert side_by_side(work, range(4)) == [(item, 1, False, False) for item in range(4)]
    with torch.inference_mode():
        assert side_by_side(work, range(2)) == [(item, 1, False, True) for item in range(2)]
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 2 and later == [2]


def test_one_thread_asks_several_cores_and_they_nobody(two_threads):
    meeting = threading.Barrier(2)

    def work(item):
        meeting.wait(timeout=20)
        return side_by_side(lambda _: threading.get_ident(), [1, 2], 2)  # would wait for itself

    with one_thread():
        assert torch.get_num_threads() == 1
        found = side_by_side(work, [1, 2], 2)
        assert torch.get_num_threads() == 1
    assert [len(set(within)) for within in found] == [1, 1] and len({within[0] for within in found}) == 2
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert torch.get_num_threads() == 2


def test_an_error_of_one_item_is_raised(two_threads):
    def fail(item):
        if item == 1:
            raise ValueError("item 1")
        return item

    with pytest.raises(ValueError, match="item 1"):
        side_by_side(fail, range(6))
    assert side_by_side(fail, [2, 3]) == [2, 3]
