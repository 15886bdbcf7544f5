"""The tools that people put around every model of transformers, on a tiny one: results stay what they are without."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import FullyShardedDataParallelPlugin
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from transformers import AutoModel, Trainer, TrainingArguments, pipeline

from lewm_hf import LeWMImageProcessor, LeWMModel
from lewm_hf.planning import CEM, PlanSettings, plan

from .fetch import torchao
from .trainer_on_ranks import train as train_on_ranks

SEARCH = PlanSettings(solver=CEM(samples=20, iterations=3, elites=4), horizon=5)


@pytest.fixture
def problem():
    """Context `(2, 1, D)` and goals `(2, 1, D)`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 16, generator=generator), torch.randn(2, 1, 16, generator=generator)


def planned(model, problem):
    dtype = next(model.parameters()).dtype
    context, goal = (latent.to(dtype) for latent in problem)
    return plan(model, context, goal, SEARCH)


def test_unmerged_adapters_plan_as_merged_ones(tiny_model, problem):
    before = planned(tiny_model, problem)
    adapted = get_peft_model(tiny_model, LoraConfig(target_modules=["qkv", "out", "fc1", "fc2", "modulation"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    adapted.eval()
    unmerged = planned(adapted, problem)
    merged = planned(adapted.merge_and_unload(), problem)
    assert (unmerged["costs"] - before["costs"]).abs().min() > 1e-3
    torch.testing.assert_close(unmerged["costs"], merged["costs"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unmerged["actions"], merged["actions"], rtol=1e-4, atol=1e-4)


def test_trained_adapters_are_saved_loaded_and_merged(tiny_model, tmp_path):
    """With BatchNorm's running statistics, which training moves and an adapter's file holds only if it is told to."""
    base = copy.deepcopy(tiny_model)
    lora = LoraConfig(r=2, target_modules=["qkv", "fc1", "fc2"], modules_to_save=["batch_norm"])
    adapted = get_peft_model(tiny_model, lora).train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert sum(map(torch.Tensor.numel, trained)) < 0.5 * sum(map(torch.Tensor.numel, base.parameters()))
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    batch = {"pixel_values": torch.randn(6, 4, 3, 28, 28), "actions": torch.randn(6, 4, 10)}
    values = []
    for _ in range(8):
        loss = adapted.losses(batch, adapted.step_inputs(0, 0))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]
    adapted.eval().save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter").eval()
    loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = LeWMModel.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        expected, before = (model(**batch).embeddings for model in (adapted, base))
        torch.testing.assert_close(merged(**batch).embeddings, expected, rtol=1e-4, atol=1e-5)
    assert (before - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    ("attached", "trains_already"), [("around", False), ("within", False), ("around", True), ("within", True)]
)
def test_adapters_saved_alone_are_the_model_that_was_trained(tiny_model, tmp_path, caplog, attached, trains_already):
    """An adapter's file holds no running statistics: none may move that it does not hold."""
    base = copy.deepcopy(tiny_model)
    lora = LoraConfig(r=2, target_modules=["qkv", "fc1", "fc2"])
    tiny_model.train(trains_already)
    if attached == "around":
        adapted = get_peft_model(tiny_model, lora)
    else:
        adapted = tiny_model
        adapted.add_adapter(lora)
    if not trains_already:
        adapted.train()
    optimizer = torch.optim.AdamW([parameter for parameter in adapted.parameters() if parameter.requires_grad], lr=1e-2)
    batch = {"pixel_values": torch.randn(6, 4, 3, 28, 28), "actions": torch.randn(6, 4, 10)}
    for step in range(3):
        adapted.losses(batch, adapted.step_inputs(0, step))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        if not trains_already:
            adapted.train()
    told = [record.message for record in caplog.records if "modules_to_save=['batch_norm']" in record.message]
    assert len(told) <= 1 and all("\n" not in line for line in told)
    adapted.eval().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    with torch.no_grad():
        expected, before = (model(**batch).embeddings for model in (adapted, base))
        torch.testing.assert_close(loaded(**batch).embeddings, expected, rtol=1e-4, atol=1e-5)
    assert (before - expected).abs().max() > 0.01
    assert loaded.merge_and_unload().train().projector.batch_norm.training  # without adapters everything trains


@torch.no_grad()
def test_a_hook_on_the_last_layer_is_not_passed_by(tiny_model):
    context, plans = torch.randn(1, 1, 16), torch.randn(1, 3, 5, 10)
    before = tiny_model.rollout(context, plans)
    qkv = tiny_model.predictor.layers[-1].attention.qkv
    handle = qkv.register_forward_hook(lambda module, inputs, output: output * 2)
    hooked = tiny_model.rollout(context, plans)
    handle.remove()
    qkv.weight.mul_(2)
    torch.testing.assert_close(hooked, tiny_model.rollout(context, plans), rtol=1e-5, atol=1e-6)
    assert (hooked - before).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_casts_equal_loading_in_the_type_and_plan(tiny_model, problem, tmp_path, dtype, apart):
    tiny_model.save_pretrained(tmp_path)
    loaded = LeWMModel.from_pretrained(tmp_path, dtype=dtype).eval()
    cast = copy.deepcopy(tiny_model).to(dtype)
    halved = copy.deepcopy(tiny_model)
    halved = halved.half() if dtype == torch.float16 else halved.bfloat16()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, cast.state_dict()[name]) and torch.equal(tensor, halved.state_dict()[name]), name
    assert cast.projector.batch_norm.running_var.dtype == cast.sigreg.t.dtype == torch.float32
    full, low = planned(tiny_model, problem), planned(cast, problem)
    assert low["costs"].float() == pytest.approx(full["costs"].numpy(), rel=10 * apart)
    pixels, actions = torch.randn(8, 4, 3, 28, 28), torch.randn(8, 4, 10)
    with torch.no_grad():
        low, full = cast(pixels, actions), tiny_model(pixels, actions)
    assert low.loss.dtype == torch.float32
    assert low.loss.item() == pytest.approx(full.loss.item(), rel=apart)


@torch.no_grad()
def test_rolls_out_with_layers_on_disk(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    places = {name: "cpu" for name, _ in tiny_model.named_children()}
    del places["predictor"], places["encoder"]
    places |= {f"predictor.{name}": "cpu" for name in ("input_projection", "output_projection", "norm")}
    places |= {f"predictor.layers.{index}": "disk" for index in range(2)} | {"encoder": "disk"}
    places["predictor.position_embedding"] = "cpu"
    offloaded = AutoModel.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=tmp_path / "disk"
    ).eval()
    assert offloaded.predictor.layers[1].attention.qkv.weight.is_meta
    context, plans, pixels = torch.randn(2, 1, 16), torch.randn(2, 3, 5, 10), torch.randn(2, 1, 3, 28, 28)
    # The last layer computes what hooks would see of the other tokens too, with other roundings.
    torch.testing.assert_close(offloaded.encode(pixels), tiny_model.encode(pixels), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        offloaded.rollout(context, plans), tiny_model.rollout(context, plans), rtol=1e-5, atol=1e-6
    )


QUANTIZED = """
import sys
import torch
from torchao.quantization import Int8WeightOnlyConfig
from transformers import AutoModel, TorchAoConfig
import lewm_hf

folder = sys.argv[1]
model = AutoModel.from_pretrained(folder, quantization_config=TorchAoConfig(Int8WeightOnlyConfig())).eval()
assert type(model.predictor.layers[0].attention.qkv.weight) is not torch.nn.Parameter
inputs = torch.load(f"{folder}/inputs.pt", weights_only=True)
with torch.no_grad():
    outputs = {
        "embeddings": model.encode(inputs["pixel_values"]),
        "rollout": model.rollout(inputs["context"], inputs["plans"]),
    }
torch.save(outputs, f"{folder}/outputs.pt")
"""


def test_quantized_weights_compute_nearly_the_same(tiny_model, tmp_path):
    if not torchao().exists():
        pytest.skip("torchao is missing: run `make test` once")
    tiny_model.save_pretrained(tmp_path)
    inputs = {
        "pixel_values": torch.randn(2, 3, 3, 28, 28),
        "context": torch.randn(2, 1, 16),
        "plans": torch.randn(2, 3, 5, 10),
    }
    torch.save(inputs, tmp_path / "inputs.pt")
    paths = [str(torchao()), str(Path(__file__).parents[2])]
    subprocess.run(
        [sys.executable, "-c", QUANTIZED, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, check=True, capture_output=True,
    )  # fmt: skip
    outputs = torch.load(tmp_path / "outputs.pt", weights_only=True)
    with torch.no_grad():
        expected = {
            "embeddings": tiny_model.encode(inputs["pixel_values"]),
            "rollout": tiny_model.rollout(inputs["context"], inputs["plans"]),
        }
    for name, value in expected.items():
        error = (outputs[name] - value).abs().mean() / value.abs().mean()
        assert 0 < error < 0.03, name


class Windows(torch.utils.data.Dataset):
    """Random training windows, a function of their number."""

    def __init__(self, length: int):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {
            "pixel_values": torch.randn(4, 3, 28, 28, generator=generator),
            "actions": torch.randn(4, 10, generator=generator),
        }


def trainer(model, folder, **changes):
    arguments = {
        "max_steps": 4, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 8, "eval_strategy": "steps",
        "eval_steps": 2, "save_steps": 2, "logging_steps": 1, "report_to": "none", "use_cpu": True, "seed": 1,
        "load_best_model_at_end": True, "learning_rate": 1e-2, "disable_tqdm": True,
    }  # fmt: skip
    training = TrainingArguments(output_dir=str(folder), **arguments | changes)
    return Trainer(model=model, args=training, train_dataset=Windows(32), eval_dataset=Windows(16))


def test_trainer_trains_evaluates_and_loads_the_best(tiny_config, tmp_path):
    torch.manual_seed(0)
    run = trainer(LeWMModel(tiny_config), tmp_path / "a")
    run.train()
    losses = {entry["step"]: entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry}
    assert sorted(losses) == [2, 4]
    best = min(losses, key=losses.get)
    assert Path(run.state.best_model_checkpoint).name == f"checkpoint-{best}"
    # Evaluated again, the best model gives its own loss again, and so does it in a process of its own.
    assert run.evaluate()["eval_loss"] == pytest.approx(losses[best], rel=1e-6)
    loaded = LeWMModel.from_pretrained(tmp_path / "a" / f"checkpoint-{best}").eval()
    batches = [[Windows(16)[index] for index in range(start, start + 8)] for start in (0, 8)]
    with torch.no_grad():
        each = [
            float(loaded(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}).loss)
            for rows in batches
        ]
    assert losses[best] == pytest.approx(sum(each) / 2, rel=1e-5)


def test_a_resumed_trainer_draws_the_directions_that_it_would_have_drawn(tiny_config, tmp_path):
    tiny_config.predictor_dropout = 0.0
    torch.manual_seed(0)
    start = LeWMModel(tiny_config)
    whole = trainer(copy.deepcopy(start), tmp_path, load_best_model_at_end=False)
    whole.train()
    again = trainer(copy.deepcopy(start), tmp_path, load_best_model_at_end=False)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for ours, theirs in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.long
def test_a_plain_trainer_on_two_ranks_computes_what_one_computes(tiny_config, tmp_path):
    """Directions are the same on every rank, and batches as large as all ranks' together: nothing is left to set up."""
    tiny_config.predictor_dropout = 0.0
    tiny_config.to_json_file(tmp_path / "config.json", use_diff=False)
    script = Path(__file__).with_name("trainer_on_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", str(script)]
    run = subprocess.run(
        [*command, str(tmp_path / "config.json"), str(tmp_path), "8"], capture_output=True, text=True, timeout=280
    )
    assert run.returncode == 0, run.stderr[-3000:]
    one = train_on_ranks(tiny_config, tmp_path / "one", 16)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (one["processes"], first["processes"], second["processes"]) == (1, 2, 2)
    for name, tensor in first["weights"].items():
        assert torch.equal(tensor, second["weights"][name]), name
        torch.testing.assert_close(
            tensor, one["weights"][name], rtol=1e-3, atol=1e-4, msg=lambda t, n=name: f"{n}: {t}"
        )
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-3)
    assert first["eval_loss"] == second["eval_loss"]


def test_feature_extraction_gives_embeddings(tiny_model):
    extract = pipeline(
        "image-feature-extraction", model=tiny_model, image_processor=LeWMImageProcessor(image_size=28), device="cpu"
    )
    image = Image.effect_mandelbrot((40, 40), (-3, -2.5, 2, 2.5), 9).convert("RGB")
    with torch.no_grad():
        expected = tiny_model.encode(extract.image_processor([[image]])["pixel_values"])[0, 0]
    torch.testing.assert_close(torch.tensor(extract(image))[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("encoder", ["vit", "resnet18"])
def test_what_is_wrapped_as_a_whole_exists_in_the_model(tiny_config, encoder):
    tiny_config.encoder = encoder
    model = LeWMModel(tiny_config)
    classes = {type(module).__name__ for module in model.modules()}
    assert set(model._no_split_modules) <= classes
    plugin = FullyShardedDataParallelPlugin(auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(model)
    wrapped = [
        module for module in model.modules() if plugin.auto_wrap_policy(module, recurse=False, nonwrapped_numel=0)
    ]
    layers = list(model.predictor.layers) + (list(model.encoder.layers) if encoder == "vit" else [model.encoder])
    assert set(layers) <= set(wrapped)


def test_unknown_keywords_are_refused(tiny_model):
    with pytest.raises(TypeError, match="sigreg_direction"):
        tiny_model(torch.randn(2, 4, 3, 28, 28), torch.randn(2, 4, 10), sigreg_direction=None)
    with pytest.raises(ValueError, match="attn_implementation='sdpa'.*eager"):
        tiny_model(torch.randn(2, 4, 3, 28, 28), output_attentions=True)


@torch.no_grad()
def test_attentions_and_hidden_states_are_the_encoders(tiny_model):
    tiny_model.set_attn_implementation("eager")
    pixels = torch.randn(2, 4, 3, 28, 28)
    out = tiny_model(pixels, output_attentions=True, output_hidden_states=True)
    assert out.loss is None and torch.equal(out.embeddings, tiny_model.encode(pixels))
    assert [state.shape for state in out.hidden_states] == [(8, 5, 24)] * 3
    torch.testing.assert_close(tiny_model.encoder.norm(out.hidden_states[-1][:, 0]), out.features.flatten(0, 1))
    layer = tiny_model.encoder.layers[1]
    query, key, _ = layer.attention.qkv(layer.norm1(out.hidden_states[1])).unflatten(-1, (3, 3, 8)).unbind(2)
    scores = torch.einsum("nqhd,nkhd->nhqk", query, key) / 8**0.5
    torch.testing.assert_close(out.attentions[1], scores.softmax(-1))
