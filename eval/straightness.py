"""Temporal straightness over training (paper, figure 17), from the metrics that training runs have logged.

python eval/straightness.py runs/push_t runs/two_room --out straightness.png
"""

import argparse
import sys
from pathlib import Path

from lewm_hf.evaluation.health.straightness import plot_straightness, straightness_over_training


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--out", type=Path, default=Path("straightness.png"))
    args = parser.parse_args()
    try:
        plot_straightness(args.out, {run.name: run for run in args.runs})
        for run in args.runs:
            steps, values = straightness_over_training(run)
            print(f"{run}: {values[0]:.3f} at step {steps[0]}, {values[-1]:.3f} at step {steps[-1]}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
