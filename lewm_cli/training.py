"""Verbs that train: train, train-decoder, train-expert, train-actor."""

import argparse
from pathlib import Path

from .verb import Verbs


def add(verbs: Verbs) -> None:
    """Declares the verbs of this group."""
    for name, (text, handler) in RECIPE_VERBS.items():
        verb = verbs.add(name, text, handler)
        of = "recipe by file or by name, then any of its keys"
        verb.add("arguments", nargs="*", metavar="RECIPE [--key value ...]", help=of)

    verb = verbs.add("train-expert", "train Reacher's Soft Actor-Critic expert (extra: sac)", _train_expert)
    verb.add("env", choices=["reacher"], help="whose expert")
    verb.add("--out", type=Path, required=True, help="file of the weights, *.safetensors")
    verb.add("--steps", type=int, help="environment steps; the released expert's number by default")
    verb.add("--seed", type=int, default=0, help="of the training")

    verb = verbs.add(
        "train-actor", "a goal-conditioned actor for a finished model, which stays as it is: imitation, in minutes",
        _train_actor,
    )  # fmt: skip
    verb.add_model()
    verb.add_episodes("data set with the splits train and test: folder, Hub id or address", required=True)
    verb.add("--more-episodes", nargs="+", default=[], metavar="DIR_OR_ID", help="whose training episodes join")
    verb.add_out("new folder: the same checkpoint with its actor", required=True)
    verb.add("--inputs", choices=["embeddings", "features"], default="features", help="what the actor sees")
    verb.add("--steps", type=int, default=3000, help="optimizer steps")
    verb.add("--hidden-size", type=int, default=256, help="width of its layers")
    verb.add("--layers", type=int, default=3, help="hidden layers")
    verb.add("--max-blocks", type=int, default=5, help="the farthest goal, in action blocks")
    verb.add("--near-share", type=float, default=0.0, help="share of goals that are at most half as far, drawn beside")
    verb.add("--precision", choices=["fp32", "bf16", "auto"], default="fp32", help="of a step's matrix products")
    verb.add("--seed", type=int, default=0, help="of the training")


def _train(args: argparse.Namespace) -> int:
    from lewm_hf.training.world_model import main

    return main(args.arguments)


def _train_decoder(args: argparse.Namespace) -> int:
    from lewm_hf.training.decoder import main

    return main(args.arguments)


def _train_expert(args: argparse.Namespace) -> None:
    from lewm_hf.tasks.reacher.expert import train_sac

    scores = train_sac(args.out, **({} if args.steps is None else {"steps": args.steps}), seed=args.seed)
    print(f"wrote {args.out}: " + ", ".join(f"{name} {value:.3g}" for name, value in scores.items()))


def _train_actor(args: argparse.Namespace) -> None:
    from lewm_hf.training.actor import ActorFit, add_actor

    fit = ActorFit(
        steps=args.steps, inputs=args.inputs, hidden_size=args.hidden_size, layers=args.layers,
        max_blocks=args.max_blocks, near_share=args.near_share, precision=args.precision, seed=args.seed,
    )  # fmt: skip
    errors = add_actor(
        args.model, args.episodes, args.out, fit, more=args.more_episodes, revision=args.revision,
        episodes_revision=args.episodes_revision,
    )  # fmt: skip
    for name, value in errors.items():
        print(f"mean squared error {name:18} {value:.3f}   (the mean action: 1)")
    print(f"wrote {args.out}: the checkpoint with its actor; `lewm eval {args.out} --policy actor` lets it act alone")


# Verbs whose arguments are read as a recipe's: help text, handler.
RECIPE_VERBS = {
    "train": (
        "train a world model: a recipe by file or by name, then any of its keys (`lewm train --help` lists them)",
        _train,
    ),
    "train-decoder": (
        "train a decoder, which makes embeddings visible: a recipe, then any of its keys", _train_decoder,
    ),
}  # fmt: skip
