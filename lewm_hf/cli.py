"""`lewm`: one subcommand per verb, each a thin call into the library.

Whatever the user got wrong is one line on standard error and exit status 2.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# One line of progress beats a warning about tokenizers this package does not use.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ENVIRONMENTS = ("two_room", "push_t", "reacher", "cube")


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: write i/n, such as 0/4")
    return int(part), int(parts)


def _assignments(pairs: Sequence[str]) -> dict:
    """`["physics=swept", "compat=true"]` -> keyword arguments; values are read as JSON where they are JSON."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is no assignment: write name=value")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values


def _collect(args) -> None:
    from .data.collect import collect, paper_preset

    preset = paper_preset(args.env) if args.preset == "paper" else {}
    chosen = {"episodes": args.episodes, "seed": args.seed, "expert": args.expert}
    chosen = preset | {name: value for name, value in chosen.items() if value is not None}
    if "episodes" not in chosen:
        raise ValueError("how many episodes? Add --episodes N, or --preset paper for the paper's number")
    episodes = chosen.pop("episodes")
    out = collect(
        args.env, args.out, episodes, **chosen, image_size=args.image_size, noise=args.noise,
        env_kwargs=_assignments(args.env_arg), expert_kwargs=_assignments(args.expert_arg),
        test_fraction=args.test_fraction, max_steps=args.max_steps, workers=args.workers, shard=args.shard,
        progress=True,
    )  # fmt: skip
    print(f"{out}: datasets.load_dataset({str(out)!r}) loads it")


def _data_stats(args) -> None:
    from .data.cards import data_stats, fact_rows

    for name, value in fact_rows(data_stats(args.directory)):
        print(f"{name:40} {value}")
    print(f"{args.directory}/README.md agrees with its files")


def _eval(args) -> None:
    from .evaluation.protocols import parse_overrides
    from .evaluation.runner import evaluate
    from .evaluation.summary import format_summary

    evaluation = evaluate(
        args.model, env=args.env, episodes=args.episodes, manifest=args.manifest or None, protocol=args.protocol,
        overrides=parse_overrides(args.set), n=args.n, seeds=args.seeds, num_envs=args.num_envs, out=args.out,
        videos=args.video, revision=args.revision, progress=True,
    )  # fmt: skip
    print(format_summary(evaluation.result))
    if args.out:
        print(f"\nwrote {args.out}: results.json, episodes.jsonl, manifests/ and {len(evaluation.videos)} videos")


def _report(args) -> None:
    from .evaluation.report import write_report

    print(f"wrote {write_report(args.run, args.out)}")


def _demo(args) -> None:
    from .demo import run_demo

    print(f"\nopen {run_demo(args.out)} in a browser")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lewm", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Callable, help: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(run=run)
        return sub

    sub = verb(
        "collect", _collect, "collect episodes with an expert; the same command again continues or finds it done"
    )
    sub.add_argument("env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", type=int, help="of all splits and shards together")
    sub.add_argument("--out", type=Path, required=True, help="directory of the data set")
    sub.add_argument("--preset", choices=["paper"], help="sizes, seed and policy of the paper's data set")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--image-size", type=int, default=224)
    sub.add_argument("--expert", help="policy by name; the environment's own by default")
    sub.add_argument("--noise", type=float, help="of the expert")
    sub.add_argument("--test-fraction", type=float, default=0.1, help="share of episodes that is held out")
    sub.add_argument("--max-steps", type=int, help="longest episode")
    sub.add_argument("--workers", type=int, help="processes; one per core by default")
    sub.add_argument("--shard", type=_shard, default=(0, 1), help="i/n: this machine's part of the files")
    sub.add_argument("--env-arg", action="append", default=[], metavar="NAME=VALUE", help="constructor argument")
    sub.add_argument("--expert-arg", action="append", default=[], metavar="NAME=VALUE", help="constructor argument")

    sub = verb("data-stats", _data_stats, "measure a data set again and compare with its card")
    sub.add_argument("directory", type=Path)

    sub = verb("eval", _eval, "planning success of a checkpoint under a protocol, beside blind policies")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", help="data set that pairs come from: folder or Hub id")
    sub.add_argument("--manifest", action="append", type=Path, help="fixed pairs instead; one file per seed")
    sub.add_argument("--protocol", default="clean", help="paper, clean or a YAML file")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a value of the protocol")
    sub.add_argument("-n", type=int, help="pairs per seed")
    sub.add_argument("--seeds", type=int, nargs="+")
    sub.add_argument("--num-envs", type=int, default=50, help="pairs side by side; changes no outcome")
    sub.add_argument("--out", type=Path, help="folder for results.json, episodes.jsonl, manifests and videos")
    sub.add_argument("--video", type=int, default=0, metavar="N", help="film N episodes, failures first")
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb("report", _report, "one self-contained HTML page of what was trained and measured")
    sub.add_argument("run", type=Path)
    sub.add_argument("--out", type=Path, help="the page; inside the run by default")

    sub = verb("demo", _demo, "TwoRoom from nothing: episodes, training, evaluation, report; about ten minutes")
    sub.add_argument("--out", type=Path, default=Path("demo"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _quiet_libraries()
    try:
        args.run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"lewm {args.verb}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lewm {args.verb}: interrupted; what is finished stays usable", file=sys.stderr)
        return 130
    return 0


def _quiet_libraries() -> None:
    """Their bars for a file of a megabyte would drown what the commands have to say."""
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()


def _one_line(error: Exception) -> str:
    # Strict dataclasses of huggingface_hub put the cause on a second line.
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
