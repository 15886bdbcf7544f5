"""Verbs about this machine: doctor, demo."""

import argparse
from pathlib import Path

from .verb import CONTINUES, Verbs

PAIRS = 12  # of an agent that is shown


def add(verbs: Verbs) -> None:
    """Declares the verbs of this group."""
    verb = verbs.add(
        "doctor", "versions, device, rendering, disk and caches; one line of remedy for each problem", _doctor
    )
    verb.add_env("what --episodes have to be of")
    verb.add("--episodes", help="draw states of this data set again and compare with its frames")

    verb = verbs.add(
        "demo", "TwoRoom from nothing, in minutes; with a task: its shipped agent at work, within a minute", _demo,
        CONTINUES,
    )  # fmt: skip
    verb.add("env", nargs="?", help="show an agent of this task instead of training one")
    verb.add("--model", help="with a task: folder or Hub id; the checkpoint that ships by default")
    verb.add("--pairs", type=int, help=f"with a task: start-goal pairs; {PAIRS} by default")
    verb.add_out("folder of everything; demo, or demo-TASK by default")


def _doctor(args: argparse.Namespace) -> int:
    from lewm_hf.cli.doctor import doctor, exit_status, format_report

    checks = doctor(args.env, args.episodes)
    print(format_report(checks))
    return exit_status(checks)


def _demo(args: argparse.Namespace) -> None:
    if args.env is None:
        from lewm_hf.cli.demo import run_demo

        for name in ("model", "pairs"):
            if (value := getattr(args, name)) is not None:
                raise ValueError(
                    f"--{name} {value} is for an agent of a task that is shown: name the task, such as "
                    f"`lewm demo push_t --{name} {value}`"
                )
        page = run_demo(args.out or Path("demo"))
    else:
        from lewm_hf.cli.showcase import show_agent
        from lewm_hf.tasks.registry import find_task

        out = args.out or Path(f"demo-{args.env}")
        pairs = PAIRS if args.pairs is None else args.pairs
        page = show_agent(args.env, find_task(args.env).env_id, out, model=args.model, pairs=pairs)
    print(f"\nopen {page} in a browser")
