"""Milliseconds per decision of finished checkpoints, from a picture to the actions of the next block.

    python eval/bench_checkpoints.py model_cards/lewm-*-mini --out runs/decisions      # one core
    python eval/bench_checkpoints.py DIR --planners goal-time-small small --threads 2

A decision is what `MPCPolicy` does each time it wants a picture: encode it, and plan towards a goal that was encoded
when the episode began; `actor` is `ActorPolicy`, without any search. Random pictures, goals 25 steps away, one
environment; the median over episodes of an episode's time over its decisions, all planners in turn.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench_planning import in_turn, processor_name

from lewm_hf.evaluation.common.agent import Agent, load_agent
from lewm_hf.evaluation.common.outputs import check_out
from lewm_hf.evaluation.common.provenance import library_versions
from lewm_hf.files import write_atomic
from lewm_hf.planning import ActorPolicy, MPCPolicy, load_planner, planner_names
from lewm_hf.planning.block_policy import BlockPolicy
from lewm_hf.planning.world_model import has_actor
from lewm_hf.scripts import run_script, script_parser

ACTOR, STEPS = "actor", 25


def policy_of(agent: Agent, planner: str) -> BlockPolicy:
    if planner == ACTOR:
        return ActorPolicy(agent.model, agent.processor)
    return MPCPolicy(agent.model, agent.processor, planner)


def followed(agent: Agent, wanted: list[str] | None) -> list[str]:
    """Planners that this checkpoint can follow, of those that are wanted.

    Raises:
        ValueError: for an unknown name.
    """
    names = wanted or [ACTOR, *planner_names()]
    guided = [name for name in names if name == ACTOR or load_planner(name).proposal is not None]
    return [name for name in names if has_actor(agent.model) or name not in guided]


def episode(policy: BlockPolicy, pictures: np.ndarray) -> int:
    """Acts for 25 steps on pictures that do not depend on what is done; returns how often it decided."""
    policy.reset([0], ["timed"], pictures[None, -1], steps_left=STEPS)
    decisions = 0
    for picture in pictures[:STEPS]:
        wanted = policy.wants_frame()
        decisions += int(wanted[0])
        policy.act(picture[None][wanted])
    return decisions


def bench(arguments: argparse.Namespace) -> None:
    check_out(arguments.out)
    for name in arguments.planners or ():
        if name != ACTOR:
            load_planner(name)  # refused here, before any checkpoint is read
    torch.set_num_threads(arguments.threads)
    agents = {name: load_agent(name) for name in arguments.checkpoints}
    planners = {name: followed(agent, arguments.planners) for name, agent in agents.items()}
    rows = []
    for name, agent in agents.items():
        size = agent.model.config.image_size
        pictures = np.random.default_rng(0).integers(0, 256, (STEPS + 1, size, size, 3), dtype=np.uint8)
        policies = [policy_of(agent, planner) for planner in planners[name]]
        decisions = [episode(policy, pictures) for policy in policies]  # which warms up, too
        calls = [partial(episode, policy, pictures) for policy in policies]
        times = in_turn(calls, arguments.repeats, 0, agent.model.device)
        for planner, count, time in zip(planners[name], decisions, times, strict=True):
            row = {
                "checkpoint": Path(name).name,
                "planner": planner,
                "decisions": count,
                "ms_per_decision": time / count,
            }
            rows.append(row | {"parameters": agent.model.num_parameters()})
            print(f"{row['checkpoint']:20} {planner:24} {row['ms_per_decision']:9.1f} ms", flush=True)
    if arguments.out:
        facts = {"processor": processor_name(torch.device("cpu")), "threads": arguments.threads,
                 "versions": library_versions(), "repeats": arguments.repeats}  # fmt: skip
        path = Path(arguments.out) / "decisions.json"
        write_atomic(path, json.dumps(facts | {"rows": rows}, indent=2) + "\n")
        print(f"wrote {path}")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("checkpoints", nargs="+", help="folders or Hub ids")
    parser.add_argument(
        "--planners", nargs="+", help="names, files, or actor; default: all that a checkpoint can follow"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=7, help="episodes of each")
    parser.add_argument("--out", help="folder for decisions.json")
    return run_script(parser, bench, argv)


if __name__ == "__main__":
    sys.exit(main())
