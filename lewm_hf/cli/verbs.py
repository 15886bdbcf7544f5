"""`lewm`: one subcommand per verb, each a thin call into the library.

Whatever the user got wrong is one line on standard error and exit status 2.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..progress import quiet_libraries
from .arguments import RECIPE_VERBS, parser

# One line of progress beats a warning about tokenizers this package does not use.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
    from ..data.collect import collect
    from ..data.collect.run import paper_preset

    preset = paper_preset(args.env) if args.preset == "paper" else {}
    chosen = {"episodes": args.episodes, "seed": args.seed, "expert": args.expert}
    chosen = preset | {name: value for name, value in chosen.items() if value is not None}
    if "episodes" not in chosen:
        raise ValueError("how many episodes? Add --episodes N, or --preset paper for the paper's number")
    episodes = chosen.pop("episodes")
    out = collect(
        args.env, args.out, episodes, **chosen, image_size=args.image_size, noise=args.noise,
        env_kwargs=_assignments(args.env_arg), expert_kwargs=_assignments(args.expert_arg),
        test_fraction=args.test_fraction, max_steps=args.max_steps, every=args.every,
        workers=args.workers, shard=args.shard, progress=True,
    )  # fmt: skip
    print(f"{out}: datasets.load_dataset({str(out)!r}) loads it")


def _import(args) -> None:
    from ..data.importers import import_dataset

    out = import_dataset(
        args.format, args.source, args.out, mapping=args.mapping, env=args.env, image_size=args.image_size,
        test_fraction=args.test_fraction, workers=args.workers, progress=True,
    )  # fmt: skip
    print(f"{out}: datasets.load_dataset({str(out)!r}) loads it")


def _data_stats(args) -> None:
    from ..data.storage.dataset_card import data_stats, fact_rows

    for name, value in fact_rows(data_stats(args.directory)):
        print(f"{name:40} {value}")
    print(f"{args.directory}/README.md agrees with its files")


def _eval(args) -> None:
    from ..evaluation.success.protocol import parse_overrides
    from ..evaluation.success.run import prepare, reserve, run
    from ..evaluation.success.summary import format_summary

    overrides, offsets = parse_overrides(args.set), args.offset or [None]
    if args.offset and "goal_offset" in overrides:
        raise ValueError(f"--offset and --set goal_offset={overrides['goal_offset']} contradict each other: give one")
    tasks = []
    for offset in offsets:
        changes = {} if offset is None else {"goal_offset": offset, "budget": 2 * offset}
        tasks.append(
            prepare(
                args.model, env=args.env, episodes=args.episodes, manifest=args.manifest or None,
                protocol=args.protocol, planner=args.planner, policy=args.policy, overrides=changes | overrides,
                n=args.n, seeds=args.seeds, revision=args.revision, episodes_revision=args.episodes_revision,
            )
        )  # fmt: skip
    folders = [args.out / f"offset-{offset}" if args.out and len(offsets) > 1 else args.out for offset in offsets]
    for out, task in zip(folders, tasks, strict=True):
        if out is not None:  # none is started where one would be refused later
            reserve(task, out, num_envs=args.num_envs, overwrite=args.overwrite)
    for out, task in zip(folders, tasks, strict=True):
        evaluation = run(
            task,
            decoder=args.decoder,
            decoder_revision=args.decoder_revision,
            num_envs=args.num_envs,
            out=out,
            overwrite=args.overwrite,
            videos=args.video,
            progress=True,
        )
        print(format_summary(evaluation.result))
        if out:
            print(f"\nwrote {out}: results.json, episodes.jsonl, manifests/ and {len(evaluation.videos)} videos")


def _compare(args) -> None:
    from ..evaluation.success.comparison import compare, format_comparison

    print(format_comparison(compare(args.first, args.second, args.out)))
    _announce(args.out, args.started)


def _decode(args) -> None:
    from ..evaluation.decode.report import format_decoding
    from ..evaluation.decode.run import decode

    found = decode(
        args.model, args.decoder, args.episodes, strips=args.strips, steps=args.steps, stretches=args.stretches,
        seed=args.seed, split=args.split, out=args.out, revision=args.revision,
        episodes_revision=args.episodes_revision, decoder_revision=args.decoder_revision,
    )  # fmt: skip
    print(format_decoding(found.result))
    _announce(args.out, args.started)


def _report(args) -> None:
    from ..evaluation.report.run import write_report

    print(f"wrote {write_report(args.run, args.out)}")


def _export(args) -> None:
    from ..hub.export.graphs import export

    _announce(export(args.model, args.out, args.format, revision=args.revision), args.started)


def _doctor(args) -> int:
    from .doctor import doctor, exit_status, format_report

    checks = doctor(args.env, args.episodes)
    print(format_report(checks))
    return exit_status(checks)


def _demo(args) -> None:
    if args.env is None:
        from .demo import run_demo

        if args.model is not None:
            raise ValueError("--model shows an agent of a task: name the task, such as `lewm demo push_t --model DIR`")
        page = run_demo(args.out or Path("demo"))
    else:
        from ..tasks.registry import find_env
        from .showcase import show_agent

        out = args.out or Path(f"demo-{args.env}")
        page = show_agent(args.env, find_env(args.env).env_id, out, model=args.model, pairs=args.pairs)
    print(f"\nopen {page} in a browser")


def _probe(args) -> None:
    from ..evaluation.probe.report import format_probe
    from ..evaluation.probe.run import probe

    chosen = {} if args.seeds is None else {"seeds": args.seeds}
    probing = probe(
        args.model, args.episodes, targets=args.target, frames=args.frames, **chosen, split=args.split,
        controls=not args.no_controls, out=args.out, revision=args.revision,
        episodes_revision=args.episodes_revision, progress=True,
    )  # fmt: skip
    print(format_probe(probing.result))
    _announce(args.out, args.started)


def _surprise(args) -> None:
    from ..evaluation.surprise.report import format_surprise
    from ..evaluation.surprise.run import surprise

    found = surprise(
        args.model, env=args.env, episodes=args.episodes, trajectories=args.trajectories, steps=args.steps,
        seed=args.seed, out=args.out, revision=args.revision, episodes_revision=args.episodes_revision, progress=True,
    )  # fmt: skip
    print(format_surprise(found.result))
    _announce(args.out, args.started)


def _health(args) -> None:
    from ..evaluation.health.report import format_health
    from ..evaluation.health.run import health

    found = health(
        args.model, args.episodes, seed=args.seed, split=args.split, out=args.out, revision=args.revision,
        episodes_revision=args.episodes_revision,
    )  # fmt: skip
    print(format_health(found.result))
    _announce(args.out, args.started)


def _announce(out: Path | None, since: float) -> None:
    """Names the files that were written below a folder since a moment (seconds of the epoch)."""
    if out is not None:
        every = [path for path in out.rglob("*") if path.is_file() and path.stat().st_mtime >= since]
        files = sorted(path.relative_to(out).as_posix() for path in every)
        print(f"\nwrote {out}: {', '.join(files[:12])}{' ...' if len(files) > 12 else ''}")


def _convert(args) -> None:
    from ..hub.convert.run import convert

    conversion = convert(
        args.source, out=args.out, dataset=args.dataset, allow_unknown_weights=args.allow_unknown_weights,
        revision=args.revision, frameskip=args.frameskip,
    )  # fmt: skip
    print(conversion.summary())


def _card(args) -> None:
    from ..hub.cards.write import write_card

    card = write_card(
        args.directory, repo_id=args.repo_id, license=args.license, data_license=args.data_license,
        dataset_id=args.dataset_id, dataset_revision=args.dataset_revision, results=args.results,
        world_model=args.world_model, with_code=args.with_code, local=args.local, episodes=args.episodes,
    )  # fmt: skip
    print(f"wrote {card}")


def _push(args) -> None:
    from ..hub.push import push

    pushed = push(
        args.repo_id, model=args.model, dataset=args.dataset, dataset_repo_id=args.dataset_repo_id,
        public=args.public, dry_run=args.dry_run, include=args.include, revision=args.revision, message=args.message,
    )  # fmt: skip
    print(pushed.summary())


def _train_expert(args) -> None:
    from ..tasks.reacher.expert import train_sac

    scores = train_sac(args.out, **({} if args.steps is None else {"steps": args.steps}), seed=args.seed)
    print(f"wrote {args.out}: " + ", ".join(f"{name} {value:.3g}" for name, value in scores.items()))


def _train(args) -> int:
    from ..training.world_model import main

    return main(args.arguments)


def _train_decoder(args) -> int:
    from ..training.decoder import main

    return main(args.arguments)


def _train_actor(args) -> None:
    from ..training.actor import ActorFit, add_actor

    fit = ActorFit(
        steps=args.steps, inputs=args.inputs, hidden_size=args.hidden_size, layers=args.layers,
        max_blocks=args.max_blocks, seed=args.seed,
    )  # fmt: skip
    errors = add_actor(
        args.model, args.episodes, args.out, fit, revision=args.revision, episodes_revision=args.episodes_revision
    )
    for name, value in errors.items():
        print(f"mean squared error {name:18} {value:.3f}   (the mean action: 1)")
    print(f"wrote {args.out}: the checkpoint with its actor; `lewm eval {args.out} --policy actor` lets it act alone")


HANDLERS: dict[str, Callable] = {
    "collect": _collect,
    "import": _import,
    "data-stats": _data_stats,
    "eval": _eval,
    "compare": _compare,
    "probe": _probe,
    "surprise": _surprise,
    "health": _health,
    "decode": _decode,
    "convert": _convert,
    "card": _card,
    "push": _push,
    "train": _train,
    "train-actor": _train_actor,
    "train-decoder": _train_decoder,
    "train-expert": _train_expert,
    "report": _report,
    "export": _export,
    "doctor": _doctor,
    "demo": _demo,
}
# Verbs that leave finished work out when they are run again.
CONTINUE = ("collect", "import", "push", "demo")


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in RECIPE_VERBS:  # their keys are those of the recipe, `--help` too
        args = argparse.Namespace(verb=argv[0], arguments=argv[1:])
    else:
        args = parser().parse_args(argv)
    args.started = time.time() - 1  # file systems round
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    try:
        return HANDLERS[args.verb](args) or 0
    except (ValueError, OSError, ImportError) as error:
        print(f"lewm {args.verb}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lewm {args.verb}: interrupted; {_what_stays(args)}", file=sys.stderr)
        return 130


def _what_stays(args) -> str:
    """What an interrupted command leaves behind."""
    if args.verb == "eval" and args.out is not None:
        return f"seeds that were measured are kept in {args.out}, the same command continues"
    if args.verb in CONTINUE:
        return "what is finished is kept, the same command continues"
    return "nothing was written"


def _one_line(error: Exception) -> str:
    # Strict dataclasses of huggingface_hub put the cause on a second line.
    return " ".join(str(error).split())
