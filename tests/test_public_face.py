"""`from lewm_hf import ...`: every name exists, is typed and documented, and the import stays light."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import lewm_hf
from lewm_hf.data.collect.arguments import CollectArguments
from lewm_hf.evaluation.decode.arguments import DecodeArguments
from lewm_hf.evaluation.decode.run import Decoding
from lewm_hf.evaluation.health.arguments import HealthArguments
from lewm_hf.evaluation.health.run import Health
from lewm_hf.evaluation.probe.arguments import ProbeArguments
from lewm_hf.evaluation.probe.run import Probing
from lewm_hf.evaluation.success.arguments import EvaluateArguments
from lewm_hf.evaluation.success.run import Evaluation
from lewm_hf.evaluation.surprise.arguments import SurpriseArguments
from lewm_hf.evaluation.surprise.run import Surprise

FACE = ast.parse(Path(lewm_hf.__file__).read_text(encoding="utf-8"))
# What transformers itself brings depends on what is installed; so it comes first, and only what is new counts.
CODE = """
import json, sys, time
clock = time.perf_counter()
import torch, transformers
from transformers import AutoImageProcessor, AutoModel, Pipeline, PreTrainedModel, ResNetModel
from transformers.image_utils import load_image
from transformers.pipelines import PIPELINE_REGISTRY
theirs, before = time.perf_counter() - clock, set(sys.modules)
clock = time.perf_counter()
import lewm_hf
ours = time.perf_counter() - clock
new = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps({"new": sorted(new), "theirs": theirs, "ours": ours}))
"""


def test_the_import_brings_torch_and_transformers_and_nothing_heavier():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    heavy = {"accelerate", "cv2", "datasets", "dm_control", "evaluate", "gymnasium", "imageio", "jinja2", "matplotlib",
             "mujoco", "ogbench", "pandas", "pyarrow", "pymunk", "ray", "scipy", "sklearn", "timm",
             "torchvision"}  # fmt: skip
    assert not heavy & set(found["new"]), found["new"]
    assert found["ours"] < found["theirs"], found


def test_every_name_exists_and_type_checkers_see_the_same_names():
    assert lewm_hf.__all__ == sorted(lewm_hf.__all__) and set(lewm_hf.__all__) <= set(dir(lewm_hf))
    checked = {}
    for node in FACE.body:
        if isinstance(node, ast.If):
            for line in node.body:
                checked |= {alias.name: line.module for alias in line.names}
    assert checked == lewm_hf._HOMES
    for name in lewm_hf.__all__:
        value = getattr(lewm_hf, name)
        assert value.__name__ == name and value.__module__.startswith("lewm_hf")


def test_every_public_name_is_documented_and_typed():
    for name in lewm_hf.__all__:
        value = getattr(lewm_hf, name)
        assert inspect.getdoc(value), name
        signature = inspect.signature(value.__init__ if inspect.isclass(value) else value)
        for parameter in signature.parameters.values():
            if inspect.isclass(value) and not inspect.isfunction(value.__init__):
                continue
            typed = parameter.annotation is not inspect.Parameter.empty or parameter.name in ("self", "args", "kwargs")
            assert typed, f"{name}({parameter.name})"
        if not inspect.isclass(value):
            assert signature.return_annotation is not inspect.Signature.empty, name


def test_modules_that_moved_are_found_under_the_names_that_scripts_know():
    import lewm_hf.data.encoding as encoding
    from lewm_hf.data.importers import convert, run
    from lewm_hf.data.storage import encoding as home

    assert encoding is home and convert.import_dataset is run.import_dataset


def functions_of(value):
    """What a public name lets one call: itself, or of a class the public methods and properties that it defines."""
    if not inspect.isclass(value):
        return {value.__name__: (value, value)}
    found = {}
    for name, member in vars(value).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function) and not name.startswith("_"):
            found[f"{value.__name__}.{name}"] = (getattr(value, name), function)
    return found


def refuses(function) -> bool:
    """Whether its own lines raise something."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def own_arguments(kind) -> list[str]:
    """What a class's constructor takes that its bases do not say already."""
    if dataclasses.is_dataclass(kind):
        own = vars(kind).get("__annotations__", {})  # class variables among them, which are no fields
        names = [field.name for field in dataclasses.fields(kind) if field.name in own]
    else:
        names = [*inspect.signature(vars(kind)["__init__"]).parameters] if "__init__" in vars(kind) else []
    return [name for name in names if name not in ("self", "args", "kwargs") and not name.startswith("_")]


def test_every_method_says_what_it_does_and_what_it_refuses_and_every_class_names_its_arguments():
    silent = []
    for name in lewm_hf.__all__:
        value = getattr(lewm_hf, name)
        for said, (member, function) in functions_of(value).items():
            text = inspect.getdoc(member) or ""
            if not re.match(r"[A-Z`(]", text) or not re.search(r"[.:)]$", text.split("\n\n")[0].rstrip()):
                silent.append(f"{said} says {text[:40]!r}")
            if function.__module__.startswith("lewm_hf") and refuses(function) and "Raises:" not in text:
                silent.append(f"{said} raises what it does not say")
        if inspect.isclass(value):
            text = inspect.getdoc(value)
            made = vars(value).get("__post_init__" if dataclasses.is_dataclass(value) else "__init__")
            if made is not None and refuses(made) and "Raises:" not in text:
                silent.append(f"{name} raises what it does not say")
            silent += [
                f"{name} does not say {one}" for one in own_arguments(value) if not re.search(rf"\b{one}\b", text)
            ]
    assert not silent, silent


@pytest.mark.parametrize(
    ("function", "arguments", "positional", "returned"),
    [
        (lewm_hf.collect, CollectArguments, ["env", "out", "episodes"], Path | str),
        (lewm_hf.evaluate, EvaluateArguments, ["model"], Evaluation),
        (lewm_hf.probe, ProbeArguments, ["model", "episodes"], Probing),
        (lewm_hf.surprise, SurpriseArguments, ["model"], Surprise),
        (lewm_hf.health, HealthArguments, ["model", "episodes"], Health),
        (lewm_hf.decode, DecodeArguments, ["model", "decoder", "episodes"], Decoding),
    ],
)
def test_arguments_are_said_once_and_shown(function, arguments, positional, returned):
    """What `help` shows is the dataclass: every field with its default and its line of text, then what comes back."""
    signature, text = inspect.signature(function), inspect.getdoc(function)
    # Those that are given by name come last, those of a base before those of the class.
    ordered = sorted(dataclasses.fields(arguments), key=lambda field: field.kw_only)
    fields = {field.name: field for field in ordered}
    assert list(signature.parameters) == list(fields) and signature.return_annotation == returned
    assert [name for name, one in signature.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD] == positional
    assert list(function.__annotations__) == [*fields, "return"]
    for name, parameter in signature.parameters.items():
        default = fields[name].default
        assert parameter.default == (parameter.empty if default is dataclasses.MISSING else default)
        assert re.search(rf"^    .*\b{name}\b.*: ", text, re.MULTILINE), name
    order = [text.index(word) for word in ("Args:", "Returns:", "Raises:")]
    assert order == sorted(order) and order[0] > 0
    with pytest.raises(TypeError, match="colour"):
        function(*positional, colour="red")
