"""A log is no terminal: a bar must not fill it."""

import os
import pty
import subprocess
import sys
import termios

from lewm_hf import progress

# The file alone, in a fresh process: the package would bring torch and transformers.
CODE = f"""
import runpy, time
progress_bar = runpy.run_path({progress.__file__!r})["progress_bar"]
for _ in progress_bar(range(40), desc="work", show={{show}}):
    time.sleep(0.02)
with progress_bar(total=40, desc="more", show={{show}}) as bar:
    for _ in range(40):
        bar.update()
        time.sleep(0.02)
"""


def test_a_log_gets_beginning_and_end_alone():
    run = subprocess.run([sys.executable, "-c", CODE.format(show=True)], capture_output=True, text=True)
    for name in ("work", "more"):
        drawn = [line for line in run.stderr.replace("\n", "\r").split("\r") if line.startswith(name)]
        assert len(drawn) == 2 and "40/40" in drawn[-1], run.stderr


def test_a_terminal_gets_a_bar_that_moves():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", CODE.format(show=True)], stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # Linux: the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert said.count(b"work") > 4 and said.count(b"more") > 4


def test_nothing_is_shown_where_nothing_was_asked_for():
    run = subprocess.run([sys.executable, "-c", CODE.format(show=False)], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
