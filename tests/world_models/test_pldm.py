"""PLDM against a plain rebuild of its losses, on one and on two ranks."""

import itertools
from pathlib import Path

import pytest
import torch
from forks import run
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel

from lewm_hf import LeWMConfig, LeWMModel, PLDMConfig, PLDMModel
from lewm_hf.testing import check_world_model
from lewm_hf.world_models.pldm import ORIGINAL
from lewm_hf.world_models.variance_covariance import hinge, off_diagonal

TINY = {
    "image_size": 28, "encoder_hidden_size": 24, "encoder_layers": 2, "encoder_mlp_size": 48, "embed_dim": 12,
    "projector_hidden_size": 32, "predictor_hidden_size": 24, "predictor_layers": 2, "predictor_heads": 2,
    "predictor_head_dim": 8, "predictor_mlp_size": 32, "action_mlp_size": 48, "action_mean": [0.1, -0.2],
    "action_std": [0.5, 0.6], "predictor_dropout": 0.0,
}  # fmt: skip
PROGRAM = Path(__file__).with_name("distributed_losses.py")


def tiny(**changes):
    torch.manual_seed(0)
    model = PLDMModel(PLDMConfig(**TINY | changes))
    if model.config.objective == "lewm":
        with torch.no_grad():
            for layer in model.predictor.layers:
                layer.modulation.bias.fill_(0.3)
    return model


def std_term(values):
    """Mean over dimensions of what is missing to a standard deviation of 1; `values` `(rows, D)`, naively."""
    terms = []
    for column in values.T:
        variance = ((column - column.mean()) ** 2).sum() / (len(column) - 1)
        terms.append(torch.clamp(1 - torch.sqrt(variance + 1e-4), min=0))
    return torch.stack(terms).mean()


def cov_term(values, center=True):
    """Mean square of the covariances of two different dimensions; `values` `(rows, D)`, naively."""
    values = values - values.mean(0) if center else values
    pairs = itertools.permutations(range(values.shape[1]), 2)
    return torch.stack([((values[:, i] * values[:, j]).sum() / (len(values) - 1)) ** 2 for i, j in pairs]).mean()


@pytest.mark.parametrize("changes", [{}, {"objective": "original", "history_size": 4}, {"sigreg_weight": 0.1}])
def test_it_keeps_the_contract(changes):
    check_world_model(tiny(**changes))


def test_defaults_are_the_comparisons_coefficients_and_sizes_are_lewms():
    config = PLDMConfig()
    names = ("std_weight", "cov_weight", "std_t_weight", "cov_t_weight", "similarity_weight", "inverse_weight")
    assert [getattr(config, name) for name in names] == [18, 12, 0.7, 0, 0.2, 0]
    assert config.sigreg_weight == 0 and config.inverse_hidden_size == 512
    with torch.device("meta"):
        assert PLDMModel(config).num_parameters() == LeWMModel(LeWMConfig()).num_parameters() == 18_034_478


def test_loss_and_gradients_equal_a_plain_rebuild():
    weights = {
        "std_weight": 3.0, "cov_weight": 5.0, "std_t_weight": 0.7, "cov_t_weight": 0.4, "similarity_weight": 0.2,
        "inverse_weight": 1.5,
    }  # fmt: skip
    model = tiny(**weights).eval()
    frames, actions = torch.randn(6, 4, 3, 28, 28), torch.randn(6, 4, 10)
    found = model.losses({"pixel_values": frames, "actions": actions}, {})

    z = model.projector(model.encoder(frames.flatten(0, 1)).unflatten(0, (6, 4)))
    centered = z - z.mean(0)
    hidden, _ = model.predictor(z[:, :3], model.action_encoder(actions[:, :3]))
    read = model.inverse_dynamics.net(torch.cat([z[:, :-1], z[:, 1:]], -1))
    expected = {
        "prediction_loss": ((model.pred_proj(hidden) - z[:, 1:]) ** 2).mean(),
        "std_loss": torch.stack([std_term(z[:, t]) for t in range(4)]).mean(),
        "cov_loss": torch.stack([cov_term(z[:, t]) for t in range(4)]).mean(),
        "std_t_loss": torch.stack([std_term(window) for window in centered]).mean(),
        "cov_t_loss": torch.stack([cov_term(window, center=False) for window in centered]).mean(),
        "similarity_loss": ((z[:, :-1] - z[:, 1:]) ** 2).mean(),
        "inverse_loss": ((read - actions[:, :3]) ** 2).mean(),
    }
    expected["loss"] = expected["prediction_loss"] + sum(
        weight * expected[name.replace("_weight", "_loss")] for name, weight in weights.items()
    )
    assert found.keys() == expected.keys() | {"embeddings"}
    torch.testing.assert_close(found.pop("embeddings"), z)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    parameters = list(model.parameters())
    ours, theirs = torch.autograd.grad(found["loss"], parameters), torch.autograd.grad(expected["loss"], parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_original_objective_imagines_from_the_first_frame_with_a_gru():
    model = tiny(**ORIGINAL | {"embed_dim": 12, "history_size": 4, "cov_t_weight": 0.3}).eval()
    frames, actions = torch.randn(6, 5, 3, 28, 28), torch.randn(6, 5, 10)
    found = model.losses({"pixel_values": frames, "actions": actions}, {})
    linear, norm = model.projector
    z = norm(linear(model.encoder(frames.flatten(0, 1)).unflatten(0, (6, 5))))
    gru = torch.nn.GRU(10, 12, batch_first=True)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(gru, f"{name}_l0").data.copy_(getattr(model.predictor, name))
    state, predicted = z[:, 0], []
    for t in range(4):
        state = norm(gru(actions[:, t : t + 1], state[None].contiguous())[0][:, 0])
        predicted.append(state)
    expected = {
        "prediction_loss": ((torch.stack(predicted, 1) - z[:, 1:]) ** 2).mean(),
        "std_loss": std_term(z[:, 0]),
        "cov_loss": cov_term(z[:, 0]),
        "std_t_loss": torch.stack([std_term(window) for window in z[:, 1:]]).mean(),
        "cov_t_loss": torch.stack([cov_term(window) for window in z[:, 1:]]).mean(),
        "similarity_loss": ((z[:, :-1] - z[:, 1:]) ** 2).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    weighed = expected["prediction_loss"] + 3.9843 * expected["std_loss"] + 6.9238 * expected["cov_loss"]
    weighed += 0.24535 * expected["std_t_loss"] + 0.3 * expected["cov_t_loss"]
    weighed += 0.74242 * expected["similarity_loss"] + 1.072 * found["inverse_loss"]
    torch.testing.assert_close(found["loss"], weighed, rtol=1e-5, atol=1e-5)
    # A plan is imagined as training imagines.
    imagined = model.rollout(z[:, :1], actions[:, None, :4])[:, 0]
    torch.testing.assert_close(imagined, torch.stack(predicted, 1), rtol=1e-5, atol=1e-5)


def test_terms_know_the_healthy_from_the_collapsed():
    rows = torch.randn(4000, 3, dtype=torch.float64)
    assert hinge(rows.var(0)) < 0.03 and off_diagonal(torch.cov(rows.T)) < 1e-3
    assert hinge(torch.zeros(3)) == pytest.approx(0.99)  # 1 - sqrt(1e-4)
    twin = torch.stack([rows[:, 0], rows[:, 0]], 1)
    assert off_diagonal(torch.cov(twin.T)) == pytest.approx(float(rows[:, 0].var() ** 2))
    assert off_diagonal(torch.ones(5, 1, 1)) == 0
    model = tiny()
    still = torch.randn(1, 1, 12).expand(5, 4, 12)
    weight, std = model.regularization(still)["std_loss"]
    assert (weight, float(std)) == (18, pytest.approx(0.99))
    with pytest.raises(ValueError, match="batch of one window"):
        model.regularization(torch.randn(1, 4, 12))


def test_sigreg_is_an_addition_by_name():
    model = tiny(sigreg_weight=0.5).eval()
    frames, actions = torch.randn(6, 4, 3, 28, 28), torch.randn(6, 4, 10)
    step = model.step_inputs(3, 4)
    found = model.losses({"pixel_values": frames, "actions": actions}, step)
    plain = tiny().eval().losses({"pixel_values": frames, "actions": actions}, tiny().step_inputs(3, 4))
    assert "sigreg_loss" not in plain
    torch.testing.assert_close(found["loss"], plain["loss"] + 0.5 * found["sigreg_loss"])
    reference = model.sigreg(model.encode(frames).transpose(0, 1), step["sigreg_directions"])
    torch.testing.assert_close(found["sigreg_loss"], reference)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"std_weight": -1}, "std_weight=-1 must be a finite number of at least 0"),
        ({"cov_weight": float("nan")}, "cov_weight=nan must be a finite number"),
        ({"similarity_weight": float("inf")}, "similarity_weight=inf must be a finite number"),
        ({"inverse_weight": -0.5}, "inverse_weight=-0.5 must be a finite number"),
        ({"objective": "vicreg"}, "objective='vicreg' is unknown: use one of lewm, original"),
    ],
)
def test_bad_coefficients_are_refused(changes, line):
    with pytest.raises(StrictDataclassError, match=line):
        PLDMConfig(**TINY | changes)
    with pytest.raises(ValueError, match=f"config.json of this checkpoint is invalid: {line}") as caught:
        PLDMConfig.from_dict(TINY | changes)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_comes_back_as_itself(tmp_path):
    model = tiny(objective="original").eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is PLDMModel and loaded.config.objective == "original"
    frames = torch.randn(2, 3, 3, 28, 28)
    assert torch.equal(loaded.encode(frames), model.encode(frames))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    finished = run(["python", PROGRAM, folder])
    assert (folder / "2.pt").exists(), finished.stderr[-3000:]
    return [torch.load(folder / f"{processes}.pt", weights_only=True) for processes in (1, 2)]


@pytest.mark.parametrize("name", ["lewm", "original", "dino_wm"])
def test_two_ranks_compute_losses_and_gradients_of_the_whole_batch(results, name):
    one, two = (found[name] for found in results)
    assert one["losses"].keys() == two["losses"].keys() and one["gradients"].keys() == two["gradients"].keys()
    for key, value in one["losses"].items():
        torch.testing.assert_close(two["losses"][key], value, rtol=1e-5, atol=1e-5, msg=lambda t, k=key: f"{k}: {t}")
    largest = max(float(value.abs().max()) for value in one["gradients"].values())
    for key, value in one["gradients"].items():
        torch.testing.assert_close(
            two["gradients"][key], value, rtol=1e-5, atol=1e-5 * largest, msg=lambda t, k=key: f"{k}: {t}"
        )
    assert largest > 1e-2
