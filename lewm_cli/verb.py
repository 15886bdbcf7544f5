"""What all verbs share: how one is declared, options of the same name, and what is printed at the end."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lewm_hf.evaluation.common.ranks import Ranks

Handler = Callable[[argparse.Namespace], int | None]


class Verb:
    """One subcommand and its arguments, each with a help text; defaults are shown where there are any.

    Args:
        parser: of the subcommand.
    """

    def __init__(self, parser: argparse.ArgumentParser):
        self._parser = parser

    def add(self, *names: str, help: str, default: Any = None, **options: Any) -> None:
        """Adds an argument, as argparse's `add_argument` does."""
        shown = default if isinstance(default, int | float | str | Path) and not isinstance(default, bool) else None
        text = help if shown is None else f"{help} (default: {shown})"
        if options.get("action") != "store_true":
            options["default"] = default
        self._parser.add_argument(*names, help=text, **options)

    def add_model(self) -> None:
        self.add("model", help="checkpoint: folder or Hub id")
        self.add("--revision", help="branch, tag or commit of a Hub checkpoint")

    def add_env(self, help: str) -> None:
        self.add("--env", help=f"{help}: two_room, push_t, reacher, cube, my_module:name, or any gymnasium id")

    def add_episodes(self, help: str = "data set: folder, Hub id or address", **options: Any) -> None:
        self.add("--episodes", help=help, **options)
        self.add("--episodes-revision", help="branch, tag or commit of a Hub data set")

    def add_engine(self, default: str) -> None:
        """Where the work is done; `default` names where it is without being told."""
        what = f"where the work is done: {default}, ray (an extra), or the name of an engine that a package offers"
        self.add("--on", default=default, metavar="ENGINE", help=what)
        self.add("--ray-address", help="of the cluster, auto or local; RAY_ADDRESS by default, else local")

    def add_out(self, help: str, address: bool = False, **options: Any) -> None:
        """Where results go: a folder, or where the verb can write there an `address`, too."""
        self.add("--out", type=place if address else folder, help=help, **options)


class Verbs:
    """The subcommands of a program.

    Args:
        subparsers: what `add_subparsers` returned.
    """

    def __init__(self, subparsers: Any):
        self._subparsers = subparsers

    def add(
        self,
        name: str,
        help: str,
        handler: Handler,
        what_stays: str | Callable[..., str] = "nothing was written",
        divides: str | None = None,
    ) -> Verb:
        """A new subcommand.

        Args:
            handler: what it does; may return an exit status.
            what_stays: what an interrupted one leaves behind, in words or as a function of its arguments.
            divides: what several processes of one launcher share, where they do.
        """
        together = divides and f"Processes of torchrun, accelerate launch or a Ray cluster (--on ray) divide {divides}."
        parser = self._subparsers.add_parser(name, help=help, description=help, epilog=together)
        words = what_stays if callable(what_stays) else lambda args: what_stays
        parser.set_defaults(handler=handler, what_stays=words)
        verb = Verb(parser)
        if divides:
            verb.add_engine(HERE)
            verb.add("--workers", type=int, help="processes on a Ray cluster; its CPUs by default")
        return verb


@contextmanager
def ranks_of(args: argparse.Namespace) -> "Iterator[Ranks]":
    """The processes that divide a verb's work: those of a launcher, or of the engine that `--on` names.

    Raises:
        ValueError: one line where options contradict each other.
    """
    from lewm_hf.evaluation.common.ranks import launched_ranks

    if args.on == HERE:
        for name in ("workers", "ray_address"):
            if (value := getattr(args, name)) is not None:
                raise ValueError(
                    f"--{name.replace('_', '-')} {value} is of a Ray cluster: add --on ray, or leave it away"
                )
        with launched_ranks() as ranks:
            yield ranks
        return
    from lewm_hf.evaluation.common.engine_ranks import ranks_on

    same = argparse.Namespace(**{**vars(args), "on": HERE, "workers": None, "ray_address": None})
    with ranks_on(args.on, partial(args.handler, same), args.workers, args.ray_address) as ranks:
        yield ranks


def folder(text: str) -> Path:
    """A folder of this machine; an address as a path would be a folder of that odd name."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text} is an address: give a folder of this machine, or a mounted bucket")
    return Path(text)


def place(text: str) -> Path | str:
    """A folder of this machine, or an address, `kind://...`."""
    return text if "://" in text else Path(text)


HERE = "here"
CONTINUES = "what is finished is kept, the same command continues"


def assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """`["physics=swept", "compat=true"]` -> keyword arguments; values are read as JSON where they are JSON.

    Raises:
        ValueError: for text without `=`.
    """
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not an assignment: write name=value")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values


def announce(out: Path | None, since: float) -> None:
    """Names the files that were written below a folder since a moment (seconds of the epoch)."""
    if out is not None:
        every = [path for path in out.rglob("*") if path.is_file() and path.stat().st_mtime >= since]
        files = sorted(path.relative_to(out).as_posix() for path in every)
        print(f"\nwrote {out}: {', '.join(files[:12])}{' ...' if len(files) > 12 else ''}")
