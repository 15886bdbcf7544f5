"""Verbs about the Hub and other runtimes: convert, card, push, export."""

import argparse
from pathlib import Path

from .verb import CONTINUES, Verbs, announce


def add(verbs: Verbs) -> None:
    """Declares the verbs of this group."""
    verb = verbs.add(
        "convert", "a published checkpoint -> safetensors, configs and a card that load in one line", _convert
    )
    verb.add("source", help="Hub id such as quentinll/lewm-pusht, folder or weights file")
    verb.add_out("new folder", required=True)
    text = "episodes (folder or Hub id), released HDF5 or Lance that the action statistics are measured on"
    verb.add("--dataset", help=text)
    verb.add("--dataset-revision", help="branch, tag or commit of a Hub data set")
    verb.add("--allow-unknown-weights", action="store_true", help="files of no known release, too")
    verb.add("--revision", help="of a Hub checkpoint; the pinned one by default")
    verb.add("--frameskip", type=int, default=5, help="environment steps of one action block")

    verb = verbs.add("card", "write the card of a model, decoder or data set from what was measured", _card)
    verb.add("directory", type=Path, help="folder of a checkpoint, a decoder or a data set")
    verb.add("--repo-id", help="where it will live on the Hub, org/name")
    verb.add("--license", help="of the weights, or of a data set: a Hub identifier such as apache-2.0")
    verb.add("--data-license", help="of the training episodes, likewise")
    verb.add("--dataset-id", help="Hub id of the training episodes; the recipe's by default")
    verb.add("--dataset-revision", help="commit of the training episodes; the recipe's by default")
    verb.add("--results", nargs="+", type=Path, default=[], help="results.json files, or folders above them")
    verb.add("--world-model", help="of a decoder: Hub id of the model whose embeddings it draws")
    verb.add("--with-code", action="store_true", help="add the code, so that trust_remote_code=True works")
    verb.add("--local", action="store_true", help="checkpoint and data are not on the Hub: folders, not ids")
    verb.add("--episodes", type=Path, help="with --local: training episodes; the recipe's folder by default")

    verb = verbs.add(
        "push", "upload a model folder, a data set or both; private, and without optimizer state or logs", _push,
        CONTINUES,
    )  # fmt: skip
    verb.add("repo_id", help="repository of the model, or of a data set that goes alone: org/name")
    verb.add("--model", type=Path, help="folder of a checkpoint with its card")
    verb.add("--dataset", type=Path, help="directory of episodes with its card")
    verb.add("--dataset-repo-id", help="of a data set that goes with a model; the model's with -episodes by default")
    verb.add(
        "--lerobot", action="store_true", help="of a data set that lerobot does not open: upload a copy that it does"
    )
    verb.add("--public", action="store_true", help="make new repositories public, and write to public ones")
    verb.add("--dry-run", action="store_true", help="list what would go")
    text = "upload these files, too; may be repeated"
    verb.add("--include", action="append", default=[], metavar="PATTERN", help=text)
    verb.add("--revision", help="branch to commit to; the main one by default")
    verb.add("--message", help="of the commits")

    verb = verbs.add("export", "encoder and one-step predictor for other runtimes, checked against PyTorch", _export)
    verb.add_model()
    verb.add_out("new folder", required=True)
    verb.add("--format", choices=["onnx", "torchscript"], default="onnx", help="of the graphs")


def _convert(args: argparse.Namespace) -> None:
    from lewm_hf.hub.convert.run import convert

    conversion = convert(
        args.source, out=args.out, dataset=args.dataset, dataset_revision=args.dataset_revision,
        allow_unknown_weights=args.allow_unknown_weights, revision=args.revision, frameskip=args.frameskip,
    )  # fmt: skip
    print(conversion.summary())


def _card(args: argparse.Namespace) -> None:
    from lewm_hf.hub.cards.write import write_card

    card = write_card(
        args.directory, repo_id=args.repo_id, license=args.license, data_license=args.data_license,
        dataset_id=args.dataset_id, dataset_revision=args.dataset_revision, results=args.results,
        world_model=args.world_model, with_code=args.with_code, local=args.local, episodes=args.episodes,
    )  # fmt: skip
    print(f"wrote {card}")


def _push(args: argparse.Namespace) -> None:
    from lewm_hf.hub.push import push

    pushed = push(
        args.repo_id, model=args.model, dataset=args.dataset, dataset_repo_id=args.dataset_repo_id,
        lerobot=args.lerobot,
        public=args.public, dry_run=args.dry_run, include=args.include, revision=args.revision, message=args.message,
    )  # fmt: skip
    print(pushed.summary())


def _export(args: argparse.Namespace) -> None:
    from lewm_hf.hub.export.graphs import export

    announce(export(args.model, args.out, args.format, revision=args.revision), args.started)
