"""Verbs about episodes: collect, import, export-lerobot, data-stats."""

import argparse
from pathlib import Path

from .verb import CONTINUES, Verbs, assignments, folder


def add(verbs: Verbs) -> None:
    """Declares the verbs of this group."""
    verb = verbs.add(
        "collect", "collect episodes with an expert; the same command again continues or finds it done", _collect,
        CONTINUES,
    )  # fmt: skip
    of = "two_room, push_t, reacher, cube, my_module:name, or any gymnasium id: Pendulum-v1, my_module:MyTask-v0"
    verb.add("env", help=of)
    verb.add("--episodes", type=int, help="number of episodes, of all splits and shards together")
    verb.add_out("directory of the data set, or an address like s3://bucket/set", address=True, required=True)
    verb.add("--preset", choices=["paper"], help="sizes, seed and policy of the paper's data set")
    verb.add("--seed", type=int, help="of everything that is drawn; 0, or the preset's, unless it is given")
    verb.add("--image-size", type=int, default=224, help="side of the pictures in pixels")
    verb.add("--expert", help="policy by name; the environment's own by default")
    of = "policy of your own, module:Class, or a Stable-Baselines3 checkpoint, agent.zip (extra: sac), which runs code"
    verb.add("--policy", metavar="POLICY", help=of)
    verb.add("--noise", type=float, help="of the expert; its own by default")
    verb.add("--test-fraction", type=float, default=0.1, help="share of episodes that is held out")
    verb.add("--max-steps", type=int, help="longest episode; the environment's limit by default")
    verb.add("--every", type=int, default=1, metavar="N", help="draw and keep every N-th step only")
    text = "what the episodes are for, in words: LeRobot's `task`; names the environment by default"
    verb.add("--task-sentence", metavar="WORDS", help=text)
    verb.add("--workers", type=int, help="processes; one per core by default")
    verb.add_engine("processes")
    verb.add("--shard", type=_shard, default=(0, 1), metavar="I/N", help="this machine's part of the files; 0/1 is all")
    for name, of in (("--env-arg", "environment"), ("--expert-arg", "expert")):
        text = f"constructor argument of the {of}; may be repeated"
        verb.add(name, action="append", default=[], metavar="NAME=VALUE", help=text)

    verb = verbs.add(
        "import", "episodes of another format -> a data set of this package, lossless and resumable", _import, CONTINUES
    )
    verb.add(
        "format",
        choices=["hdf5", "lance", "lerobot", "mp4csv", "robomimic", "table"],
        help="what the source is: hdf5 and lance have columns of all rows, robomimic a group per demonstration "
        "(LIBERO's, too)",
    )
    verb.add(
        "source",
        type=Path,
        help="HDF5 file, or a folder: of demonstrations, LeRobot, Lance, videos and CSV files, a table",
    )
    verb.add("out", type=folder, help="directory of the data set")
    verb.add("--mapping", type=Path, help="YAML file: which columns are what, fps, action_dim")
    verb.add_env("environment that the states belong to, if any")
    verb.add("--image-size", type=int, help="refuses frames of another size, or resizes with a mapping's `fit`")
    verb.add("--test-fraction", type=float, default=0.1, help="share of episodes that is held out")
    verb.add("--workers", type=int, help="processes; one per core by default")

    verb = verbs.add(
        "export-lerobot",
        "a copy that lerobot opens, where it does not open the data set itself: of an earlier version, or with gaps",
        _export_lerobot,
    )  # fmt: skip
    verb.add("directory", type=Path, help="of a data set of this package")
    verb.add_out("new directory of the LeRobot data set", required=True)
    verb.add("--task", help="what the episodes are for, in words; as the data set says by default")

    verb = verbs.add("data-stats", "measure a data set again and compare with its card", _data_stats)
    verb.add("directory", type=Path, help="of the data set")


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard: write i/n, such as 0/4")
    return int(part), int(parts)


def _collect(args: argparse.Namespace) -> None:
    from lewm_hf.data.collect import collect
    from lewm_hf.data.collect.settings import paper_preset

    if args.expert is not None and args.policy is not None:
        raise ValueError(f"--expert {args.expert} and --policy {args.policy} contradict each other: give one")
    preset = paper_preset(args.env) if args.preset == "paper" else {}
    chosen = {"episodes": args.episodes, "seed": args.seed, "expert": args.policy or args.expert}
    chosen = preset | {name: value for name, value in chosen.items() if value is not None}
    if "episodes" not in chosen:
        raise ValueError("how many episodes? Add --episodes N, or --preset paper for the paper's number")
    episodes = chosen.pop("episodes")
    out = collect(
        args.env, args.out, episodes, **chosen, image_size=args.image_size, noise=args.noise,
        env_kwargs=assignments(args.env_arg), expert_kwargs=assignments(args.expert_arg),
        test_fraction=args.test_fraction, max_steps=args.max_steps, every=args.every,
        task_sentence=args.task_sentence, workers=args.workers,
        shard=args.shard, on=args.on, ray_address=args.ray_address, progress=True,
    )  # fmt: skip
    print(_opened_by(out))


def _import(args: argparse.Namespace) -> None:
    from lewm_hf.data.importers import import_dataset

    out = import_dataset(
        args.format, args.source, args.out, mapping=args.mapping, env=args.env, image_size=args.image_size,
        test_fraction=args.test_fraction, workers=args.workers, progress=True,
    )  # fmt: skip
    print(_opened_by(out))


def _opened_by(out: Path | str) -> str:
    from lewm_hf.data.storage.lerobot import is_lerobot
    from lewm_hf.data.storage.remote import RemoteFolder

    if isinstance(out, str):
        return f"{RemoteFolder(out)}: lewm_hf.load_episodes and lewm train --dataset open it by its address"
    text = f"{out}: datasets.load_dataset({str(out)!r}) loads it"
    return text + (f", LeRobotDataset('any/name', root={str(out)!r}) opens it" if is_lerobot(out) else "")


def _export_lerobot(args: argparse.Namespace) -> None:
    from lewm_hf.data.storage.lerobot_copy import write_lerobot

    out = write_lerobot(args.directory, args.out, task=args.task)
    print(f"{out}: LeRobotDataset('local/{out.name}', root={str(out)!r}) opens it")


def _data_stats(args: argparse.Namespace) -> None:
    from lewm_hf.data.storage.dataset_card import data_stats, fact_rows

    for name, value in fact_rows(data_stats(args.directory)):
        print(f"{name:40} {value}")
    print(f"{args.directory}/README.md agrees with its files")
