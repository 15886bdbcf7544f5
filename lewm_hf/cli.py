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

from .progress import quiet_libraries

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


def _import(args) -> None:
    from .data.importers import import_dataset

    out = import_dataset(
        args.format, args.source, args.out, mapping=args.mapping, env=args.env, image_size=args.image_size,
        test_fraction=args.test_fraction, workers=args.workers, progress=True,
    )  # fmt: skip
    print(f"{out}: datasets.load_dataset({str(out)!r}) loads it")


def _data_stats(args) -> None:
    from .data.cards import data_stats, fact_rows

    for name, value in fact_rows(data_stats(args.directory)):
        print(f"{name:40} {value}")
    print(f"{args.directory}/README.md agrees with its files")


def _eval(args) -> None:
    from .evaluation.protocols import parse_overrides
    from .evaluation.runner import prepare, run
    from .evaluation.summary import format_summary

    overrides, offsets = parse_overrides(args.set), args.offset or [None]
    if args.offset and "goal_offset" in overrides:
        raise ValueError(f"--offset and --set goal_offset={overrides['goal_offset']} contradict each other: give one")
    tasks = []
    for offset in offsets:
        changes = {} if offset is None else {"goal_offset": offset, "budget": 2 * offset}
        tasks.append(
            prepare(
                args.model, env=args.env, episodes=args.episodes, manifest=args.manifest or None,
                protocol=args.protocol, overrides=changes | overrides, n=args.n, seeds=args.seeds,
                revision=args.revision,
            )
        )  # fmt: skip
    for offset, task in zip(offsets, tasks, strict=True):
        out = args.out / f"offset-{offset}" if args.out and len(offsets) > 1 else args.out
        evaluation = run(task, decoder=args.decoder, num_envs=args.num_envs, out=out, videos=args.video, progress=True)
        print(format_summary(evaluation.result))
        if out:
            print(f"\nwrote {out}: results.json, episodes.jsonl, manifests/ and {len(evaluation.videos)} videos")


def _compare(args) -> None:
    from .evaluation.comparison import compare, format_comparison

    print(format_comparison(compare(args.first, args.second, args.out)))
    _announce(args.out)


def _decode(args) -> None:
    from .evaluation.decode_report import format_decoding
    from .evaluation.decoding import decode

    found = decode(
        args.model, args.decoder, args.episodes, strips=args.strips, steps=args.steps, stretches=args.stretches,
        seed=args.seed, split=args.split, out=args.out, revision=args.revision,
        decoder_revision=args.decoder_revision,
    )  # fmt: skip
    print(format_decoding(found.result))
    _announce(args.out)


def _report(args) -> None:
    from .evaluation.report import write_report

    print(f"wrote {write_report(args.run, args.out)}")


def _export(args) -> None:
    from .hub.export import export

    _announce(export(args.model, args.out, args.format, revision=args.revision))


def _doctor(args) -> int:
    from .doctor import doctor, exit_status, format_report

    checks = doctor(args.env, args.episodes)
    print(format_report(checks))
    return exit_status(checks)


def _demo(args) -> None:
    from .demo import run_demo

    print(f"\nopen {run_demo(args.out)} in a browser")


def _probe(args) -> None:
    from .evaluation.probe_report import format_probe
    from .evaluation.probing import probe

    chosen = {} if args.seeds is None else {"seeds": args.seeds}
    probing = probe(
        args.model, args.episodes, targets=args.target, frames=args.frames, **chosen, split=args.split,
        controls=not args.no_controls, out=args.out, revision=args.revision, progress=True,
    )  # fmt: skip
    print(format_probe(probing.result))
    _announce(args.out)


def _surprise(args) -> None:
    from .evaluation.surprise import surprise
    from .evaluation.surprise_report import format_surprise

    found = surprise(
        args.model, env=args.env, episodes=args.episodes, trajectories=args.trajectories, steps=args.steps,
        seed=args.seed, out=args.out, revision=args.revision, progress=True,
    )  # fmt: skip
    print(format_surprise(found.result))
    _announce(args.out)


def _health(args) -> None:
    from .evaluation.health import health
    from .evaluation.health_report import format_health

    found = health(args.model, args.episodes, seed=args.seed, split=args.split, out=args.out, revision=args.revision)
    print(format_health(found.result))
    _announce(args.out)


def _announce(out: Path | None) -> None:
    if out is not None:
        files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
        print(f"\nwrote {out}: {', '.join(files[:12])}{' ...' if len(files) > 12 else ''}")


def _convert(args) -> None:
    from .hub.convert import convert

    conversion = convert(
        args.source, out=args.out, dataset=args.dataset, allow_unknown_weights=args.allow_unknown_weights,
        revision=args.revision, frameskip=args.frameskip,
    )  # fmt: skip
    print(conversion.summary())


def _card(args) -> None:
    from .hub.cards import write_card

    card = write_card(
        args.directory, repo_id=args.repo_id, license=args.license, data_license=args.data_license,
        dataset_id=args.dataset_id, dataset_revision=args.dataset_revision, results=args.results,
        world_model=args.world_model, with_code=args.with_code,
    )  # fmt: skip
    print(f"wrote {card}")


def _push(args) -> None:
    from .hub.push import push

    pushed = push(
        args.repo_id, model=args.model, dataset=args.dataset, dataset_repo_id=args.dataset_repo_id,
        public=args.public, dry_run=args.dry_run, include=args.include, revision=args.revision, message=args.message,
    )  # fmt: skip
    print(pushed.summary())


def _train_expert(args) -> None:
    from .experts.reacher import train_sac

    scores = train_sac(args.out, **({} if args.steps is None else {"steps": args.steps}), seed=args.seed)
    print(f"wrote {args.out}: " + ", ".join(f"{name} {value:.3g}" for name, value in scores.items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lewm", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: Callable, help: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(handler=run)
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

    sub = verb("import", _import, "episodes of another format -> a data set of this package, lossless and resumable")
    sub.add_argument("format", choices=["hdf5", "lerobot", "mp4csv"])
    sub.add_argument("source", type=Path, help="HDF5 file, LeRobot directory, or folder of MP4 and CSV files")
    sub.add_argument("out", type=Path, help="directory of the data set")
    sub.add_argument("--mapping", type=Path, help="YAML file: which columns are what, fps, action_dim")
    sub.add_argument("--env", choices=ENVIRONMENTS, help="environment that the states belong to, if any")
    sub.add_argument("--image-size", type=int, help="refuses frames of another size, or resizes with a mapping's `fit`")
    sub.add_argument("--test-fraction", type=float, default=0.1, help="share of episodes that is held out")
    sub.add_argument("--workers", type=int, help="processes; one per core by default")

    sub = verb("data-stats", _data_stats, "measure a data set again and compare with its card")
    sub.add_argument("directory", type=Path)

    sub = verb("eval", _eval, "planning success of a checkpoint under a protocol, beside blind policies")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", help="data set to draw pairs from; default: the pairs that ship with the package")
    sub.add_argument("--manifest", action="append", type=Path, help="fixed pairs instead; one file per seed")
    sub.add_argument("--protocol", default="clean", help="paper, clean or a YAML file")
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a value of the protocol")
    sub.add_argument(
        "--offset", type=int, nargs="+", metavar="STEPS", help="goal offsets instead of 25, each with twice the budget"
    )
    sub.add_argument("-n", type=int, help="pairs per seed")
    sub.add_argument("--seeds", type=int, nargs="+")
    sub.add_argument("--num-envs", type=int, default=50, help="pairs side by side; changes no outcome")
    sub.add_argument("--out", type=Path, help="folder for results.json, episodes.jsonl, manifests and videos")
    sub.add_argument("--video", type=int, default=0, metavar="N", help="film N episodes, failures first")
    sub.add_argument("--decoder", help="folder or Hub id: draws in the films what the model imagined")
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb("compare", _compare, "two evaluations on the same pairs: McNemar's test")
    sub.add_argument("first", type=Path, help="folder that `lewm eval --out` wrote")
    sub.add_argument("second", type=Path)
    sub.add_argument("--out", type=Path, help="folder for compare.json")

    sub = verb("probe", _probe, "what can be read off frozen embeddings: ridge and MLP probes, split by episode")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--episodes", required=True, help="data set: folder or Hub id")
    sub.add_argument("--target", action="append", help="one of the environment's targets; all by default")
    sub.add_argument("--frames", type=int, default=4000)
    sub.add_argument("--seeds", type=int, nargs="+")
    sub.add_argument("--split", default="test")
    sub.add_argument("--no-controls", action="store_true", help="leave out the untrained encoder and pixel PCA")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb("surprise", _surprise, "violation of expectation: does the model notice color changes and teleports?")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--env", choices=ENVIRONMENTS)
    sub.add_argument("--episodes", help="data set the model was trained on: names the environment")
    sub.add_argument("--trajectories", type=int, default=100)
    sub.add_argument("--steps", type=int, help="environment steps of a trajectory; the event is in its middle")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb(
        "health", _health, "straightness, effective rank, normality, what distances mean, whether actions matter"
    )
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--episodes", required=True, help="data set: folder or Hub id")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--split", default="test")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb("decode", _decode, "strips of real, decoded and imagined pictures, and their pixel errors")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("decoder", help="folder or Hub id of a decoder, see training/train_decoder.py")
    sub.add_argument("--episodes", required=True, help="data set: folder or Hub id")
    sub.add_argument("--strips", type=int, default=8, help="stretches to draw")
    sub.add_argument("--steps", type=int, default=35, help="environment steps to imagine")
    sub.add_argument("--stretches", type=int, default=128, help="to measure pixel errors on")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--split", default="test")
    sub.add_argument("--out", type=Path)
    sub.add_argument("--revision", help="of a Hub checkpoint")
    sub.add_argument("--decoder-revision", help="of a Hub decoder")

    sub = verb("convert", _convert, "a published checkpoint -> safetensors, configs and a card that load in one line")
    sub.add_argument("source", help="Hub id such as quentinll/lewm-pusht, folder or weights file")
    sub.add_argument("--out", type=Path, required=True, help="new folder")
    sub.add_argument("--dataset", help="episodes or released HDF5 that the action statistics are measured on")
    sub.add_argument("--allow-unknown-weights", action="store_true", help="files of no known release, too")
    sub.add_argument("--revision", help="of a Hub checkpoint; the pinned one by default")
    sub.add_argument("--frameskip", type=int, default=5, help="environment steps of one action block")

    sub = verb("card", _card, "write the card of a model, decoder or data set from what was measured")
    sub.add_argument("directory", type=Path)
    sub.add_argument("--repo-id", help="of the model")
    sub.add_argument("--license", help="of the weights")
    sub.add_argument("--data-license")
    sub.add_argument("--dataset-id", help="Hub id of the training data")
    sub.add_argument("--dataset-revision")
    sub.add_argument("--results", nargs="+", type=Path, default=[], help="results.json files of `lewm eval`")
    sub.add_argument("--world-model", help="of a decoder: Hub id of the model whose embeddings it draws")
    sub.add_argument("--with-code", action="store_true", help="add the code, so that trust_remote_code=True works")

    sub = verb("push", _push, "upload a model folder, a data set or both; private, and without optimizer state or logs")
    sub.add_argument("repo_id")
    sub.add_argument("--model", type=Path)
    sub.add_argument("--dataset", type=Path)
    sub.add_argument("--dataset-repo-id")
    sub.add_argument("--public", action="store_true")
    sub.add_argument("--dry-run", action="store_true", help="list what would go")
    sub.add_argument("--include", action="append", default=[], metavar="PATTERN", help="upload these files, too")
    sub.add_argument("--revision", help="branch to commit to")
    sub.add_argument("--message", help="of the commits")

    sub = verb("train-expert", _train_expert, "train Reacher's Soft Actor-Critic expert (extra: sac)")
    sub.add_argument("env", choices=["reacher"])
    sub.add_argument("--out", type=Path, required=True, help="*.safetensors")
    sub.add_argument("--steps", type=int)
    sub.add_argument("--seed", type=int, default=0)

    sub = verb("report", _report, "one self-contained HTML page of what was trained and measured")
    sub.add_argument("run", type=Path)
    sub.add_argument("--out", type=Path, help="the page; inside the run by default")

    sub = verb("export", _export, "encoder and one-step predictor for other runtimes, checked against PyTorch")
    sub.add_argument("model", help="folder or Hub id")
    sub.add_argument("--out", type=Path, required=True, help="new folder")
    sub.add_argument("--format", choices=["onnx", "torchscript"], default="onnx")
    sub.add_argument("--revision", help="of a Hub checkpoint")

    sub = verb("doctor", _doctor, "versions, device, rendering, disk and caches; one line of remedy for each problem")
    sub.add_argument("--env", choices=ENVIRONMENTS, help="what --episodes have to be of")
    sub.add_argument("--episodes", help="draw states of this data set again and compare with its frames")

    sub = verb("demo", _demo, "TwoRoom from nothing: episodes, training, evaluation, report; about ten minutes")
    sub.add_argument("--out", type=Path, default=Path("demo"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    quiet_libraries()
    try:
        return args.handler(args) or 0
    except (ValueError, OSError, ImportError) as error:
        print(f"lewm {args.verb}: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lewm {args.verb}: interrupted; what is finished stays usable", file=sys.stderr)
        return 130


def _one_line(error: Exception) -> str:
    # Strict dataclasses of huggingface_hub put the cause on a second line.
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
