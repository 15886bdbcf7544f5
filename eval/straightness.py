"""Temporal straightness over training (paper, figure 17), from the metrics that training runs have logged.

python eval/straightness.py runs/push_t runs/two_room --out straightness.png
"""

import argparse
import sys
from pathlib import Path

from lewm_hf.evaluation.health.straightness import plot_straightness, straightness_over_training
from lewm_hf.scripts import run_script, script_parser


def draw(args: argparse.Namespace) -> None:
    plot_straightness(args.out, {run.name: run for run in args.runs})
    for run in args.runs:
        steps, values = straightness_over_training(run)
        print(f"{run}: {values[0]:.3f} at step {steps[0]}, {values[-1]:.3f} at step {steps[-1]}")
    print(f"wrote {args.out}")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--out", type=Path, default=Path("straightness.png"))
    return run_script(parser, draw, argv)


if __name__ == "__main__":
    sys.exit(main())
