"""Verbs that look into a frozen model: probe, surprise, health, decode."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from .verb import Verb, Verbs, announce, ranks_of


def add(verbs: Verbs) -> None:
    """Declares the verbs of this group."""
    verb = verbs.add(
        "probe", "what can be read off frozen embeddings: ridge and MLP probes, split by episode", _probe,
        divides="the frames and the fits",
    )  # fmt: skip
    verb.add_model()
    verb.add_episodes(required=True)
    verb.add("--target", action="append", help="one of the environment's targets; may be repeated; all by default")
    verb.add("--columns", nargs="+", help="instead: columns of numbers of the data set, as in observation.state[0:2]")
    verb.add("--frames", type=int, default=4000, help="frames to read, spread over the episodes")
    verb.add("--seeds", type=int, nargs="+", help="of splits and probes; three by default")
    verb.add("--no-controls", action="store_true", help="leave out the untrained encoder and pixel PCA")
    _add_common(verb, seed=False)

    verb = verbs.add(
        "surprise", "violation of expectation: does the model notice color changes and teleports?", _surprise,
        divides="the trajectories",
    )  # fmt: skip
    verb.add_model()
    verb.add_env("environment; that of the checkpoint by default")
    verb.add_episodes("data set the model was trained on: names the environment")
    verb.add("--trajectories", type=int, default=100, help="for each event and without one")
    verb.add("--steps", type=int, help="environment steps of a trajectory; the event is in its middle")
    _add_common(verb, split=False)

    verb = verbs.add(
        "health", "straightness, effective rank, normality, what distances and actions mean, what bfloat16 costs",
        _health, divides="the frames",
    )  # fmt: skip
    verb.add_model()
    verb.add_episodes(required=True)
    _add_common(verb)

    verb = verbs.add(
        "decode", "strips of real, decoded and imagined pictures, and their pixel errors", _decode,
        divides="the stretches",
    )  # fmt: skip
    verb.add_model()
    verb.add("decoder", help="folder or Hub id of a decoder, see training/train_decoder.py")
    verb.add("--decoder-revision", help="branch, tag or commit of a Hub decoder")
    verb.add_episodes(required=True)
    verb.add("--strips", type=int, default=8, help="stretches to draw")
    verb.add("--steps", type=int, default=35, help="environment steps to imagine")
    verb.add("--stretches", type=int, default=128, help="stretches to measure pixel errors on")
    _add_common(verb)


def _add_common(verb: Verb, *, seed: bool = True, split: bool = True) -> None:
    if seed:
        verb.add("--seed", type=int, default=0, help="of all draws")
    if split:
        verb.add("--split", default="test", help="of the data set: train or test")
    verb.add_out("folder for numbers and pictures; nothing is written by default")
    verb.add("--overwrite", action="store_true", help="replace what --out holds of another model, data set or setting")


def _measure(args: argparse.Namespace, measure: Callable[..., Any], text: Callable[[Any], str]) -> None:
    """Prints what an analysis finds, once however many processes it was started in."""
    with ranks_of(args) as ranks:
        found = measure(
            out=args.out, overwrite=args.overwrite, revision=args.revision, episodes_revision=args.episodes_revision,
            ranks=ranks,
        )  # fmt: skip
        if ranks.main:
            print(text(found.result))
            announce(args.out, args.started)


def _probe(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.probe.report import format_probe
    from lewm_hf.evaluation.probe.run import probe

    chosen = {} if args.seeds is None else {"seeds": args.seeds}
    asked = partial(
        probe, args.model, args.episodes, targets=args.target, columns=args.columns, frames=args.frames, **chosen,
        split=args.split, controls=not args.no_controls, progress=True,
    )  # fmt: skip
    _measure(args, asked, format_probe)


def _surprise(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.surprise.report import format_surprise
    from lewm_hf.evaluation.surprise.run import surprise

    asked = partial(
        surprise, args.model, env=args.env, episodes=args.episodes, trajectories=args.trajectories, steps=args.steps,
        seed=args.seed, progress=True,
    )  # fmt: skip
    _measure(args, asked, format_surprise)


def _health(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.health.report import format_health
    from lewm_hf.evaluation.health.run import health

    _measure(args, partial(health, args.model, args.episodes, seed=args.seed, split=args.split), format_health)


def _decode(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.decode.report import format_decoding
    from lewm_hf.evaluation.decode.run import decode

    asked = partial(
        decode, args.model, args.decoder, args.episodes, strips=args.strips, steps=args.steps,
        stretches=args.stretches, seed=args.seed, split=args.split, decoder_revision=args.decoder_revision,
    )  # fmt: skip
    _measure(args, asked, format_decoding)
