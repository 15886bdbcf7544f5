"""The model against recorded outputs of the reference implementation, naive rollouts and a second load."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.utils import is_flash_attn_2_available

from lewm_hf import LeWMConfig, LeWMModel, attention_lewm
from lewm_hf.hub.convert.keys import convert_state_dict


@pytest.fixture(scope="module")
def recorded(fixtures):
    """The small reference model and what it computed."""
    folder = fixtures / "lewm_small"
    sizes = json.loads((folder / "sizes.json").read_text())
    encoder, predictor = sizes["encoder"], sizes["predictor"]
    config = LeWMConfig(
        image_size=encoder["image_size"],
        patch_size=encoder["patch_size"],
        encoder_hidden_size=encoder["hidden_size"],
        encoder_layers=encoder["num_hidden_layers"],
        encoder_heads=encoder["num_attention_heads"],
        encoder_mlp_size=encoder["intermediate_size"],
        embed_dim=sizes["projector"]["output_dim"],
        projector_hidden_size=sizes["projector"]["hidden_dim"],
        predictor_hidden_size=predictor["hidden_dim"],
        predictor_layers=predictor["depth"],
        predictor_heads=predictor["heads"],
        predictor_head_dim=predictor["dim_head"],
        predictor_mlp_size=predictor["mlp_dim"],
        action_mlp_size=4 * sizes["action_encoder"]["emb_dim"],
    )
    model = LeWMModel(config).eval()
    released = torch.load(folder / "weights.pt", weights_only=True)
    model.load_state_dict(convert_state_dict(released), strict=True)
    outputs = {name: torch.tensor(value) for name, value in np.load(folder / "io.npz").items()}
    return model, outputs


@torch.no_grad()
def test_encode_predict_and_rollout_equal_the_recorded_reference(recorded):
    model, io = recorded
    close = {"rtol": 0, "atol": 2e-6}
    embeddings = model.encode(io["pixel_values"])
    torch.testing.assert_close(embeddings, io["embeddings"], **close)
    actions = io["actions"]
    torch.testing.assert_close(model.action_encoder(actions[:, :3]), io["action_embeddings"], **close)
    torch.testing.assert_close(model.predict(embeddings, actions[:, :3]), io["predictions"], **close)
    from_one = model.rollout(embeddings[:, :1], io["candidates"])
    torch.testing.assert_close(from_one, io["rollout_context_1"], **close)
    from_three = model.rollout(embeddings, io["candidates"], actions[:, :2])
    torch.testing.assert_close(from_three, io["rollout_context_3"], **close)
    cost = (from_one[:, :, -1] - embeddings[:, 2:3]).square().sum(-1)
    torch.testing.assert_close(cost, io["goal_cost_context_1"], rtol=1e-5, atol=1e-5)


def test_parameter_counts_of_the_released_architecture():
    with torch.device("meta"):
        model = LeWMModel(LeWMConfig())
        cube = LeWMModel(LeWMConfig(action_dim=5))

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(model) == 18_034_478
    assert count(cube) == 18_034_628
    assert count(model.encoder) == 5_501_376
    assert count(model.predictor) == 10_791_360
    assert count(model.action_encoder) == 156_206
    assert count(model.projector) == count(model.pred_proj) == 792_768
    # 303 tensors of the released file less the 48 that the fused query-key-value projections save.
    assert len(model.state_dict()) == 303 - 48


def naive_rollout(model, context, plan, executed):
    """One candidate, the whole window through `predict` at every step; context (C, D), plan (T, A)."""
    frames, blocks, history = list(context), [*executed, *plan], model.config.history_size
    for step in range(len(plan)):
        first = max(0, len(context) + step - history)
        window = torch.stack(frames[first:])[None]
        actions = torch.stack(blocks[first : len(context) + step])[None]
        frames.append(model.predict(window, actions)[0, -1])
    return torch.stack(frames[len(context) :])


@torch.no_grad()
@pytest.mark.parametrize("history", [1, 2, 3, 4])
@pytest.mark.parametrize("context", [1, 2, 3, 5])
def test_rollout_equals_a_sliding_window(tiny_config, history, context):
    torch.manual_seed(history * 10 + context)
    tiny_config.history_size = history
    model = LeWMModel(tiny_config).eval()
    for layer in model.predictor.layers:
        layer.modulation.weight.normal_(std=0.3)
    embeddings, plans = torch.randn(2, context, 16), torch.randn(2, 3, 6, 10)
    executed = torch.randn(2, context - 1, 10)
    imagined = model.rollout(embeddings, plans, executed)
    for problem in range(2):
        for candidate in range(3):
            expected = naive_rollout(model, embeddings[problem], plans[problem, candidate], executed[problem])
            torch.testing.assert_close(imagined[problem, candidate], expected, rtol=1e-5, atol=1e-5)


def test_loss_is_its_formula_and_gradients_flow_through_the_targets(tiny_model):
    pixels, actions = torch.randn(5, 4, 3, 28, 28), torch.randn(5, 4, 10)
    directions = tiny_model.sigreg.directions(0, 0)
    out = tiny_model(pixels, actions, directions)
    error = out.predicted_embeddings - out.embeddings[:, 1:]
    assert out.prediction_loss.item() == pytest.approx(error.square().mean().item(), rel=1e-6)
    assert out.loss.item() == pytest.approx(out.prediction_loss.item() + 0.09 * out.sigreg_loss.item(), rel=1e-6)
    torch.testing.assert_close(out.embeddings, tiny_model.encode(pixels))
    torch.testing.assert_close(out.predicted_embeddings, tiny_model.predict(out.embeddings[:, :-1], actions[:, :3]))
    # The last frame enters the prediction loss as a target alone.
    frames = pixels.clone().requires_grad_()
    tiny_model(frames, actions, directions).prediction_loss.backward()
    assert frames.grad[:, -1].abs().max() > 0


def test_the_last_action_block_is_unused(tiny_model):
    pixels, actions = torch.randn(2, 4, 3, 28, 28), torch.randn(2, 4, 10)
    directions = tiny_model.sigreg.directions(0, 0)
    assert torch.equal(
        tiny_model(pixels, actions, directions).loss, tiny_model(pixels, actions[:, :3], directions).loss
    )


def test_initialization_follows_the_released_code():
    torch.manual_seed(0)
    config = LeWMConfig(encoder_layers=1, predictor_layers=1)
    model = LeWMModel(config)
    assert model.predictor.layers[0].modulation.weight.abs().max() == 0
    assert model.predictor.position_embedding.std().item() == pytest.approx(1.0, abs=0.1)
    assert model.encoder.position_embedding.std().item() == pytest.approx(0.02, abs=0.002)
    assert model.encoder.layers[0].fc1.weight.std().item() == pytest.approx(0.02, abs=0.002)
    # torch's default for a linear map: uniform within 1 / sqrt(fan in)
    weight = model.projector.fc1.weight
    assert weight.abs().max().item() == pytest.approx(192**-0.5, rel=1e-3)
    assert weight.std().item() == pytest.approx((192 * 3) ** -0.5, rel=0.02)


@pytest.mark.parametrize("encoder", ["vit", "resnet18"])
def test_save_and_load_are_bit_equal_for_every_parameter_and_buffer(tiny_config, tmp_path, encoder):
    tiny_config.encoder = encoder
    model = LeWMModel(tiny_config)
    model.train()
    model(torch.randn(4, 4, 3, 28, 28), torch.randn(4, 4, 10)).loss.backward()
    model.save_pretrained(tmp_path)
    garbage = [torch.full((size,), 7e8) for size in range(1, 3000, 7)]  # what an uninitialized buffer would show
    del garbage
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(model, kind)()), dict(getattr(loaded, kind)())
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert torch.equal(tensor, theirs[name]), name
    assert AutoConfig.from_pretrained(tmp_path).to_diff_dict() == loaded.config.to_diff_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_checkpoint_with_other_tensors_is_refused(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["encoder.renamed"] = tensors.pop("encoder.cls_token")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"cls_token.*renamed|renamed.*cls_token"):
        LeWMModel.from_pretrained(tmp_path)


def test_an_unconverted_published_checkpoint_names_the_converter(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_target_": "stable_worldmodel.wm.lewm.LeWM"}))
    with pytest.raises(ValueError, match="lewm convert"):
        LeWMModel.from_pretrained(tmp_path)


def test_loading_in_bfloat16_keeps_batch_norm_and_sigreg_in_float32(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    model = LeWMModel.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="auto")
    assert model.encoder.cls_token.dtype == torch.bfloat16
    assert model.projector.batch_norm.running_var.dtype == torch.float32
    assert torch.equal(model.sigreg.t, tiny_model.sigreg.t)
    pixels, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    with torch.no_grad():
        low, full = model(pixels, actions), tiny_model(pixels, actions)
    assert (low.embeddings.float() - full.embeddings).abs().mean() < 0.05 * full.embeddings.abs().mean()


def test_eager_and_sdpa_attention_agree(tiny_model, monkeypatch):
    pixels, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    directions = tiny_model.sigreg.directions(0, 0)
    assert tiny_model.config._attn_implementation == "sdpa"
    monkeypatch.setattr(attention_lewm, "SHORT_SEQUENCE", 0)
    sdpa = tiny_model(pixels, actions, directions)
    tiny_model.set_attn_implementation("eager")
    eager = tiny_model(pixels, actions, directions)
    torch.testing.assert_close(sdpa.predicted_embeddings, eager.predicted_embeddings, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(tiny_model):
    pixels, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    directions = tiny_model.sigreg.directions(0, 0)

    def gradients():
        tiny_model.zero_grad()
        tiny_model.train()
        torch.manual_seed(0)
        tiny_model(pixels, actions, directions).loss.backward()
        return [parameter.grad.clone() for parameter in tiny_model.parameters()]

    plain = gradients()
    tiny_model.gradient_checkpointing_enable()
    assert tiny_model.is_gradient_checkpointing
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_forward_and_rollout_compile_without_graph_breaks(tiny_model):
    pixels, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    directions = tiny_model.sigreg.directions(0, 0)
    compiled = torch.compile(tiny_model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(pixels, actions, directions).loss, tiny_model(pixels, actions, directions).loss)
    with torch.no_grad():
        context, plans = torch.randn(2, 1, 16), torch.randn(2, 5, 5, 10)
        rollout = torch.compile(tiny_model.rollout, fullgraph=True, backend="eager")
        assert torch.equal(rollout(context, plans), tiny_model.rollout(context, plans))


@pytest.mark.long
def test_inductor_computes_the_same(tiny_model):
    pixels, actions = torch.randn(3, 4, 3, 28, 28), torch.randn(3, 4, 10)
    directions = tiny_model.sigreg.directions(0, 0)
    compiled = torch.compile(tiny_model, fullgraph=True)
    torch.testing.assert_close(
        compiled(pixels, actions, directions).loss, tiny_model(pixels, actions, directions).loss, rtol=1e-5, atol=1e-5
    )


def test_return_dict_false_gives_the_same_values_as_a_tuple(tiny_model):
    window = torch.randn(2, 4, 3, 28, 28), torch.randn(2, 4, 10)
    named, out = tiny_model(*window), tiny_model(*window, return_dict=False)
    assert isinstance(out, tuple) and len(out) == len(named)
    for (name, value), other in zip(named.items(), out, strict=True):
        torch.testing.assert_close(other, value, rtol=0, atol=0, msg=name)


def test_timm_that_cannot_be_imported_is_a_clear_error(tiny_config, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    tiny_config.encoder = "timm/vit_tiny_patch16_224"
    with pytest.raises(ImportError, match=r"lewm-hf\[timm\]"):
        LeWMModel(tiny_config)


@pytest.mark.parametrize(
    ("pixels", "blocks", "message"),
    [
        ((2, 4, 1, 28, 28), (2, 4, 10), r"pixel_values of shape \(2, 4, 1, 28, 28\)"),
        ((2, 4, 3, 56, 56), (2, 4, 10), "LeWMImageProcessor"),
        ((2, 4, 3, 28, 28), (2, 4, 8), "8 wide.* = 10"),
        ((2, 5, 3, 28, 28), (2, 5, 10), "history_size"),
        ((2, 1, 3, 28, 28), (2, 1, 10), "window of 1 frames"),
        ((2, 4, 3, 28, 28), (2, 2, 10), "2 action blocks"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(tiny_model, pixels, blocks, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(torch.randn(pixels), torch.randn(blocks))


@pytest.mark.parametrize("shape", [(2, 5, 10), (1, 4, 5, 10), (2, 1, 4, 5, 10)])
def test_rollout_takes_several_plans_of_each_context_and_nothing_else(tiny_model, shape):
    """A single plan without its dimension was an error deep in the predictor, or taken for something else."""
    with pytest.raises(ValueError, match=r"do not fit 2 contexts: expected \(batch, plans, time, 10\)"):
        tiny_model.rollout(torch.zeros(2, 1, 16), torch.zeros(shape))


def test_rollout_needs_the_executed_blocks_of_its_context(tiny_model):
    with pytest.raises(ValueError, match="3 context frames need 2 executed"):
        tiny_model.rollout(torch.randn(1, 3, 16), torch.randn(1, 2, 5, 10))


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa", "flash_attention_2", "flex_attention"])
def test_a_future_action_changes_no_earlier_prediction(tiny_model, monkeypatch, attention):
    declared = {"flash_attention_2": tiny_model._supports_flash_attn, "flex_attention": tiny_model._supports_flex_attn}
    if attention == "flash_attention_2" and declared[attention] and not is_flash_attn_2_available():
        pytest.skip("flash attention needs a GPU")
    if not declared.get(attention, True):
        with pytest.raises(ValueError, match="does not support"):
            tiny_model.set_attn_implementation(attention)
        return
    tiny_model.set_attn_implementation(attention)
    monkeypatch.setattr(attention_lewm, "SHORT_SEQUENCE", 0)
    embeddings, actions = torch.randn(2, 3, 16), torch.randn(2, 3, 10)
    before = tiny_model.predict(embeddings, actions)
    for changed in (1, 2):
        other = actions.clone()
        other[:, changed] += 3
        after = tiny_model.predict(embeddings, other)
        assert torch.equal(after[:, :changed], before[:, :changed])
        assert (after[:, changed] - before[:, changed]).abs().max() > 1e-3


def test_an_evaluation_repeats_its_loss_and_training_draws_anew(tiny_model):
    pixels, actions = torch.randn(6, 4, 3, 28, 28), torch.randn(6, 4, 10)
    losses = set()
    for seed in range(3):
        torch.manual_seed(seed)
        losses.add(tiny_model(pixels, actions).loss.item())
    assert losses == {tiny_model(pixels, actions, tiny_model.sigreg.directions(0, 0)).loss.item()}
    tiny_model.config.predictor_dropout = 0.0
    tiny_model.train()
    with torch.no_grad():
        for seen in range(3):
            out = tiny_model(pixels, actions)
            expected = tiny_model.sigreg(out.embeddings.transpose(0, 1), tiny_model.sigreg.directions(0, seen))
            assert out.sigreg_loss.item() == pytest.approx(expected.item(), rel=1e-6)
