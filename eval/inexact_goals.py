"""What goal pictures cost that are not pixel-exact: shipped TwoRoom pairs, goals seen from a little off their place.

python eval/inexact_goals.py model_cards/lewm-tworoom-mini --planner goal-time-small -n 40 --off 12

Success is judged at the exact place. Each picture shows the agent up to `--off` pixels (of 224) beside it; several are
planned for by the nearest one (min) or by all (mean, the same plans as for the mean of their embeddings).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from lewm_hf import MPCPolicy, load_planner, load_protocol, make_env
from lewm_hf.evaluation.common.agent import load_agent
from lewm_hf.evaluation.success.manifest import Pair
from lewm_hf.evaluation.success.rollouts import run_policy
from lewm_hf.evaluation.success.shipped import shipped_manifests
from lewm_hf.measures.intervals import wilson_interval
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.tasks.vector import GoalVectorEnv

ENV, SEED = "two_room", 42


def of_pairs(shown: Mapping[Pair, np.ndarray], pairs: Sequence[Pair]) -> np.ndarray:
    """What policies are shown as the goals of these pairs."""
    return np.stack([shown[pair] for pair in pairs])


def pictures(env, states: np.ndarray, off: float, count: int) -> np.ndarray:
    """`(n, count, H, W, 3)` of places up to `off` pixels beside `states` `(n, 2)`, uniform in the disk."""
    rng = np.random.default_rng(SEED)
    angle, radius = (
        rng.uniform(0, 2 * np.pi, (len(states), count)),
        off * rng.uniform(0, 1, (len(states), count)) ** 0.5,
    )
    places = states[:, None] + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.stack([np.stack([env.goal_image(place) for place in of_one]) for of_one in places])


def measure(args: argparse.Namespace) -> None:
    protocol, found = load_protocol("clean"), []
    agent, (manifest,) = load_agent(args.model), shipped_manifests(ENV, protocol, [SEED], args.n)
    planner = load_planner(args.planner)
    size = {"image_size": agent.model.config.image_size}
    ways = [(0.0, 1, "min")] + [(off, *way) for off in args.off for way in ((1, "min"), (3, "min"), (3, "mean"))]
    with closing(GoalVectorEnv(ENV, min(args.n, 20), **size)) as envs, closing(make_env(ENV, **size)) as drawn:
        drawn.reset(seed=0, options={"goal_image": False})
        for off, count, goals in ways:
            shown = dict(zip(manifest.pairs, pictures(drawn, manifest.goal_states, off, count), strict=True))
            policy = MPCPolicy(agent.model, agent.processor, planner, num_envs=envs.num_envs, seed=SEED, goals=goals)
            outcomes = run_policy(
                envs, policy, manifest, protocol.budget, steps_left=protocol.goal_offset,
                goals=partial(of_pairs, shown),
            ).outcomes  # fmt: skip
            solved = sum(outcome.success for outcome in outcomes)
            low, high = wilson_interval(solved, args.n)
            far = float(np.median([outcome.final_distance for outcome in outcomes]))
            row = {"off": off, "pictures": count, "goals": goals, "successes": solved, "n": args.n}
            found.append(row | {"interval": [low, high], "median_final_distance": far})
            print(
                f"{count} picture(s) up to {off:4g} px off, {goals:4}   {solved:3} of {args.n}   95 % interval "
                f"{100 * low:.0f}-{100 * high:.0f} %   median final distance {far:.1f} px",
                flush=True,
            )
    if args.out:
        args.out.write_text(json.dumps({"model": args.model, "planner": planner.label, "rows": found}, indent=1) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("model", help="checkpoint: folder or Hub id")
    parser.add_argument("--planner", default="goal-time-small", help="name or YAML file")
    parser.add_argument("-n", type=int, default=40, help="pairs")
    parser.add_argument("--off", type=float, nargs="+", default=[12.0], help="pixels of 224")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    return run_script(parser, measure, argv)


if __name__ == "__main__":
    sys.exit(main())
