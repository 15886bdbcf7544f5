"""Films episodes of an evaluation: agent | imagined | goal, failures first."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...files import write_atomic
from ...modeling_lewm_decoder import LeWMDecoder
from ...tasks.registry import make_env
from ..common.agent import Agent
from .episode_film import draw_episode
from .imagination import FrameBank, imagine, seen_steps
from .manifest import Manifest
from .rollouts import Outcome, StoredFrames

BANK_SIZE = 1024


def choose_episodes(outcomes: Sequence[Outcome], failures: int, successes: int = 0) -> list[int]:
    """Indices of the first `failures` failed episodes, filled up with solved ones, then of `successes` solved ones.

    Episodes whose start was a solution already come last: there is nothing to see.
    """
    failed = [index for index, outcome in enumerate(outcomes) if not outcome.success]
    solved = [index for index, outcome in enumerate(outcomes) if outcome.success]
    solved.sort(key=lambda index: outcomes[index].solved_at_start)
    return failed[:failures] + solved[: max(0, failures - len(failed)) + successes]


def film(
    folder: str | Path,
    agent: Agent,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    manifests: Sequence[Manifest],
    outcomes: Sequence[Outcome],
    first_frame: str,
    context_frames: int,
    episodes: Any,
    failures: int,
    successes: int = 0,
    decoder: LeWMDecoder | None = None,
) -> list[Path]:
    """Writes one GIF per chosen episode, numbered, failures first.

    Nothing is rendered while an evaluation runs; the recorded states are rendered here. The imagined embeddings are
    decoded; without a decoder they are shown as the nearest of some 1,000 pictures: of the data set where there is one,
    else of the manifests' states.

    Args:
        outcomes: of all pairs of all manifests, in their order.
        first_frame: the protocol's: `"stored"` shows the data set's first picture.
        context_frames: pictures that a decision looked at.
        episodes: an `EpisodeData` or `None`.
    """
    pairs = [(manifest, pair) for manifest in manifests for pair in manifest.pairs]
    chosen = choose_episodes(outcomes, failures, successes)
    if not chosen:
        return []
    files = []
    with closing(make_env(env_id, **env_kwargs)) as env:
        env.reset(seed=0, options={"goal_image": False})
        env.remember(episodes)
        if decoder is None:
            show = FrameBank.of(agent.model, agent.processor, _bank_frames(env, manifests, episodes)).nearest
        else:
            show = partial(_decoded, decoder)
        stored = StoredFrames(episodes) if episodes is not None and first_frame == "stored" else None
        for number, index in enumerate(chosen, 1):
            (manifest, pair), outcome = pairs[index], outcomes[index]
            env.set_goal(np.array(pair.goal_state))
            pictures = env.draw_way(outcome.states, outcome.actions)
            seen = seen_steps(outcome.plan_steps, agent.model.config.frameskip, context_frames)
            looked = {step: pictures[step] for step in seen}
            if stored is not None:
                looked[0] = stored.starts([pair])[0]
            expected = imagine(
                agent.model, agent.processor, looked, outcome.plan_steps, outcome.actions, context_frames
            )
            gif = draw_episode(
                pictures,
                show(expected),
                env.goal_image(),
                success=outcome.success,
                title=f"episode {pair.episode}, from frame {pair.start_frame}",
                plan_steps=outcome.plan_steps,
                imagined_label="imagined (nearest frame)" if decoder is None else "imagined (decoded)",
            )
            verdict = "reached" if outcome.success else "missed"
            name = f"{number:02d}-{verdict}-seed{manifest.seed}-episode{pair.episode}-frame{pair.start_frame}.gif"
            files.append(write_atomic(Path(folder) / name, gif))
    return files


@torch.no_grad()
def _decoded(decoder: LeWMDecoder, embeddings: Tensor) -> np.ndarray:
    return decoder.pictures(embeddings.flatten(1).to(next(decoder.parameters()).device)).cpu().numpy()


def _bank_frames(env: Any, manifests: Sequence[Manifest], episodes: Any) -> np.ndarray:
    if episodes is not None:
        rows = np.linspace(0, len(episodes.states) - 1, min(BANK_SIZE, len(episodes.states))).astype(int)
        return episodes.frames(rows)
    states = np.concatenate([part for one in manifests for part in (one.start_states, one.goal_states)])
    # The goal may be drawn into the scene; any will do here.
    states = states[:BANK_SIZE]
    return env.draw_states(states, np.broadcast_to(states[0], states.shape))
