"""Verbs about planning success: eval, compare, report."""

import argparse
from pathlib import Path

from .verb import Verbs, announce, folder, ranks_of


def add(verbs: Verbs) -> None:
    """Declares the verbs of this group."""
    verb = verbs.add(
        "eval", "planning success of a checkpoint under a protocol, beside blind policies", _eval, _what_stays,
        divides="the pairs",
    )  # fmt: skip
    verb.add_model()
    verb.add_env("environment of the pairs; the checkpoint's by default")
    verb.add_episodes("data set to draw pairs from; the pairs that ship with the package by default")
    verb.add("--manifest", action="append", type=Path, help="fixed pairs instead: a file per seed; may be repeated")
    verb.add("--protocol", default="clean", help="paper, clean or a YAML file")
    verb.add("--planner", help="paper, goal-time, small, ... or a YAML file; the protocol's by default")
    policies = ["planner", "actor", "random", "zero"]
    verb.add("--policy", choices=policies, default="planner", help="who acts")
    text = "change a value of the protocol or the planner; may be repeated"
    verb.add("--set", action="append", default=[], metavar="NAME=VALUE", help=text)
    verb.add(
        "--offset", type=int, nargs="+", metavar="STEPS", help="goal offsets instead of 25, each with twice the budget"
    )
    verb.add("-n", type=int, help="pairs per seed; the protocol's number by default")
    verb.add("--seeds", type=int, nargs="+", help="of pairs and planner; the protocol's by default")
    verb.add("--num-envs", type=int, default=50, help="pairs side by side in each process; on a CPU no outcome changes")
    verb.add_out("folder of results and films; the same command continues there")
    verb.add("--overwrite", action="store_true", help="replace the evaluation that --out holds, when done")
    verb.add("--video", type=int, default=0, metavar="N", help="film N episodes, failures first")
    verb.add("--decoder", help="folder or Hub id: draws in the films what the model imagined")
    verb.add("--decoder-revision", help="branch, tag or commit of a Hub decoder")

    verb = verbs.add("compare", "two evaluations on the same pairs: McNemar's test", _compare)
    verb.add("first", type=Path, help="folder that `lewm eval --out` wrote")
    verb.add("second", type=Path, help="another one")
    verb.add_out("folder for compare.json")
    verb.add("--overwrite", action="store_true", help="replace a comparison of other evaluations that --out holds")

    verb = verbs.add("report", "one self-contained HTML page of what was trained and measured", _report)
    verb.add("run", type=Path, help="folder of a training run, or with evaluations and analyses below")
    verb.add("--out", type=folder, help="the page; inside the run by default")


def _what_stays(args: argparse.Namespace) -> str:
    if args.out is None:
        return "nothing was written, add --out to keep what is finished"
    return f"seeds that were measured are kept in {args.out}, the same command continues"


def _eval(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.success.arguments import EvaluateArguments
    from lewm_hf.evaluation.success.folder import reserve
    from lewm_hf.evaluation.success.prepare import Prepared, prepare
    from lewm_hf.evaluation.success.protocol import parse_overrides
    from lewm_hf.evaluation.success.run import run
    from lewm_hf.evaluation.success.summary import format_summary

    overrides, offsets = parse_overrides(args.set), args.offset or [None]
    if args.offset and "goal_offset" in overrides:
        raise ValueError(f"--offset and --set goal_offset={overrides['goal_offset']} contradict each other: give one")
    folders = [args.out / f"offset-{offset}" if args.out and len(offsets) > 1 else args.out for offset in offsets]

    def prepared() -> list[Prepared]:
        """None is started where one would be refused later."""
        tasks = []
        for out, offset in zip(folders, offsets, strict=True):
            changes = {} if offset is None else {"goal_offset": offset, "budget": 2 * offset}
            given = EvaluateArguments(
                args.model, env=args.env, episodes=args.episodes, manifest=args.manifest or None,
                protocol=args.protocol, planner=args.planner, policy=args.policy, overrides=changes | overrides,
                n=args.n, seeds=args.seeds, revision=args.revision, episodes_revision=args.episodes_revision,
                decoder=args.decoder, decoder_revision=args.decoder_revision, num_envs=args.num_envs, out=out,
                overwrite=args.overwrite, videos=args.video, progress=True,
            )  # fmt: skip
            tasks.append(prepare(given))
            if out is not None:
                reserve(tasks[-1])
        return tasks

    with ranks_of(args) as ranks:
        for task in ranks.agreed(prepared):
            evaluation, out = run(task, ranks), task.given.out
            if not ranks.main:
                continue
            print(format_summary(evaluation.result))
            if out:
                print(f"\nwrote {out}: results.json, episodes.jsonl, manifests/ and {len(evaluation.videos)} videos")


def _compare(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.success.comparison import compare, format_comparison

    print(format_comparison(compare(args.first, args.second, args.out, overwrite=args.overwrite)))
    announce(args.out, args.started)


def _report(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.report.run import write_report

    print(f"wrote {write_report(args.run, args.out)}")
