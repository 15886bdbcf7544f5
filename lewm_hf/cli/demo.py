"""The whole job in minutes: collect TwoRoom episodes, train a small world model, let it plan, report.

Every stage writes into one folder and is left out where it is finished already with the same settings, so that a demo
that was interrupted continues, and a second one only shows its report.
"""

import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.collect import collect
from ..data.episode_data import EpisodeData
from ..data.episodes import load_episodes
from ..evaluation.common.results import read_result
from ..evaluation.report.run import write_report
from ..evaluation.success.manifest import sample_manifest
from ..evaluation.success.protocol import Protocol, content_hash, load_protocol, parse_overrides, split_overrides
from ..evaluation.success.run import evaluate
from ..evaluation.success.summary import format_summary
from ..files import write_atomic
from ..planning.planners import Planner, load_planner
from ..training.arguments import read_recipe

logger = logging.getLogger(__name__)

RECIPE = "tworoom-mini"
PROTOCOLS = ("paper", "clean")


def run_demo(
    out: str | Path,
    *,
    recipe: str | Path | None = None,
    episodes: int = 800,
    test_fraction: float = 0.3,
    seed: int = 0,
    train_overrides: Mapping[str, Any] | None = None,
    checkpoint: str = "last",
    pairs: int = 100,
    eval_seeds: Sequence[int] = (42,),
    eval_overrides: Mapping[str, Any] | None = None,
    num_envs: int = 50,
    videos: int = 2,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Collects, trains, evaluates under `paper` and `clean` on held-out pairs, and writes `OUT/report/index.html`.

    Args:
        out: folder of everything: `episodes/`, `run/`, `report/`.
        recipe: of the training; default: `tworoom-mini`. How the agent plans comes from its `eval_overrides`.
        episodes, test_fraction, seed: of the data set.
        train_overrides: recipe keys to change.
        checkpoint: `"last"` or `"best"` of the run. The best one was chosen on held-out pairs, which flatters it.
        pairs: start-goal pairs per protocol and seed of `eval_seeds`.
        eval_overrides: values of both protocols and their planners to change.
        num_envs: pairs that run side by side.
        videos: failed episodes to film per protocol, and as many solved ones.
        workers: collecting processes; default: one per core.
        progress: show bars.

    Returns:
        The report's path.

    Raises:
        FileNotFoundError: where there is no such recipe.
        ValueError: where `out` holds a demo with other settings, or settings do not fit each other.
        SystemExit: where the training fails; its own message says why.
    """
    clock = time.perf_counter()
    out, recipe = Path(out), RECIPE if recipe is None else recipe
    values = read_recipe(recipe) | dict(train_overrides or {})
    if checkpoint not in ("last", "best"):
        raise ValueError(f"checkpoint={checkpoint!r} is unknown: use last or best")
    rules = _rules(values, eval_overrides or {})
    data, run, report = out / "episodes", out / "run", out / "report"
    image_size = values.get("image_size", 224)

    logger.info("1/4  collecting %d TwoRoom episodes at %d px into %s", episodes, image_size, data)
    collect(
        "two_room", data, episodes, seed=seed, image_size=image_size, test_fraction=test_fraction, workers=workers,
        progress=progress,
    )  # fmt: skip
    held_out = load_episodes(data, "test")
    _check_pairs(held_out, rules, pairs, eval_seeds)

    logger.info("2/4  training the recipe %s into %s", Path(recipe).stem, run)
    command = _train_command(recipe, train_overrides or {}, data, run)
    settings = {"recipe": values, "data": [episodes, test_fraction, seed]}
    _train(command, run, settings)

    asked = {
        "trained": content_hash(settings), "checkpoint": checkpoint, "pairs": pairs, "seeds": list(eval_seeds),
        "videos": videos,
    }  # fmt: skip
    for acting in rules:
        _judge(
            acting, report, asked, run / checkpoint, env="two_room", episodes=held_out, n=pairs, seeds=eval_seeds,
            num_envs=num_envs, videos=videos, video_successes=videos, progress=progress,
        )  # fmt: skip

    logger.info("4/4  writing the report")
    collected = f"--episodes {episodes} --image-size {image_size} --test-fraction {test_fraction} --seed {seed}"
    commands = [
        f"lewm demo --out {out}",
        "",
        "# the same, step by step",
        f"lewm collect two_room {collected} --out {data}",
        "lewm " + shlex.join(command),
        *(_eval_command(run / checkpoint, data, *acting, pairs, eval_seeds, report, videos) for acting in rules),
    ]
    evaluations = [report / protocol.name for protocol, _ in rules]
    page = write_report(run, report, evaluations=evaluations, commands=commands, films_per_evaluation=2 * videos)
    logger.info("%s is ready; everything took %.1f minutes", page, (time.perf_counter() - clock) / 60)
    return page


def _rules(recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[tuple[Protocol, Planner]]:
    """Under which protocols the agent is judged, and how it plans under each."""
    given = parse_overrides(recipe.get("eval_overrides") or []) | dict(overrides)
    of_protocol, of_planner = split_overrides(given)
    # `paper` draws from training episodes; a demo shows what was never seen.
    protocols = [load_protocol(name, of_protocol | {"split": "test"}) for name in PROTOCOLS]
    return [(one, load_planner(recipe.get("eval_planner") or one.default_planner, of_planner)) for one in protocols]


def _check_pairs(
    held_out: EpisodeData, rules: Sequence[tuple[Protocol, Planner]], pairs: int, seeds: Sequence[int]
) -> None:
    """Refuses what has too few start-goal pairs, which would otherwise show only after the training."""
    for protocol, _ in rules:
        for seed in seeds:
            sample_manifest(held_out, protocol, pairs, seed)


def _judge(acting: tuple[Protocol, Planner], report: Path, asked: Mapping[str, Any], model: Path, **how: Any) -> None:
    """Evaluates under a protocol into its folder of the report, unless what is asked for was answered there before.

    Args:
        asked: everything else that decides the result.
        how: see `evaluate`.
    """
    protocol, planner = acting
    logger.info("3/4  %d held-out pairs under the protocol %s", how["n"] * len(how["seeds"]), protocol.name)
    folder, asked = report / protocol.name, {**asked, "protocol": protocol.hash, "planner": planner.hash}
    if (folder / "results.json").is_file() and _read(folder / "settings.json") == asked:
        logger.info("done before")
    else:
        evaluate(model, out=folder, overwrite=True, protocol=protocol, planner=planner, **how)
        write_atomic(folder / "settings.json", json.dumps(asked, indent=1))
    logger.info("\n%s\n", format_summary(read_result(folder)))


def _train_command(recipe: str | Path, overrides: Mapping[str, Any], data: Path, run: Path) -> list[str]:
    command = ["train", str(recipe), "--dataset", str(data), "--output_dir", str(run)]
    return command + [part for key, value in overrides.items() for part in (f"--{key}", str(value))]


def _train(command: Sequence[str], run: Path, settings: Mapping[str, Any]) -> None:
    """Trains in a process of its own, whose progress goes to the same terminal; continues what was interrupted."""
    stamp = run.parent / "training.json"
    begun, record = (run / "recipe.yaml").exists(), _read(stamp)
    settings = json.loads(json.dumps(settings))
    if begun and (record is None or record["settings"] != settings):
        raise ValueError(f"{run} holds a run with other settings: remove it, or give another folder")
    if begun and record["finished"]:
        logger.info("done before")
        return
    write_atomic(stamp, json.dumps({"finished": False, "settings": settings}, indent=1))
    status = _run([sys.executable, "-m", "lewm_hf.cli", *command, *(["--resume"] if begun else [])])
    if status:
        raise SystemExit(status)
    write_atomic(stamp, json.dumps({"finished": True, "settings": settings}, indent=1))


def _run(command: Sequence[str]) -> int:
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached the training too: it saves its state before it ends


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _eval_command(
    model: Path,
    data: Path,
    protocol: Protocol,
    planner: Planner,
    pairs: int,
    seeds: Sequence[int],
    report: Path,
    videos: int,
) -> str:
    changes = "".join(f" --set {name}={value}" for name, value in {**protocol.overrides, **planner.overrides}.items())
    return (
        f"lewm eval {model} --env two_room --episodes {data} --protocol {protocol.name} --planner "
        f"{planner.name}{changes} -n {pairs} --seeds {' '.join(map(str, seeds))} --out "
        f"{report / protocol.name} --video {videos}"
    )
