"""Processes that cost no imports: each is forked from one that has imported everything and computed nothing.

Importing torch and transformers takes longer than most of what a test starts a process for. Only where the import
itself is tested, or what a library reads while it is imported, does a test need an interpreter of its own.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = [
    "lewm_hf", "lewm_cli.main", "lewm_hf.cli.demo", "lewm_hf.data.collect", "lewm_hf.data.importers", "lewm_hf.envs",
    "lewm_hf.evaluation.success.run", "lewm_hf.evaluation.report.run", "lewm_hf.testing",
    "lewm_hf.training.world_model", "transformers.models.auto.modeling_auto",
    # Optimizers import it at their first step.
    "torch._dynamo",
]  # fmt: skip
SECONDS = 240

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOADED)


class Fork:
    """What `subprocess.Popen` is, for a command line that begins with `lewm` or `python`.

    Args:
        words: the command line: `lewm ...`, `python FILE ...` or `python -m MODULE ...`.
        folder: where it runs; default: where this process does.
        environment: its environment variables, all of them; default: those of this process.
    """

    def __init__(self, words: Sequence, folder: Path | str = ".", environment: Mapping[str, str] = os.environ):
        self.words = [str(word) for word in words]
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name, name) for name in ("output", "errors")]
        for file in self._printed:
            file.touch()
        place = str(folder), dict(environment), *map(str, self._printed)
        self.process = context.Process(target=command, args=(self.words, *place))
        self.process.start()

    def said(self) -> list[str]:
        """What it has printed so far, to its output and as errors."""
        return [file.read_text(errors="replace") for file in self._printed]

    def finish(self, timeout: float = SECONDS) -> subprocess.CompletedProcess:
        """Waits for its end; a process that takes longer is killed, and its status says so."""
        return subprocess.CompletedProcess(self.words, ended(self.process, timeout), *self.said())


def run(words: Sequence, timeout: float = SECONDS, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command line to its end, with these environment variables beside those of this process."""
    return Fork(words, environment=os.environ | environment).finish(timeout)


def ended(process, timeout: float = SECONDS) -> int:
    """The exit status of a process of `context`, waited for and then killed."""
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def settle(folder: str, environment: dict[str, str], output: str, errors: str, *paths: str) -> None:
    """Makes a fork of the prepared process what a process started in `folder` would be."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    exported = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in (*paths, *exported) if path]
    for stream, file in ((1, output), (2, errors)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)


def command(words: list[str], folder: str, environment: dict[str, str], output: str, errors: str) -> None:
    """What a fork does."""
    if words[0] == "lewm":
        from lewm_cli import main

        settle(folder, environment, output, errors)
        sys.exit(main(words[1:]))
    module = words[1] == "-m"
    sys.argv = words[2 if module else 1 :]
    settle(folder, environment, output, errors, folder if module else str(Path(folder, words[1]).parent))
    if module:
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[1], run_name="__main__")
