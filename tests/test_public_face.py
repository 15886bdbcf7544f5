"""`from lewm_hf import ...`: every name exists, is typed and documented, and the import stays light."""

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lewm_hf
from lewm_hf.data.collect.arguments import CollectArguments

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
             "mujoco", "ogbench", "pandas", "pyarrow", "pymunk", "scipy", "sklearn", "timm", "torchvision"}  # fmt: skip
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


def test_collect_says_each_of_its_arguments_once_and_shows_them():
    """What `help` shows is the dataclass: every field with its default and its line of text, then what comes back."""
    signature, text = inspect.signature(lewm_hf.collect), inspect.getdoc(lewm_hf.collect)
    fields = {field.name: field for field in dataclasses.fields(CollectArguments)}
    assert list(signature.parameters) == list(fields) and signature.return_annotation is Path
    assert [name for name, one in signature.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        "env", "out", "episodes",
    ]  # fmt: skip
    for name, parameter in signature.parameters.items():
        default = fields[name].default
        assert parameter.default == (parameter.empty if default is dataclasses.MISSING else default)
        assert re.search(rf"^    .*\b{name}\b.*: ", text, re.MULTILINE), name
    order = [text.index(word) for word in ("Collects a data set", "Args:", "Returns:", "Raises:")]
    assert order == sorted(order)
    with pytest.raises(TypeError, match="colour"):
        lewm_hf.collect("two_room", "unused", 4, colour="red")
