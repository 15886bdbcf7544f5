"""Draws the start-goal manifests that ship with the package, from the data sets of the paper's sizes.

    python eval/make_manifests.py                     # all environments, about 40 minutes on two cores
    python eval/make_manifests.py two_room reacher    # some of them, minutes

The episodes are those of `lewm collect ENV --preset paper`, without their pictures: `clean` draws from the test split,
`paper` from the training split, of which PushT and Cube give the first tenth (that of `lewm collect ENV --episodes N
--seed 3072` with the N below). Episodes are exchangeable, and simulating all of those takes hours. A data set that was
collected that way has the fingerprint that stands in the manifests, so both can be used together.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from lewm_hf.data.collect.arguments import CollectArguments
from lewm_hf.data.collect.settings import paper_preset, settle
from lewm_hf.data.collect.states import record_states
from lewm_hf.evaluation.success.manifest import sample_manifest
from lewm_hf.evaluation.success.protocol import load_protocol
from lewm_hf.evaluation.success.shipped import shipped_folder, shipped_name
from lewm_hf.scripts import run_script, script_parser
from lewm_hf.tasks.registry import task_names

# Protocols and the offsets they are shipped with.
OFFSETS = {"clean": (25, 50, 75, 100), "paper": (25,)}
FEWER_EPISODES = {("push_t", "paper"): 2000, ("cube", "paper"): 1000}


def make(env: str, protocol_name: str, folder: Path, workers: int | None) -> list[Path]:
    """Writes one file per offset and seed."""
    preset = paper_preset(env)
    count = FEWER_EPISODES.get((env, protocol_name), preset["episodes"])
    collection = settle(CollectArguments(env, folder, **{**preset, "episodes": count}))
    written = []
    episodes = record_states(collection, load_protocol(protocol_name).split, workers=workers, progress=True)
    for offset in OFFSETS[protocol_name]:
        protocol = load_protocol(protocol_name, {"goal_offset": offset})
        for seed in protocol.seeds:
            try:
                manifest = sample_manifest(episodes, protocol, protocol.pairs, seed)
            except ValueError as error:
                print(f"left out: {env}, offset {offset}: {error}", file=sys.stderr)
                break
            # Any picture size will do: states are all that a manifest fixes.
            manifest = replace(manifest, env_kwargs={})
            written.append(manifest.save(folder / shipped_name(env, protocol, seed)))
    return written


def make_all(args: argparse.Namespace) -> None:
    for protocol in args.protocols:
        for env in args.environments or task_names():
            for path in make(env, protocol, args.out, args.workers):
                print(f"wrote {path}")


def main(argv: list[str] | None = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument("environments", nargs="*", help="default: all")
    parser.add_argument("--protocols", nargs="+", choices=list(OFFSETS), default=list(OFFSETS))
    parser.add_argument("--workers", type=int, help="processes; one per core by default")
    parser.add_argument("--out", type=Path, default=shipped_folder(), help="folder; the package's own by default")
    return run_script(parser, make_all, argv)


if __name__ == "__main__":
    sys.exit(main())
