"""Any gymnasium environment goes from nothing to a film of its agent, by commands alone."""

import json
import shlex
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from huggingface_hub import ModelCard

from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.storage.dataset_card import env_tag
from lewm_hf.hub.cards.snippets import decoder_snippet
from lewm_hf.hub.cards.write import write_card
from lewm_hf.tasks import registry
from lewm_hf.tasks.registry import find_task, lasting_name, make_env

from .commands import command

pytestmark = pytest.mark.usefixtures("own_module")

TINY = (
    "batch_size=16 num_workers=0 precision=fp32 tracker=none log_every=3 eval_pairs=2 eval_batches=1 "
    "recalibration_batches=2 image_size=32 patch_size=8 encoder_hidden_size=24 encoder_layers=1 encoder_heads=2 "
    "encoder_mlp_size=48 embed_dim=8 projector_hidden_size=32 predictor_hidden_size=24 predictor_layers=1 "
    "predictor_heads=2 predictor_head_dim=8 predictor_mlp_size=32 action_mlp_size=48 sigreg_projections=32"
)
QUICK = [part for value in ("samples=8", "iterations=1", "elites=2") for part in ("--set", value)]


def from_nothing_to_a_film(folder: Path, env: str, action_dim: int, *, steps: int, offset: int, collect=(), train=()):
    """Collects, trains and evaluates by commands; returns the content of results.json."""
    episodes, run, found = (folder / name for name in ("episodes", "run", "eval"))
    command("collect", env, "--episodes", 12, "--image-size", 32, "--workers", 1, "--max-steps", steps,
            "--out", episodes, *collect)  # fmt: skip
    values = [f"--{value}" for value in TINY.split()]
    command("train", f"--dataset={episodes}", f"--output_dir={run}", f"--action_dim={action_dim}", "--max_steps=4",
            "--frameskip=2", "--eval_overrides", f"goal_offset={offset}", "split=train", *QUICK[1::2],
            *values, *train)  # fmt: skip
    command("eval", run / "last", "--episodes", episodes, "--set", f"goal_offset={offset}", "--set", "split=train",
            "-n", 2, "--seeds", 1, *QUICK, "--video", 1, "--out", found)  # fmt: skip
    (film,) = (found / "videos").glob("*.gif")
    assert film.stat().st_size > 1000
    return json.loads((found / "results.json").read_text())


def test_an_environment_never_seen_before_goes_the_whole_way(tmp_path, capsys):
    """No `get_state`, no task, no import of this package: goals are frames that recorded actions lead to again."""
    result = from_nothing_to_a_film(
        tmp_path, "slider_task:Slider-v0", 1, steps=20, offset=6, collect=["--env-arg", "friction=0.1"]
    )
    env = result["env"]
    assert env["id"] == "slider_task:Slider-v0" and env["kwargs"] == {"image_size": 32, "friction": 0.1}
    assert env["success_rule"].startswith("latent distance to the goal <= ")
    assert "reached again by their actions from a seeded reset" in env["goals"]
    assert any("the model's own opinion" in remark for remark in env["not_comparable"])
    _check_card(tmp_path)
    command("report", tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "latent distance to the goal" in page and "model&#39;s own opinion" in page
    printed = capsys.readouterr().out
    assert "not comparable: " in printed and "goals: frames of recorded episodes" in printed


def _check_card(folder):
    """Its tags are none that the Hub refuses, its commands name what another process finds, and its lines run."""
    text = write_card(
        folder / "run" / "last", license="apache-2.0", data_license="apache-2.0", local=True, results=[folder / "eval"]
    ).read_text()
    assert "slider" in ModelCard(text).data.tags and all(ModelCard(text).data.tags)
    blocks = [shlex.split(block.split("\n```")[0]) for block in text.split("```bash\n")[1:]]
    commands = {words[1]: words for words in blocks if words[0] == "lewm"}
    assert commands["eval"][commands["eval"].index("--env") + 1] == "slider_task:Slider-v0"
    assert commands["collect"][2] == "slider_task:Slider-v0"
    usage: dict = {}
    lines = text.split("```python\n")[1].split("\n```")[0]
    exec(lines.replace(f'"{ModelCard(text).data.model_name}"', repr(str(folder / "run" / "last"))), usage)
    assert usage["plan"]["actions"].shape == (10, 1)
    draws = decoder_snippet("decoder", "model", "slider_task:Slider-v0", {"friction": 0.1}, 32)
    exec("\n".join(line for line in draws.splitlines() if line.startswith(("from ", "env"))), usage)
    assert usage["env"].render().shape == (32, 32, 3)


@pytest.mark.long
def test_pendulum_and_cartpole_likewise(tmp_path):
    """CartPole's choices are one-hot in data and model, and an int again where they are executed."""
    result = from_nothing_to_a_film(tmp_path / "pendulum", "Pendulum-v1", 1, steps=20, offset=6)
    assert result["planning"]["action_bounds"] == {"low": [-2.0], "high": [2.0], "source": "config"}
    result = from_nothing_to_a_film(tmp_path / "cartpole", "CartPole-v1", 2, steps=40, offset=6)
    episodes = load_episodes(tmp_path / "cartpole" / "episodes", "train")
    assert set(np.nan_to_num(episodes.actions, nan=1.0).ravel()) == {0.0, 1.0} and episodes.action_choices == [2]
    config = json.loads((tmp_path / "cartpole" / "run" / "last" / "config.json").read_text())
    assert config["action_choices"] == [2] and result["planning"]["action_bounds"] is None


def test_replayed_states_are_those_that_were_recorded(tmp_path):
    """Against the environment itself, run by hand from the recorded seed; noise of its own generator included."""
    command("collect", "slider_task:Slider-v0", "--episodes", 3, "--image-size", 24, "--workers", 1, "--out", tmp_path)
    episodes = load_episodes(tmp_path, "train")
    seed, step = episodes.states[12]
    assert step == 12 and episodes.description["fit"] == "stretch"
    inner = gymnasium.make("slider_task:Slider-v0", render_mode="rgb_array")
    inner.reset(seed=int(seed))
    for action in episodes.actions[:12]:
        observation = inner.step(action)[0]
    np.testing.assert_array_equal(observation, episodes.observations[12].astype(np.float32))
    env = make_env("slider_task:Slider-v0", image_size=24)
    env.remember(episodes)
    env.set_goal(episodes.states[5])
    env.set_state(episodes.states[12])
    for picture, row in ((env.render(), 12), (env.goal_image(), 5), (env.render(), 12)):
        np.testing.assert_array_equal(picture, episodes.frames([row])[0])
    way = env.draw_way(episodes.states[12:15], episodes.actions[12:14])
    np.testing.assert_array_equal(way, episodes.frames([12, 13, 14]))


def test_modules_are_found_where_the_command_is_given(tmp_path, monkeypatch):
    """As `python -m` does; an installed `lewm` looks into its own folder by itself."""
    source = Path(__file__).with_name("slider_task.py").read_text().replace("Slider-v0", "Elsewhere-v0")
    (tmp_path / "my_slider.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    command("collect", "my_slider:Elsewhere-v0", "--episodes", 2, "--image-size", 24, "--workers", 1, "--out", "out")
    assert load_episodes(tmp_path / "out", "train").env_id == "my_slider:Elsewhere-v0"


@pytest.mark.parametrize(
    ("name", "lasting", "tag"),
    [
        ("two_room", "two_room", "tworoom"),
        ("slider_task:Slider-v0", "slider_task:Slider-v0", "slider"),
        ("slider_v0", "slider_task:Slider-v0", "slider"),
        ("Pendulum-v1", "Pendulum-v1", "pendulum"),
    ],
)
def test_names_that_another_process_understands(name, lasting, tag):
    """The short name of an id is made when it is first met, and known nowhere else."""
    find_task("slider_task:Slider-v0")
    assert lasting_name(name) == lasting and env_tag(find_task(name).env_id) == [tag]
    registry._registered.pop("slider_v0")  # as in a process that starts
    assert env_tag(find_task(lasting).env_id) == [tag] and env_tag(None) == []


def test_an_id_is_a_task_and_what_is_none_is_named():
    task = find_task("slider_task:Slider-v0")
    assert (task.name, task.max_episode_steps) == ("slider_v0", 40) and task is find_task("Slider-v0")
    for name, message in (
        ("Pendullum-v1", "unknown environment 'Pendullum-v1': .* Pendulum-v1 or my_module:MyTask-v0"),
        ("slider_task:Other-v0", "unknown environment 'slider_task:Other-v0'"),
    ):
        with pytest.raises(ValueError, match=message):
            find_task(name)
