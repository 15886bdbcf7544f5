import io

import numpy as np
import pytest
import torch
from PIL import Image

from lewm_hf import LeWMImageProcessor
from lewm_hf.evaluation.common.agent import Agent
from lewm_hf.evaluation.common.embeddings import encode
from lewm_hf.evaluation.success.episode_film import draw_episode
from lewm_hf.evaluation.success.filming import choose_episodes, film
from lewm_hf.evaluation.success.imagination import FrameBank, imagine, seen_steps
from lewm_hf.evaluation.success.manifest import sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.rollouts import Outcome
from lewm_hf.tasks.two_room.env import render_positions


@pytest.fixture
def processor():
    return LeWMImageProcessor(image_size=28)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    positions = np.random.default_rng(seed).uniform(25, 200, (count, 2))
    return render_positions(positions, image_size=28)


def naive_imagination(model, processor, frames, plan_steps, actions, context_frames):
    """One step at a time, with nothing but `encode` and `predict`."""
    config, steps = model.config, len(actions)
    f = config.frameskip
    mean, std = np.array(config.action_mean), np.array(config.action_std)

    def latent(step):
        return model.encode(processor(frames[step])["pixel_values"][None])[0, 0]

    def block(start):
        raw = [actions[t] if t < steps else mean for t in range(start, start + f)]
        return torch.tensor(((np.array(raw) - mean) / std).ravel(), dtype=torch.float32)

    expected = {}
    for number, plan_step in enumerate(plan_steps):
        end = plan_steps[number + 1] if number + 1 < len(plan_steps) else steps + 1
        steps_seen = [s for s in (plan_step - k * f for k in reversed(range(context_frames))) if s >= 0]
        latents = [latent(s) for s in steps_seen]
        blocks = [block(s) for s in steps_seen[:-1]]
        for step in range(plan_step, end):
            if step > plan_step and (step - plan_step) % f == 0:
                blocks.append(block(step - f))
                window = slice(-config.history_size, None)
                new = model.predict(torch.stack(latents[window])[None], torch.stack(blocks[window])[None])
                latents.append(new[0, -1])
            expected[step] = latents[-1]
    return torch.stack([expected[step] for step in range(steps + 1)])


@pytest.mark.parametrize(
    ("steps", "plan_steps", "context_frames"),
    [(50, (0, 25), 1), (25, (0,), 1), (31, (0, 25), 1), (3, (0,), 1), (40, (0, 10, 20, 30), 3), (12, (0, 10), 2)],
)
@torch.no_grad()
def test_imagination_equals_predicting_step_by_step(tiny_model, processor, steps, plan_steps, context_frames):
    frames = pictures(steps + 1)
    actions = np.random.default_rng(1).normal(0, 1, (steps, 2)).astype(np.float32)
    looked = {step: frames[step] for step in seen_steps(plan_steps, 5, context_frames)}
    expected = naive_imagination(tiny_model, processor, frames, plan_steps, actions, context_frames)
    found = imagine(tiny_model, processor, looked, plan_steps, actions, context_frames)
    assert found.shape == (steps + 1, 16)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_seen_steps_are_block_boundaries_before_each_plan():
    assert seen_steps((0, 25), 5, 1) == [0, 25]
    assert seen_steps((0, 25), 5, 3) == [0, 15, 20, 25]
    assert seen_steps((0, 5, 10), 5, 3) == [0, 5, 10]


def test_the_bank_shows_the_nearest_picture(tiny_model, processor):
    frames = pictures(70)
    bank = FrameBank.of(tiny_model, processor, frames)
    embeddings = encode(tiny_model, processor, frames[[3, 65]])["embeddings"]
    assert (bank.nearest(embeddings + 1e-4) == frames[[3, 65]]).all()
    query = torch.randn(5, 16)
    distances = ((query[:, None] - bank.embeddings[None]) ** 2).sum(-1)
    assert (bank.nearest(query) == frames[distances.argmin(1).numpy()]).all()


def panels(gif: bytes, frame: int) -> np.ndarray:
    image = Image.open(io.BytesIO(gif))
    image.seek(frame)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("size", [28, 64, 224])
def test_a_film_shows_agent_imagination_and_goal_side_by_side(size):
    colors = {"agent": (200, 0, 0), "imagined": (0, 200, 0), "goal": (0, 0, 200)}
    agent, imagined, goal = (np.full((size, size, 3), color, np.uint8) for color in colors.values())
    gif = draw_episode(np.stack([agent] * 4), np.stack([imagined] * 4), goal, success=True, title="episode 7")
    image = Image.open(io.BytesIO(gif))
    assert (image.format, image.n_frames) == ("GIF", 4)
    assert image.width >= 3 * 190
    picture = panels(gif, 0)
    middle = picture[picture.shape[0] // 2]
    for third, color in enumerate(colors.values()):
        center = middle[int((third + 0.5) * len(middle) / 3)]
        assert np.abs(center.astype(int) - color).max() <= 8
    # Whole pixels, not smoothed ones: the panel is one flat color up to its edge.
    inside = (np.abs(middle.astype(int) - colors["goal"]).max(1) <= 8).sum()
    assert inside % size == 0


def test_the_last_frame_tells_the_verdict():
    frames = np.full((3, 64, 64, 3), 255, np.uint8)
    won, lost = (draw_episode(frames, frames, frames[0], success=s, title="x") for s in (True, False))
    assert (panels(won, 2) != panels(lost, 2)).any()

    def reddish(gif):
        picture = panels(gif, 2).astype(int)
        return (picture[..., 0] - picture[..., 1] > 80).sum()

    assert reddish(lost) > 300 > reddish(won)


def outcome(success: bool, states: np.ndarray | None = None, solved_at_start: bool = False) -> Outcome:
    states = np.zeros((8, 2)) if states is None else states
    return Outcome(
        success=success, first_success_step=None, solved_at_start=solved_at_start, final_distance=1.0, plan_steps=(0,),
        states=states, actions=np.zeros((len(states) - 1, 2), np.float32), seconds=0.0,
    )  # fmt: skip


def test_failures_come_first_and_are_filled_up():
    outcomes = [outcome(True), outcome(False), outcome(True), outcome(False), outcome(False)]
    assert choose_episodes(outcomes, 2) == [1, 3]
    assert choose_episodes(outcomes, 4) == [1, 3, 4, 0]
    assert choose_episodes(outcomes, 1, 2) == [1, 0, 2]
    assert choose_episodes(outcomes[::2], 2, 2) == [2, 0, 1]
    trivial = [outcome(True, solved_at_start=True), outcome(True), outcome(True)]
    assert choose_episodes(trivial, 0, 2) == [1, 2]
    assert choose_episodes(trivial, 3) == [1, 2, 0]
    assert choose_episodes([], 3) == []


def test_films_need_no_data_set_and_name_their_episode(tiny_model, processor, episodes, tmp_path):
    protocol = load_protocol("paper", {"split": "test"})
    manifest = sample_manifest(episodes, protocol, 2, 42)
    outcomes = [
        outcome(success, np.linspace(pair.start_state, pair.goal_state, 8))
        for success, pair in zip((True, False), manifest.pairs, strict=True)
    ]
    agent = Agent(tiny_model, processor, "tiny")
    for source in (episodes, None):
        files = film(
            tmp_path, agent, "lewm/TwoRoom-v0", {"image_size": 28}, [manifest], outcomes, "stored", 1, source, 1, 1
        )
        lost = manifest.pairs[1]
        assert files[0].name == f"01-missed-seed42-episode{lost.episode}-frame{lost.start_frame}.gif"
        assert files[1].name.startswith("02-reached")
        assert [Image.open(path).n_frames for path in files] == [8, 8]
    won = manifest.pairs[0]
    picture = panels(files[1].read_bytes(), 7)
    # 28 px are enlarged 7 times; the agent's blob ends at the goal.
    agent_panel = picture[22 : 22 + 196, 6 : 6 + 196].astype(int)
    red = np.clip(agent_panel[..., 0] - agent_panel[..., 1], 0, None)
    red[:3], red[-3:], red[:, :3], red[:, -3:] = 0, 0, 0, 0
    x = (red.sum(0) * np.arange(196)).sum() / red.sum() * 224 / 196
    assert x == pytest.approx(won.goal_state[0], abs=6)
