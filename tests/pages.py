"""Runs what a guide shows: the fenced blocks of a Markdown page, in order, in one folder, as its reader would.

- `python`: goes into the page's one Python session. A first line such as `# seek.py` makes a file of it instead,
  which later blocks import or run.
- `bash`: every line is a command, and every command a process of its own.
- `yaml`, `toml`, `sh`: a file, named by its first line.
- `mermaid`: a picture.
- `text`: what the block before it prints; `...` stands for what differs from run to run.

The word `long` behind the language keeps a block and its output for the long tests, where a shell runs its commands.

Importing torch takes longer than most commands: they are forks of a process that has done so.
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from forks import SECONDS, command, context, ended, settle

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w+)(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
BAR = re.compile(r"^.*\d%\|.*$", re.MULTILINE)  # of progress
FILE = re.compile(r"# ([\w/-]+\.\w+)\n")
SHELL = set("|&;<>$*`(")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where it begins on its page."""

    language: str
    text: str
    line: int
    long: bool = False

    @property
    def file(self) -> str | None:
        found = FILE.match(self.text)
        return found and found[1]


def blocks(text: str) -> list[Block]:
    return [
        Block(found[1], found[3], text.count("\n", 0, found.start()) + 1, "long" in found[2].split())
        for found in FENCE.finditer(text)
    ]


def commands(block: Block) -> list[str]:
    """The commands of a `bash` block, without comments, continued lines in one."""
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in block.text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


@dataclass
class Reader:
    """Follows a page in a folder; close it when done.

    Args:
        folder: where the page's commands run and its files are written.
        environment: environment variables beside those of this process.
        shell: and those of what a shell starts.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    shell: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self._output, self._session = self.folder.with_suffix(".output"), None

    def follow(self, page: Path, long: bool = False) -> None:
        """Runs a page.

        Raises:
            AssertionError: naming page, line and block that failed or printed something else.
        """
        printed = ""
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language == "mermaid" or (block.long and not long):
                continue
            where = f"{page.name}, line {block.line}"
            if block.language == "text":
                flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                said = BAR.sub("", printed)
                same = doctest.OutputChecker().check_output(block.text, said, flags)
                assert same, f"{where}: the page says\n{block.text}\nbut what ran printed\n{said}"
            elif block.file:
                path = self.folder / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                printed = self._python(block.text, where)
            elif block.language == "bash":
                printed = "".join(self.run(line, where, block.long) for line in commands(block))
            else:
                raise AssertionError(f"{where}: nobody runs a block of {block.language}")

    def close(self) -> None:
        if self._session is not None:
            process, connection = self._session
            connection.send(None)
            ended(process)

    def _python(self, code: str, where: str) -> str:
        if self._session is None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_session, args=(theirs, *self._place()))
            process.start()
            self._session = process, ours
        process, connection = self._session
        start = self._output.stat().st_size if self._output.exists() else 0
        connection.send((code, where))
        assert connection.poll(SECONDS), f"{where}: not done after {SECONDS} s"
        failed = connection.recv()
        printed = self._printed(start)
        assert not failed, f"{where}:\n{code}\n{printed}"
        return printed

    def run(self, line: str, where: str, shell: bool = False) -> str:
        """Runs one command, in a fork where that does and no `shell` is asked for, and returns what it printed."""
        words = shlex.split(line)
        start = self._output.stat().st_size if self._output.exists() else 0
        if words[0] in ("lewm", "python") and not shell and not SHELL & set(line):
            process = context.Process(target=command, args=(words, *self._place()))
            process.start()
            status = ended(process)
        else:
            _, variables, *_ = self._place()
            with open(self._output, "ab") as output:
                status = subprocess.run(
                    ["bash", "-c", line], cwd=self.folder, env=variables | self.shell, stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT, timeout=SECONDS,
                ).returncode  # fmt: skip
        printed = self._printed(start)
        assert status == 0, f"{where}: status {status}\n$ {line}\n{printed}"
        return printed

    def _place(self) -> tuple[str, dict[str, str], str, str]:
        variables = os.environ | self.environment
        variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return str(self.folder), variables, str(self._output), str(self._output)

    def _printed(self, start: int) -> str:
        return self._output.read_bytes()[start:].decode(errors="replace").replace("\r", "\n")


def _session(connection, folder: str, *place) -> None:
    settle(folder, *place, folder)
    names = {"__name__": "__main__"}
    for code, where in iter(connection.recv, None):
        failed = False
        try:
            exec(compile(code, where, "exec"), names)
        except BaseException:
            traceback.print_exc()
            failed = True
        sys.stdout.flush()
        connection.send(failed)
