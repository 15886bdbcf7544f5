"""A shipped agent at work on any task: it acts on pairs that ship, imagines, and a page shows both."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import lewm_hf

from ..evaluation.common.agent import load_agent
from ..evaluation.report.run import write_report
from ..evaluation.success.run import evaluate
from ..evaluation.success.summary import format_summary
from ..planning import has_actor

logger = logging.getLogger(__name__)


def shipped_checkpoints(env_id: str, model_type: str = "lewm") -> list[Path]:
    """Folders of the repository's `model_cards/` whose checkpoints were trained on an environment.

    Raises:
        FileNotFoundError: where the package is installed without them.
    """
    cards = Path(lewm_hf.__file__).resolve().parents[1] / "model_cards"
    if not cards.is_dir():
        raise FileNotFoundError(
            f"the checkpoints that ship are not at {cards}: they are part of the repository, not of the installed "
            "package; clone it, or name a checkpoint with --model"
        )
    found = []
    for config in sorted(cards.glob("*/config.json")):
        facts = config.with_name("training.json")
        if not facts.is_file() or json.loads(config.read_text(encoding="utf-8")).get("model_type") != model_type:
            continue
        if json.loads(facts.read_text(encoding="utf-8")).get("env_id") == env_id:
            found.append(config.parent)
    return found


def show_agent(
    env: str,
    env_id: str,
    out: str | Path,
    *,
    model: str | Path | None = None,
    decoder: str | Path | None = None,
    planner: str | None = None,
    pairs: int = 12,
    seeds: Sequence[int] = (42,),
    videos: int = 3,
    progress: bool = True,
) -> Path:
    """Lets an agent act on start-goal pairs that ship, films it beside what it imagined, and writes one page.

    Args:
        env, env_id: the task's name and the id of its environment.
        out: folder of results, films and the page; replaced where it holds an earlier demo.
        model: folder or Hub id; default: the smallest checkpoint of this task that ships.
        decoder: draws what was imagined; default: one that ships for that checkpoint, else the nearest known picture.
        planner: see `evaluate`; default: `actor-guided` where the checkpoint has an actor, else `goal-time-small`.
        pairs: start-goal pairs per seed.
        videos: failed episodes to film, and as many solved ones.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError, ValueError: one line, where no such checkpoint ships or it does not fit.
    """
    clock = time.perf_counter()
    out = Path(out)
    if model is None:
        shipped = shipped_checkpoints(env_id)
        if not shipped:
            raise FileNotFoundError(f"no checkpoint of {env} ships: name one with --model, or train one with a recipe")
        model = min(shipped, key=lambda folder: (folder / "model.safetensors").stat().st_size)
        if decoder is None:
            decoder = next((folder for folder in shipped_checkpoints(env_id, "lewm_decoder")
                            if folder.name == f"{model.name}-decoder"), None)  # fmt: skip
    agent = load_agent(model)
    if planner is None:
        planner = "actor-guided" if has_actor(agent.model) else "goal-time-small"
    logger.info("%s acts on %d pairs with the planner %s", model, pairs * len(seeds), planner)
    evaluation = evaluate(
        agent, env=env, protocol="clean", planner=planner, n=pairs, seeds=seeds, num_envs=pairs, decoder=decoder,
        out=out / "clean", overwrite=True, videos=videos, video_successes=videos, progress=progress,
    )  # fmt: skip
    logger.info("\n%s\n", format_summary(evaluation.result))
    commands = [
        f"lewm eval {model} --env {env} --protocol clean --planner {planner} -n {pairs} "
        f"--seeds {' '.join(map(str, seeds))} --out {out / 'clean'} --video {videos}"
        + (f" --decoder {decoder}" if decoder else "")
    ]
    page = write_report(
        out=out, evaluations=[out / "clean"], analyses=[], commands=commands, films_per_evaluation=2 * videos
    )
    logger.info("%s is ready; everything took %.0f s", page, time.perf_counter() - clock)
    return page
