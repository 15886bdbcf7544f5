"""Verbs that look into a frozen model: probe, surprise, health, decode."""

import argparse
from collections.abc import Callable
from inspect import signature
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
    verb.add(
        "--target",
        action="append",
        dest="targets",
        help="one of the environment's targets; may be repeated; all by default",
    )
    verb.add("--columns", nargs="+", help="instead: columns of numbers of the data set, as in observation.state[0:2]")
    verb.add("--frames", type=int, default=4000, help="frames to read, spread over the episodes")
    verb.add("--seeds", type=int, nargs="+", help="of splits and probes; 0 to 4 by default")
    verb.add(
        "--no-controls",
        action="store_false",
        dest="controls",
        default=True,
        help="leave out the untrained encoder and pixel PCA",
    )
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


def _measure(args: argparse.Namespace, measure: Callable[..., Any], text: Callable[[Any], str], **further: Any) -> None:
    """Prints what an analysis finds, once however many processes it was started in.

    Args:
        measure: takes the options by their names; what was not given is left to its defaults.
        further: arguments of it that are no options.
    """
    taken = signature(measure).parameters
    given = {name: value for name, value in vars(args).items() if name in taken and value is not None}
    with ranks_of(args) as ranks:
        found = measure(**given, **further, ranks=ranks)
        if ranks.main:
            print(text(found.result))
            announce(args.out, args.started)


def _probe(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.probe.report import format_probe
    from lewm_hf.evaluation.probe.run import probe

    _measure(args, probe, format_probe, progress=True)


def _surprise(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.surprise.report import format_surprise
    from lewm_hf.evaluation.surprise.run import surprise

    _measure(args, surprise, format_surprise, progress=True)


def _health(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.health.report import format_health
    from lewm_hf.evaluation.health.run import health

    _measure(args, health, format_health)


def _decode(args: argparse.Namespace) -> None:
    from lewm_hf.evaluation.decode.report import format_decoding
    from lewm_hf.evaluation.decode.run import decode

    _measure(args, decode, format_decoding)
