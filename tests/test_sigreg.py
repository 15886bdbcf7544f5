"""SIGReg against recorded values of the reference implementation, a naive formula, SciPy, and a second process."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.distributed as dist
from forks import context, ended
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from lewm_hf.sigreg import GlobalBatchNorm, SIGReg, global_batch_norms, quadrature


def naive(z: np.ndarray, directions: np.ndarray, knots: int, t_max: float) -> float:
    """The statistic spelled out in float64 loops; z (T, B, D), directions (D, M)."""
    steps, batch, _ = z.shape
    directions = directions / np.linalg.norm(directions, axis=0)
    dt = t_max / (knots - 1)
    values = []
    for step in range(steps):
        for direction in directions.T:
            y = z[step] @ direction
            total = 0.0
            for k in range(knots):
                t = k * dt
                phi = math.exp(-t * t / 2)
                weight = (dt if k in (0, knots - 1) else 2 * dt) * phi
                total += weight * ((np.cos(y * t).mean() - phi) ** 2 + np.sin(y * t).mean() ** 2)
            values.append(batch * total)
    return float(np.mean(values))


@pytest.mark.parametrize("case", [0, 1])
def test_value_and_gradient_equal_the_recorded_reference(fixtures, case):
    recorded = np.load(fixtures / "sigreg.npz")
    z = torch.tensor(recorded[f"z{case}"], requires_grad=True)
    directions = torch.tensor(recorded[f"directions{case}"])
    value = SIGReg(z.shape[-1], projections=directions.shape[1])(z, directions)
    value.backward()
    assert value.item() == pytest.approx(float(recorded[f"value{case}"]), rel=1e-6)
    torch.testing.assert_close(z.grad, torch.tensor(recorded[f"grad{case}"]), rtol=1e-5, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(1, 5)),
    knots=st.integers(2, 20),
    t_max=st.floats(0.5, 5),
    scale=st.floats(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_naive_formula(shape, knots, t_max, scale, seed):
    rng = np.random.default_rng(seed)
    z, directions = scale * rng.normal(size=shape), rng.normal(size=(shape[2], 6))
    value = SIGReg(shape[2], knots, t_max, 6)(torch.tensor(z), torch.tensor(directions))
    assert value.item() == pytest.approx(naive(z, directions, knots, t_max), rel=2e-4, abs=1e-5)


def test_quadrature_integrates_the_windowed_error_of_a_collapsed_batch():
    t, phi, weights = quadrature(17, 3.0)
    exact, _ = quad(lambda x: 2 * math.exp(-x * x / 2) * (1 - math.exp(-x * x / 2)) ** 2, 0, 3)
    assert (weights * (1 - phi) ** 2).sum().item() == pytest.approx(exact, rel=5e-3)
    assert t[-1].item() == 3.0


@pytest.mark.parametrize("batch", [64, 128, 512])
def test_is_about_1_05_on_gaussian_embeddings_whatever_the_batch(batch):
    sigreg, generator = SIGReg(32, projections=256), torch.Generator().manual_seed(0)
    values = [
        sigreg(torch.randn(4, batch, 32, generator=generator), sigreg.directions(0, step)).item() for step in range(20)
    ]
    # Expectation: sum of w (1 - phi^2) over the knots.
    _, phi, weights = quadrature(17, 3.0)
    expected = (weights * (1 - phi**2)).sum().item()
    assert expected == pytest.approx(1.0525, abs=1e-4)
    assert np.mean(values) == pytest.approx(expected, abs=0.05)


def test_full_collapse_at_128_gives_51_5():
    sigreg = SIGReg(192)
    assert sigreg(torch.zeros(4, 128, 192), sigreg.directions(0, 0)).item() == pytest.approx(51.46, abs=0.02)


def test_acts_per_time_step():
    sigreg, z = SIGReg(8, projections=32), torch.randn(4, 16, 8)
    directions = sigreg.directions(0, 0)
    per_step = torch.stack([sigreg(step[None], directions) for step in z]).mean()
    pooled = sigreg(z.flatten(0, 1)[None], directions)
    torch.testing.assert_close(sigreg(z, directions), per_step)
    assert abs(pooled - per_step) > 1e-3


def test_stays_in_float32_under_autocast():
    sigreg, z = SIGReg(32), torch.randn(2, 64, 32)
    directions = sigreg.directions(0, 0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = sigreg(z, directions)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, sigreg(z, directions))


def test_directions_are_a_pure_function_of_seed_and_step():
    sigreg = SIGReg(16, projections=8)
    first = sigreg.directions(3, 7)
    torch.manual_seed(123)
    assert torch.equal(first, sigreg.directions(3, 7))
    assert not torch.equal(first, sigreg.directions(3, 8))
    assert not torch.equal(first, sigreg.directions(4, 7))
    torch.testing.assert_close(first.norm(dim=0), torch.ones(8))


class NormAct(torch.nn.BatchNorm2d):
    """Normalizes, drops and activates in one module, as timm's `BatchNormAct2d` does."""

    def __init__(self, channels: int):
        super().__init__(channels, momentum=0.3)
        self.drop, self.act = torch.nn.Identity(), torch.nn.GELU()

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


def backbone() -> torch.nn.Module:
    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), NormAct(4), torch.nn.Conv2d(4, 5, 3), torch.nn.BatchNorm2d(5, affine=False, eps=1e-3)
    )


def test_every_batch_norm_of_a_backbone_becomes_global_and_stays_itself():
    own, converted = backbone(), backbone()
    assert global_batch_norms(converted) is converted and global_batch_norms(converted) is converted  # twice is once
    assert [isinstance(layer, GlobalBatchNorm) for layer in converted] == [False, True, False, True]
    assert isinstance(converted[1], NormAct) and own.state_dict().keys() == converted.state_dict().keys()
    pictures = torch.randn(6, 3, 8, 8)
    for mode in (True, False):
        assert torch.equal(own.train(mode)(pictures), converted.train(mode)(pictures))
    assert all(torch.equal(a, b) for a, b in zip(own.buffers(), converted.buffers(), strict=True))
    twin = copy.deepcopy(converted)
    assert torch.equal(twin(pictures), converted(pictures)) and isinstance(twin[3], GlobalBatchNorm)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(converted, protocol))
        assert torch.equal(twin(pictures), converted(pictures))
        assert [type(layer) for layer in twin] == [type(layer) for layer in converted]


def _rank(rank: int, world: int, folder: str):
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    torch.set_num_threads(1)
    inputs = torch.load(f"{folder}/inputs.pt", weights_only=True)
    rows = inputs["z"].chunk(world, 1)[rank].clone().requires_grad_()
    sigreg = SIGReg(6, projections=16)
    drawn = torch.stack([sigreg(rows.detach()) for _ in range(3)])  # by default each draws what the others draw
    layers = global_batch_norms(backbone())
    pictures = layers(inputs["pictures"].chunk(world)[rank])
    norm = GlobalBatchNorm(6)
    steps, batch, dim = rows.shape
    normalized = norm(rows.reshape(-1, dim)).view(steps, batch, dim)
    # Halved as DistributedDataParallel does: it averages the gradients of the ranks.
    value = sigreg(normalized, sigreg.directions(0, 5))
    (value / world).backward()
    torch.save(
        {
            "value": value.detach(),
            "drawn": drawn,
            "grad": rows.grad,
            "mean": norm.running_mean,
            "var": norm.running_var,
            "pictures": pictures.detach(),
            "buffers": [buffer.double() for buffer in layers.buffers()],
        },
        f"{folder}/rank{rank}.pt",
    )
    dist.destroy_process_group()


def test_two_ranks_equal_one_in_value_gradient_and_batch_norm(tmp_path):
    z = torch.randn(3, 8, 6)
    pictures = torch.randn(6, 3, 8, 8)
    torch.save({"z": z, "pictures": pictures}, tmp_path / "inputs.pt")
    processes = [context.Process(target=_rank, args=(rank, 2, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    assert [ended(process) for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]

    layers = backbone()
    torch.testing.assert_close(torch.cat([rank["pictures"] for rank in ranks]), layers(pictures).detach())
    for rank in ranks:
        torch.testing.assert_close(rank["buffers"], [buffer.double() for buffer in layers.buffers()])
    whole, norm, sigreg = z.clone().requires_grad_(), torch.nn.BatchNorm1d(6), SIGReg(6, projections=16)
    value = sigreg(norm(whole.view(-1, 6)).view_as(whole), sigreg.directions(0, 5))
    value.backward()
    drawn = torch.stack([sigreg(z) for _ in range(3)])
    assert drawn.unique().numel() == 3
    for rank in ranks:
        torch.testing.assert_close(rank["drawn"], drawn, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(rank["value"], value.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(rank["mean"], norm.running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(rank["var"], norm.running_var, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([rank["grad"] for rank in ranks], 1), whole.grad, rtol=1e-4, atol=1e-6)
