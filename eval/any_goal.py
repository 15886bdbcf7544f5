"""Success where start and goal are what an environment's own reset draws, and nobody says when the goal is due.

    python eval/any_goal.py model_cards/lewm-tworoom-mini --planner actor-guided -n 100 --budget 150 --out runs/any-goal

`clean` and `paper` take goals that lie ahead in an episode: they can be reached in the time that is given. Of a goal
that is drawn nobody knows how far it is. Pairs that are solved at the start are drawn again.
"""

import argparse
import sys
from contextlib import closing
from typing import Any

import numpy as np

from lewm_hf import evaluate, load_protocol, make_env
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.evaluation.success.manifest import PAIR_FIELDS, Manifest, Pair, protocol_env_kwargs
from lewm_hf.evaluation.success.pairs import PairCounts
from lewm_hf.evaluation.success.protocol import Protocol
from lewm_hf.evaluation.success.summary import format_summary
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.tasks.registry import find_task

RESETS = "resets"  # what stands in place of a data set's fingerprint


def drawn_by_resets(env_id: str, env_kwargs: dict[str, Any], protocol: Protocol, n: int, seed: int) -> Manifest:
    """The `n` problems of `seed`: the first resets with seeds of its own that do not begin at their goal.

    Pairs are numbered by their reset; no data set knows them.

    Raises:
        ValueError: for an environment whose resets draw no goal.
    """
    env_kwargs = protocol_env_kwargs(env_id, env_kwargs, protocol)
    draws = np.random.default_rng(seed)
    pairs: list[Pair] = []
    with closing(make_env(env_id, **env_kwargs)) as env:
        resets = 0
        while len(pairs) < n:
            env.reset(seed=int(draws.integers(2**31)), options={"goal_image": False})
            start, goal = env.get_state(), env.goal_state
            if goal is None:
                raise ValueError(f"{env_id} draws no goal: evaluate it on pairs of episodes (lewm eval)")
            if not env.reached(start[None], np.asarray(goal)[None])[0]:
                states = tuple(start.tolist()), tuple(np.asarray(goal).tolist())
                pairs.append(Pair(resets, 0, protocol.goal_offset, *states))
            resets += 1
        names = tuple(env.state_names)
    rule = {name: getattr(protocol, name) for name in PAIR_FIELDS}
    counts = PairCounts(resets, resets - n, n, n)
    return Manifest(env_id, names, env_kwargs, protocol.label, rule, seed, counts, RESETS, tuple(pairs))


def work(args: argparse.Namespace) -> None:
    agent = load_agent(args.model)
    if agent.trained_on is None:
        raise ValueError(f"{args.model} does not say which environment it was trained in: train it with this package")
    env_id = find_task(agent.trained_on).env_id
    protocol = load_protocol("clean", {"deadline": False, "opposite_rooms": False, "budget": args.budget})
    kwargs = {**agent.env_kwargs, "image_size": agent.model.config.image_size}
    manifests = [drawn_by_resets(env_id, kwargs, protocol, args.n, seed) for seed in args.seeds]
    evaluation = evaluate(
        args.model, env=env_id, manifest=manifests, protocol=protocol, policy=args.policy, planner=args.planner,
        out=args.out, progress=True,
    )  # fmt: skip
    print(format_summary(evaluation.result))


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("model", help="checkpoint: folder or Hub id")
    parser.add_argument("--policy", default="planner", choices=["planner", "actor", "random", "zero"])
    parser.add_argument("--planner", help="name or YAML file (default: goal-time)")
    parser.add_argument("-n", type=int, default=100, help="problems per seed (default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--budget", type=int, default=150, help="environment steps (default: 150)")
    parser.add_argument("--out", help="folder of results")
    return run_script(parser, work, argv)


if __name__ == "__main__":
    sys.exit(main())
