"""Impossible events: what changes in the middle of an episode, as the environment says (`StateEnv.events`).

As in the paper, a color event changes how a body looks and a teleport where it is. Both happen between two frames, and
nothing announces them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...tasks.measurable import Events, draw_until
from ...tasks.policies import make_expert
from ...tasks.rollout import Expert, episode_rng, reset_episode

if TYPE_CHECKING:
    from ...tasks.state_env import StateEnv

VARIANTS = ("unperturbed", "color", "teleport")
# Of the range, in at least one channel: a color that is told from the old one at a glance.
COLOR_CHANGE = 0.5


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


def events_of(env: "StateEnv") -> Events:
    """The events of an environment.

    Raises:
        ValueError: where it has none, naming what to add.
    """
    if env.events is None:
        raise ValueError(
            f"{type(env).__name__} has no impossible events: set its `events` (lewm_hf.tasks.measurable.Events) and "
            "implement `teleport`"
        )
    return env.events


def record_takes(
    env: "StateEnv", *, env_name: str, seed: int, episode: int, frames: int, frameskip: int, event: int
) -> dict[str, Take]:
    """The three variants of one episode. They are the same before frame `event`, which is the first to show the change.

    The policy goes on from the changed state. The unperturbed variant restarts from its own state at the same moment,
    so that nothing but the event tells it apart.

    Args:
        env: a `StateEnv` with events.
        env_name: of its task, whose policy acts.
        seed, episode: the takes are a pure function of them.
        frames: F.
        event: index of the frame that the event happens right before.
    """
    takes: dict[str, Take] = {}
    for variant in VARIANTS:
        # Every variant starts all over: policies have states of their own, and so have generators.
        rng = episode_rng(seed, episode)
        policy = make_expert(env_name, events_of(env).policy)
        reset_episode(env, rng)
        policy.reset(env, rng)
        before = takes.get("unperturbed")
        pictures, states, actions = [], [], []
        for frame in range(frames):
            if frame == event:
                happen(env, variant, np.random.default_rng([seed, episode, 1]))
            pictures.append(before.frames[frame] if before is not None and frame < event else env.render())
            states.append(env.get_state())
            if frame + 1 < frames:
                actions += [_advance(env, policy) for _ in range(frameskip)]
        takes[variant] = Take(np.stack(pictures), np.stack(states), np.stack(actions))
    return takes


def _advance(env: "StateEnv", policy: Expert) -> np.ndarray:
    action = policy.act(env)
    env.step(action)
    return action


def happen(env: "StateEnv", variant: str, rng: np.random.Generator) -> dict[str, Any]:
    """Makes the event happen now, in an environment that looks as it does by default. The goal stays.

    Returns:
        The factors of variation that are new, by dotted name: none unless a color changed.
    """
    events, state, changed = events_of(env), env.get_state(), {}
    if variant == "color":
        changed = {events.color: _other_color(env, events.color, rng)}
    elif variant == "teleport":
        state = env.teleport(state, rng)
    options: dict[str, Any] = {
        "variation": [], "variation_values": changed, "state": state, "goal": env.goal_state, "goal_image": False,
    }  # fmt: skip
    env.reset(options=options)
    return changed


def _other_color(env: "StateEnv", name: str, rng: np.random.Generator) -> np.ndarray:
    factor: Any = env.variation_space.factors[name]  # one with a range
    old = np.asarray(env.variation[name], dtype=float)
    span = np.asarray(factor.high, dtype=float) - factor.low
    return draw_until(
        lambda: factor.draw(rng), lambda color: np.abs((color - old) / span).max() >= COLOR_CHANGE, f"color of {name}"
    )
