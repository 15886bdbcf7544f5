"""What every command does before its verb begins: help, refusals, Ctrl-C, quiet libraries."""

import argparse
import inspect
import logging
import os
import subprocess
import sys

import pytest

import lewm_hf
from lewm_cli import main, parser


def verbs() -> dict[str, argparse.ArgumentParser]:
    return next(action for action in parser()._actions if action.dest == "verb").choices


@pytest.mark.parametrize("name", verbs())
def test_every_option_has_a_help_text_and_no_default_is_shown_that_is_none(name):
    for action in verbs()[name]._actions:
        assert action.help and len(action.help) > 4, action.dest
    text = verbs()[name].format_help()
    assert "None" not in text and "default: []" not in text and "default: False" not in text
    if name == "eval":
        assert "(default: clean)" in text and "(default: 50)" in text


@pytest.mark.parametrize("verb", ["probe", "surprise", "health", "decode"])
def test_an_analysis_has_the_same_defaults_on_the_command_line_as_in_python(verb):
    """`--no-controls` and `--target` are called `controls` and `targets`, as the function's arguments are."""
    words = ["model", *(["decoder"] if verb == "decode" else []), *([] if verb == "surprise" else ["--episodes", "x"])]
    options = vars(parser().parse_args([verb, *words]))
    arguments = inspect.signature(getattr(lewm_hf, verb)).parameters
    of_the_program = {"verb", "handler", "what_stays", "on", "workers", "ray_address"}
    assert set(options) - of_the_program <= set(arguments)
    shown = {name: value for name, value in options.items() if name in arguments and value is not None}
    assert {"seed", "split", "overwrite"} & set(shown)
    for name in set(shown) - {"model", "decoder", "episodes"}:
        assert arguments[name].default == shown[name], name


def lewm(*words, path=None, timeout=120):
    """A process of its own, which reports the heavy modules it has loaded."""
    code = (
        "import sys\nfrom lewm_cli import main\ntry:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy') if name in sys.modules])\n"
        "sys.exit(status)"
    )
    variables = os.environ | ({"PYTHONPATH": f"{path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"} if path else {})
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=variables)


@pytest.mark.parametrize("words", [("--help",), ("eval", "--help"), ("evil",), ("eval", "--no-such-option")])
def test_help_and_misspelled_commands_load_no_library(words):
    done = lewm(*words)
    assert done.stdout.endswith("[]\n"), done.stderr
    assert done.returncode == (0 if "--help" in words else 2)


def test_ctrl_c_while_the_libraries_are_loading_is_one_line(tmp_path):
    """A signal, sent at the moment when torch begins to load."""
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    done = lewm("data-stats", "nowhere", path=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "lewm data-stats: interrupted; nothing was written\n"


def test_libraries_speak_only_to_warn(tmp_path, capsys):
    levels = {name: logging.getLogger(name).level for name in ("lewm_hf", "onnxscript")}
    try:
        assert main(["data-stats", str(tmp_path / "nowhere")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert logging.getLogger("lewm_hf.data").isEnabledFor(logging.INFO)
        assert not logging.getLogger("onnxscript.optimizer").isEnabledFor(logging.INFO)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
