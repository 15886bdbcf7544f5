"""Planning success of several runs in one table, as the paper prints it: mean and population std over training seeds.

    python eval/success_table.py runs/two_room runs/push_t
    python eval/success_table.py runs/ablation/encoder-*         # folders of runs are averaged

Every results.json below a folder counts as one training seed of it.
"""

import statistics
import sys
from pathlib import Path

from lewm_hf.evaluation.common.results import read_result
from lewm_hf.scripts import run_script, script_parser


def rows(folders: list[Path]) -> list[str]:
    """One line per folder.

    Raises:
        FileNotFoundError: for a folder without results.
        ValueError: where protocols differ: such rates are not comparable.
    """
    lines = [f"{'':<32}{'success':>18}{'random':>10}{'excess':>10}{'pairs':>8}{'seeds':>7}"]
    protocols: dict[str, str] = {}
    for folder in folders:
        found = [read_result(path) for path in sorted(folder.rglob("results.json"))]
        if not found:
            raise FileNotFoundError(
                f"there is no results.json below {folder}: run `lewm eval ... --out {folder}` first"
            )
        protocols |= {result["protocol"]["hash"]: result["protocol"]["label"] for result in found}
        rates = [100 * result["success"]["rate"] for result in found]
        floors = [100 * result["floors"]["random"]["rate"] for result in found if "random" in result["floors"]]
        floor = f"{statistics.mean(floors):.1f}" if floors else "-"
        excess = f"{statistics.mean(rates) - statistics.mean(floors):+.1f}" if floors else "-"
        shown = f"{statistics.mean(rates):.2f} ± {statistics.pstdev(rates):.2f}"
        pairs = sum(result["success"]["n"] for result in found)
        lines.append(f"{folder.name:<32}{shown:>18}{floor:>10}{excess:>10}{pairs:>8}{len(found):>7}")
    if len(protocols) > 1:
        raise ValueError(f"results of different protocols ({', '.join(protocols.values())}) do not belong in one table")
    return [f"success in %, protocol {', '.join(protocols.values())}", *lines]


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    return run_script(parser, lambda args: print("\n".join(rows(args.folders))), argv)


if __name__ == "__main__":
    sys.exit(main())
