"""iCEM, MPPI, gradient, random shooting and hybrid, against naive versions and other libraries' optimizers."""

import dataclasses

import numpy as np
import pytest
import torch

from lewm_hf.planning import (
    CEM,
    ICEM,
    MPPI,
    Gradient,
    Hybrid,
    PlanSettings,
    RandomShooting,
    load_planner,
    make_solver,
    plan,
    problem_noise,
)
from lewm_hf.planning.noise import colored
from lewm_hf.planning.solvers import solver_names, solver_settings

from .worlds import LinearWorld

SMALL = {
    "cem": CEM(samples=60, iterations=12, elites=8), "icem": ICEM(samples=60, iterations=12, elites=8),
    "mppi": MPPI(samples=60, iterations=12, initial_std=0.5), "gradient": Gradient(samples=4, iterations=60),
    "random": RandomShooting(samples=2000), "hybrid": Hybrid(samples=40, iterations=5, elites=8, gradient_steps=20),
}  # fmt: skip
HORIZON, WIDTH = 2, 4


def everything(solver, goals, names=None, **settings):
    chosen = PlanSettings(solver=solver, horizon=HORIZON, seed=3, **settings)
    return plan(LinearWorld(), torch.zeros(len(goals), 1, 4), goals, chosen, problems=names)


def random_goals(count):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(8))


def test_all_solvers_are_here():
    assert sorted([*SMALL, "keep"]) == solver_names()  # which searches nothing
    for name, solver in SMALL.items():
        assert type(make_solver(name)) is type(solver)


@pytest.mark.parametrize("name", SMALL)
def test_every_solver_gets_near_the_goal_and_no_problem_depends_on_its_neighbors(name):
    goals = random_goals(3)
    together = everything(SMALL[name], goals, ["a", "b", 7])
    at_start = goals.square().sum(-1)
    assert (together.costs < (0.4 if name == "random" else 0.05) * at_start).all()
    assert together.blocks.shape == (3, HORIZON, WIDTH) and together.elites.shape[2:] == (4, 2)
    assert (together.elite_costs.diff() >= 0).all()
    for row, problem in enumerate(["a", "b", 7]):
        alone = everything(SMALL[name], goals[row : row + 1], [problem])
        assert torch.equal(alone.blocks[0], together.blocks[row])
    # Whatever is returned is no worse than where the search began.
    assert (together.costs <= at_start).all()


@pytest.mark.parametrize("name", SMALL)
def test_every_solver_stays_within_bounds(name):
    world = LinearWorld(action_low=[-0.2, -0.1], action_high=[0.3, 0.2])
    settings = PlanSettings(solver=SMALL[name], horizon=HORIZON, clip_actions="candidates")
    output = plan(world, torch.zeros(2, 1, 4), torch.full((2, 4), 30.0), settings)
    for actions in (output.actions, output.elites):
        flat = actions.flatten(0, -2)
        assert (flat >= torch.tensor([-0.2, -0.1]) - 1e-6).all() and (flat <= torch.tensor([0.3, 0.2]) + 1e-6).all()


@pytest.mark.parametrize("name", SMALL)
def test_costs_that_are_no_numbers_name_problem_and_iteration(name):
    calls = []

    def broken(predicted, goal):
        calls.append(len(predicted))
        cost = (predicted[:, :, -1] - goal[:, None]).square().sum(-1)
        return cost if len(calls) < 2 and name != "random" else cost * float("nan")

    with pytest.raises(ValueError, match=f"problem 'door': iteration {int(name != 'random')} has costs that are NaN"):
        everything(SMALL[name], random_goals(1), ["door"], cost=broken)


def squared_distance(goal):
    matrix = LinearWorld().matrix.double().numpy()
    return lambda blocks: np.sum(((np.asarray(blocks, float) @ matrix.T).sum(0) - goal.double().numpy()) ** 2)


def test_mppi_equals_a_naive_one():
    goals, solver = random_goals(2), MPPI(samples=30, iterations=4, initial_std=0.7, temperature=0.2)
    output = everything(solver, goals, ["a", 5])
    for row, problem in enumerate(["a", 5]):
        noise = problem_noise(3, [problem], [0], range(4), (30, HORIZON, WIDTH))[0].double().numpy()
        cost, mean = squared_distance(goals[row]), np.zeros((HORIZON, WIDTH))
        for iteration in range(4):
            candidates = mean + 0.7 * noise[iteration]
            candidates[0] = mean
            costs = np.array([cost(candidate) for candidate in candidates])
            weights = np.exp(-(costs - costs.min()) / (0.2 * costs.std()))
            mean = np.einsum("s,sta->ta", weights / weights.sum(), candidates)
        np.testing.assert_allclose(output.blocks[row], mean, atol=1e-4)


def test_icem_equals_a_naive_one():
    goals = random_goals(1)
    solver = ICEM(samples=24, iterations=4, elites=5, initial_std=0.7, color=1.5, kept=0.4, momentum=0.2, decay=1.5)
    output = everything(solver, goals, ["a"])
    white = problem_noise(3, ["a"], [0], range(4), (24, HORIZON, WIDTH))[0]
    cost, mean, std, kept = squared_distance(goals[0]), np.zeros((HORIZON, WIDTH)), np.full((HORIZON, WIDTH), 0.7), []
    population = [24, 16, 10, 10]
    for iteration in range(4):
        noise = colored(white[iteration], 1.5, 2).double().numpy()[: population[iteration]]
        candidates = [*(kept or [mean]), *([mean] if iteration == 3 else []), *(mean + std * noise)]
        candidates.sort(key=cost)
        elites, momentum = np.stack(candidates[:5]), 0.2 if iteration else 0.0
        kept = list(elites[:2])
        mean = momentum * mean + (1 - momentum) * elites.mean(0)
        std = momentum * std + (1 - momentum) * elites.std(0, ddof=1)
    np.testing.assert_allclose(output.blocks[0], elites[0], atol=1e-4)
    assert (output.best_costs.diff() <= 1e-6).all()  # the best is never lost


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 3.5])
def test_colored_noise_has_unit_variance_and_the_power_spectrum_of_its_name(beta):
    white = torch.randn(20_000, 4, 6, generator=torch.Generator().manual_seed(0))  # 4 blocks of 3 steps of 2 numbers
    noise = colored(white, beta, 3).reshape(20_000, 12, 2)
    torch.testing.assert_close(noise.var(), torch.tensor(1.0), atol=0.02, rtol=0)
    power = torch.fft.rfft(noise, dim=1).abs().square().mean((0, 2)).numpy()
    frequency = np.fft.rfftfreq(12)
    frequency[0] = 1 / 12
    expected = frequency**-beta
    np.testing.assert_allclose(power / power.sum(), expected / expected.sum(), rtol=0.05)
    across = torch.corrcoef(noise.reshape(-1, 2).T)[0, 1]
    assert abs(across) < 0.02  # action dimensions stay independent
    if not beta:
        assert colored(white, beta, 3) is white


@pytest.mark.parametrize(("name", "kind"), [("adam", "Adam"), ("rmsprop", "RMSprop"), ("sgd", "SGD")])
def test_gradient_equals_the_optimizer_of_torch(tiny_model, name, kind):
    generator = torch.Generator().manual_seed(0)
    context, goal = torch.randn(1, 1, 16, generator=generator), torch.randn(1, 16, generator=generator)
    solver = Gradient(samples=1, iterations=20, learning_rate=0.05, optimizer=name)
    settings = PlanSettings(solver=solver, horizon=3)
    output = plan(tiny_model, context, goal, settings)
    blocks = torch.zeros(1, 1, 3, 10, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([blocks], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        (tiny_model.rollout(context, blocks)[:, :, -1] - goal[:, None]).square().sum().backward(inputs=[blocks])
        optimizer.step()
    torch.testing.assert_close(output.blocks, blocks.detach()[0], atol=1e-4, rtol=1e-3)
    assert all(parameter.grad is None for parameter in tiny_model.parameters())


def test_random_shooting_returns_the_cheapest_guess():
    goals, solver = random_goals(1), RandomShooting(samples=50, initial_std=0.6)
    output = everything(solver, goals, ["a"])
    guesses = 0.6 * problem_noise(3, ["a"], [0], [0], (50, HORIZON, WIDTH))[0, 0]
    guesses[0] = 0
    best = min(guesses.numpy(), key=squared_distance(goals[0]))
    np.testing.assert_allclose(output.blocks[0], best, atol=1e-6)


def test_hybrid_improves_on_its_search():
    goals, solver = random_goals(4), Hybrid(samples=20, iterations=3, elites=5, gradient_steps=10)
    hybrid, search = everything(solver, goals), everything(solver.search(), goals)
    assert (hybrid.costs < search.costs).all()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mppi", {"elites": 4}, "elites is not a setting of solver 'mppi' .it belongs to cem, hybrid, icem"),
        ("cem", {"temperature": 1.0}, "temperature is not a setting of solver 'cem' .it belongs to mppi"),
        ("cem", {"sampels": 4}, "the closest one is samples"),
        ("keep", {"sampels": 4}, "sampels is not a setting of solver 'keep'; keep takes none"),
        ("mppi", {"temperature": 0}, "temperature=0 must be positive"),
        ("icem", {"kept": 1.5}, "kept=1.5 is a share"),
        ("icem", {"decay": 0.5}, "decay=0.5 must be at least 1"),
        ("icem", {"color": -1}, "color=-1 must be at least 0"),
        ("random", {"iterations": 2}, "guesses once"),
        ("gradient", {"learning_rate": float("inf")}, "learning_rate=inf"),
        ("gradient", {"optimizer": "lion"}, "optimizer='lion' is unknown: use one of adam, rmsprop, sgd"),
        ("hybrid", {"refined": 99}, "refined=99 exceeds elites=15"),
        ("hybrid", {"elites": 1}, "elites=1"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(name, settings, message):
    for attempt in (lambda: make_solver(name, **settings), lambda: PlanSettings.of(solver=name, **settings)):
        with pytest.raises(ValueError, match=message) as error:
            attempt()
        assert "\n" not in str(error.value)


def test_every_solver_is_a_planner_s_solver():
    for name in solver_names():
        planner = load_planner("goal-time", {"solver": name})
        assert planner.to_dict().items() >= solver_settings(name).items() and planner.overrides == (
            {} if name == "cem" else {"solver": name}
        )
        assert dataclasses.is_dataclass(planner.solver) and planner.solver.__dataclass_params__.frozen
    small = load_planner("small", {"solver": "mppi"})  # what small had of its own and both know
    assert (small.solver.samples, small.solver.iterations) == (100, 8)
