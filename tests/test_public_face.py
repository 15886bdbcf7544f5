"""`from lewm_hf import ...`: every name exists, is typed and documented, and the import stays light."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import lewm_hf

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
