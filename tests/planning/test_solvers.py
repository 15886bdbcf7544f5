from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lewm_hf.planning import (
    CEM,
    PlanSettings,
    Solution,
    load_planner,
    make_solver,
    plan,
    problem_noise,
    register_solver,
)
from lewm_hf.planning.solvers import clip, take

from .worlds import LinearWorld


def naive_cem(cost, mean, noise, iterations, elites, std):
    """One problem, NumPy, one candidate at a time; noise is `(iterations, samples, ...)`."""
    std = np.full_like(mean, std)
    for iteration in range(iterations):
        candidates = [mean + std * draw for draw in noise[iteration]]
        candidates[0] = mean.copy()
        costs = np.array([cost(candidate) for candidate in candidates])
        order = np.argsort(costs, kind="stable")[:elites]
        chosen = np.stack([candidates[index] for index in order])
        mean, std = chosen.mean(0), chosen.std(0, ddof=1)
    return mean, chosen, costs[order], std


def test_cem_equals_a_naive_one_problem_after_problem():
    world = LinearWorld()
    generator = torch.Generator().manual_seed(5)
    context, goal = torch.randn(3, 1, 4, generator=generator), 2 * torch.randn(3, 4, generator=generator)
    settings = PlanSettings.of(horizon=3, samples=40, iterations=6, elites=7, initial_std=0.8, seed=11)
    output = plan(world, context, goal, settings, problems=["a", 4, 9], replans=[0, 1, 2])
    noise = problem_noise(11, ["a", 4, 9], [0, 1, 2], range(6), (40, 3, 4)).double().numpy()
    matrix = world.matrix.double().numpy()
    for row in range(3):

        def cost(blocks, row=row):
            end = context[row, 0].double().numpy() + (blocks @ matrix.T).sum(0)
            return np.sum((end - goal[row].double().numpy()) ** 2)

        mean, elites, costs, _ = naive_cem(cost, np.zeros((3, 4)), noise[row], 6, 7, 0.8)
        np.testing.assert_allclose(output.blocks[row], mean, atol=1e-5)
        np.testing.assert_allclose(output.elite_costs[row], costs, atol=1e-5)
        raw = elites.reshape(7, 6, 2) * [0.5, 0.6] + [0.1, -0.2]
        np.testing.assert_allclose(output.elites[row], raw, atol=1e-5)
        np.testing.assert_allclose(output.costs[row], cost(mean), atol=1e-5)


def test_cem_finds_the_optimum_of_a_convex_problem():
    world = LinearWorld()
    expected = torch.tensor([0.6, -0.4, 0.2, 0.5])  # within reach of the first candidates
    goal = world.matrix @ expected
    output = plan(world, torch.zeros(1, 1, 4), goal[None], PlanSettings.of(horizon=1, samples=300, iterations=30))
    torch.testing.assert_close(output.blocks[0, 0], expected, atol=1e-3, rtol=0)
    assert output.costs.item() < 1e-5
    assert (output.best_costs.diff() <= 1e-3).all()  # the mean is always a candidate


def test_candidates_of_every_iteration():
    seen = []

    def objective(candidates):
        seen.append(candidates[0])
        return candidates.square().sum((-1, -2))

    start = torch.full((1, 2, 3), 0.7)
    noise = problem_noise(0, [0], [0], range(4), (20, 2, 3))
    solution = CEM(samples=20, iterations=4, elites=5)(objective, start, lambda i: noise[:, i])
    torch.testing.assert_close(seen[0][1:], start + noise[0, 0, 1:])  # nothing is clipped
    assert seen[0].abs().max() > 2
    assert torch.equal(seen[0][0], start[0])  # candidate 0 is the mean
    for iteration in range(1, 4):
        elites = seen[iteration - 1][seen[iteration - 1].square().sum((-1, -2)).argsort()[:5]]
        mean, std = elites.mean(0), elites.std(0, correction=1)  # no momentum, no floor
        torch.testing.assert_close(seen[iteration][0], mean)
        torch.testing.assert_close(seen[iteration][1:], mean + std * noise[0, iteration, 1:])
    elites = seen[3][seen[3].square().sum((-1, -2)).argsort()[:5]]
    torch.testing.assert_close(solution.elites[0], elites)
    torch.testing.assert_close(solution.plan[0], elites.mean(0))  # the last mean, not the best candidate


def test_one_elite_has_no_spread():
    with pytest.raises(ValueError, match="elites=1"):
        CEM(elites=1)


def test_solvers_by_name_or_as_objects():
    assert make_solver("cem", samples=40, elites=5) == CEM(samples=40, elites=5)
    assert PlanSettings(solver="cem").solver == CEM()
    with pytest.raises(ValueError, match=r"solver='simplex' is unknown: use one of \['cem'"):
        PlanSettings(solver="simplex")
    for wrong in (CEM, object(), lambda objective, mean, noise, bounds: None):
        with pytest.raises(ValueError, match="solver="):
            PlanSettings(solver=wrong)


# What a third party writes: the whole of it, 20 lines.
@dataclass(frozen=True)
class PredictiveSampling:
    """Keeps the best plan found so far and samples around it (Howell et al. 2022)."""

    samples: int = 300
    iterations: int = 20
    spread: float = 0.3

    def __call__(self, objective, mean, noise, bounds=None):
        best = []
        for iteration in range(self.iterations):
            candidates = clip(mean[:, None] + self.spread * noise(iteration), bounds)
            candidates[:, 0] = mean
            costs, order = objective(candidates).topk(30, largest=False)
            elites = take(candidates, order)
            mean = elites[:, 0]
            best.append(costs[:, 0])
        return Solution(mean, elites, costs, torch.stack(best, 1))


def test_a_solver_of_ones_own():
    settings = PlanSettings(solver=PredictiveSampling(), horizon=1)
    goals = torch.tensor([[1.0, -0.5, 0.8, 1.5], [0.0, 1.0, 0.0, -1.0]])
    output = plan(LinearWorld(), torch.zeros(2, 1, 4), goals, settings)
    assert (output.costs < 0.1).all()
    torch.testing.assert_close(output.costs, output.best_costs[:, -1])
    alone = plan(LinearWorld(), torch.zeros(1, 1, 4), goals[1:], settings, problems=[1])
    assert torch.equal(alone.blocks[0], output.blocks[1])
    with pytest.raises(ValueError, match="elites is not a setting of solver .*PredictiveSampling. .it belongs to cem"):
        settings.changed(elites=3)


def test_a_registered_solver_is_known_everywhere(monkeypatch):
    from lewm_hf.planning.solvers import registry

    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    register_solver("predictive-sampling", PredictiveSampling)
    assert PlanSettings.of(solver="predictive-sampling", spread=0.5).solver == PredictiveSampling(spread=0.5)
    assert load_planner("small", {"solver": "predictive-sampling"}).to_dict()["samples"] == 100
    with pytest.raises(ValueError, match="elites is not a setting of solver 'predictive-sampling' .it belongs to cem"):
        PlanSettings.of(solver="predictive-sampling", elites=3)
    with pytest.raises(ValueError, match="solver 'predictive-sampling' already"):
        register_solver("predictive-sampling", CEM)
    with pytest.raises(ValueError, match="must be a dataclass"):
        register_solver("other", object)


@dataclass(frozen=True)
class Descent:
    """Gradient descent through the world model."""

    samples: int = 1
    iterations: int = 15

    def __call__(self, objective, mean, noise, bounds=None):
        best = []
        for _ in range(self.iterations):
            with torch.enable_grad():
                candidates = mean[:, None].detach().requires_grad_()
                cost = objective(candidates)
                (gradient,) = torch.autograd.grad(cost.sum(), candidates)
            mean = mean - 0.05 * gradient[:, 0]
            best.append(cost.detach()[:, 0])
        return Solution(mean, candidates.detach(), cost.detach(), torch.stack(best, 1))


def test_a_solver_may_follow_gradients(tiny_model):
    generator = torch.Generator().manual_seed(0)
    context, goal = torch.randn(1, 1, 16, generator=generator), torch.randn(1, 16, generator=generator)
    output = plan(tiny_model, context, goal, PlanSettings(solver=Descent()))
    assert (output.best_costs.diff() < 0).all()
    settings = PlanSettings(solver=Descent(iterations=200))
    exact = plan(LinearWorld(), torch.zeros(1, 1, 4), torch.ones(1, 4), settings)
    assert exact.costs.item() < 1e-4
