"""Impossible events: what changes in the middle of an episode, per environment.

As in the paper, a color event changes how a body looks and a teleport where it is. Both happen between two frames, and
nothing announces them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...tasks.policies import Expert, make_expert
from ...tasks.rollout import episode_rng, reset_episode

VARIANTS = ("unperturbed", "color", "teleport")
MAX_DRAWS = 1000
# Of the range, in at least one channel: a color that is told from the old one at a glance.
COLOR_CHANGE = 0.5


@dataclass(frozen=True)
class EventSet:
    """The events of one environment, and the policy that acts around them.

    Args:
        policy: name of the acting policy: the paper's choice where it has one.
        steps: environment steps of an episode.
        color: factor of variation that the color event changes.
        body: what it colors.
        teleport: `(env, state, rng)` -> state vector after the teleport.
        rule: what the teleport moves, and how far at least.
    """

    policy: str
    steps: int
    color: str
    body: str
    teleport: Callable[[Any, np.ndarray, np.random.Generator], np.ndarray]
    rule: str


@dataclass(frozen=True)
class Take:
    """One episode, one variant.

    Attributes:
        frames: `(F, H, W, 3)` uint8, `frameskip` steps apart.
        states: `(F, state)`, what the frames show.
        actions: `((F - 1) * frameskip, action)` float32, environment units.
    """

    frames: np.ndarray
    states: np.ndarray
    actions: np.ndarray


def record_takes(
    env, events: EventSet, *, env_name: str, seed: int, episode: int, frames: int, frameskip: int, event: int
) -> dict[str, Take]:
    """The three variants of one episode. They are the same before frame `event`, which is the first to show the change.

    The policy goes on from the changed state. The unperturbed variant restarts from its own state at the same moment,
    so that nothing but the event tells it apart.

    Args:
        env: a `GoalEnv`.
        seed, episode: the takes are a pure function of them.
        frames: F.
        event: index of the frame that the event happens right before.
    """
    takes: dict[str, Take] = {}
    for variant in VARIANTS:
        # Every variant starts all over: policies have states of their own, and so have generators.
        rng = episode_rng(seed, episode)
        policy = make_expert(env_name, events.policy)
        reset_episode(env, rng)
        policy.reset(env, rng)
        before = takes.get("unperturbed")
        pictures, states, actions = [], [], []
        for frame in range(frames):
            if frame == event:
                happen(env, events, variant, np.random.default_rng([seed, episode, 1]))
            shared = before is not None and frame < event
            pictures.append(before.frames[frame] if shared else env.render())
            states.append(env.get_state())
            if frame + 1 < frames:
                actions += [_advance(env, policy) for _ in range(frameskip)]
        takes[variant] = Take(np.stack(pictures), np.stack(states), np.stack(actions))
    return takes


def _advance(env, policy: Expert) -> np.ndarray:
    action = policy.act(env)
    env.step(action)
    return action


def happen(env, events: EventSet, variant: str, rng: np.random.Generator) -> dict[str, Any]:
    """Makes the event happen now, in an environment that looks as it does by default. The goal stays.

    Returns:
        The factors of variation that are new, by dotted name: none unless a color changed.
    """
    state, changed = env.get_state(), {}
    if variant == "color":
        changed = {events.color: _other_color(env, events.color, rng)}
    elif variant == "teleport":
        state = events.teleport(env, state, rng)
    options = {
        "variation": [], "variation_values": changed, "state": state, "goal": env.goal_state, "goal_image": False,
    }  # fmt: skip
    env.reset(options=options)
    return changed


def _other_color(env, name: str, rng: np.random.Generator) -> np.ndarray:
    factor, old = env.variation_space.factors[name], np.asarray(env.variation[name], dtype=float)
    span = np.asarray(factor.high, dtype=float) - factor.low
    return _draw(
        lambda: factor.draw(rng), lambda color: np.abs((color - old) / span).max() >= COLOR_CHANGE, f"color of {name}"
    )


def _draw(draw: Callable[[], np.ndarray], accept: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
    for _ in range(MAX_DRAWS):
        value = draw()
        if accept(value):
            return value
    raise ValueError(f"no {what} satisfies its rule after {MAX_DRAWS} draws: use another seed")


def _far(distance: float, old: np.ndarray) -> Callable[[np.ndarray], bool]:
    return lambda new: bool(np.linalg.norm(new - old) >= distance)


def _teleport_two_room(env, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    def draw() -> np.ndarray:
        return env.variation_space.sample(rng, ["agent.position"])["agent.position"]

    return _draw(draw, _far(50.0, state), "agent position")


def _teleport_push_t(env, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    names, angle = ["block.start_position", "agent.start_position"], {"block.angle": state[4]}

    def draw() -> np.ndarray:
        values = env.variation_space.sample(rng, names, angle)
        return np.concatenate([values["agent.start_position"], values["block.start_position"], state[4:]])

    def accept(new: np.ndarray) -> bool:
        return all(_far(100.0, state[part])(new[part]) for part in (slice(0, 2), slice(2, 4)))

    return _draw(draw, accept, "positions of agent and block")


def _teleport_reacher(env, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    low, high = env.model.joint("wrist").range

    def draw() -> np.ndarray:
        return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(low, high), *state[2:]])

    def accept(new: np.ndarray) -> bool:
        return bool(np.abs(env.joint_errors(new[None], state[None])).max() >= 1.0)

    return _draw(draw, accept, "pose")


def _teleport_cube(env, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    position = env.variation_space.factors["cube.start_position"]
    effector = env.oracle_info()["proprio/effector_pos"][:2]

    def accept(xy: np.ndarray) -> bool:
        return _far(0.1, state[14:16])(xy) and _far(0.1, effector)(xy)

    new = state.copy()
    new[14:16] = _draw(lambda: position.draw(rng), accept, "cube position")
    new[16] = env.variation["cube.size"]
    # Lying on the table, at rest, turned as before.
    yaw = env.oracle_info()["privileged/block_0_yaw"][0]
    new[17:21] = np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
    new[-6:] = 0.0
    return new


EVENTS: Mapping[str, EventSet] = {
    "two_room": EventSet(
        "expert", 80, "agent.color", "the agent", _teleport_two_room, "the agent, by at least 50 px"
    ),
    "push_t": EventSet(
        "weak", 80, "block.color", "the block", _teleport_push_t, "agent and block, by at least 100 px each"
    ),
    "reacher": EventSet(
        "random", 80, "agent.color", "the arm", _teleport_reacher, "the arm, one joint by at least 1 rad"
    ),
    "cube": EventSet("expert", 200, "cube.color", "the cube", _teleport_cube, "the cube, by at least 10 cm"),
}  # fmt: skip
