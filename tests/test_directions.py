"""Imports point one way: no file of the package imports from a floor above its own, and no circle of files exists.
Errors that explain another one keep it as their cause, and nothing catches whatever there is.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

import lewm_hf

PACKAGE = Path(lewm_hf.__file__).parent
# From the ground up; the longest name that fits a module decides.
FLOORS = (
    ("configuration_checks", "configuration_lewm", "configuration_lewm_decoder", "action_blocks", "action_choices",
     "arguments_of", "compiler_cache", "engines", "extras", "files", "flat_code", "folders", "meeting",
     "named_settings", "offered", "pictures", "plain_modules", "plain_numbers", "progress", "proprioception_lewm",
     "recordings", "records", "randomness", "scripts", "spatial_softmax", "threads", "yaml_text"),
    ("sigreg", "measures", "attention_lewm", "encoders", "encoder_convolutions", "encoder_conv", "encoder_resnet",
     "encoder_spatial_softmax", "encoder_timm", "encoder_vit", "heads_lewm", "image_processing_lewm", "predictor_lewm",
     "pretrained_lewm", "fixed_weights_lewm", "rollout_lewm"),
    ("modeling_lewm", "modeling_lewm_decoder"),
    ("tasks", "data", "planning", "world_models", "envs"),
    ("pipeline_lewm", "evaluation", "hub", "training", "metrics", "testing",
     "vector_agent"),
    ("cli",),
)  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Dotted names below the package -> files."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, in functions too; those for type checkers alone excepted."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    for_checkers = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_checkers:
            continue
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names if alias.name.startswith("lewm_hf.")]
            found |= {target.removeprefix("lewm_hf.") for target in targets}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == "lewm_hf":
                base = []
            else:
                continue
            inner = (node.module or "").split(".")
            base = [*base, *(part for part in inner if part and part != "lewm_hf")]
            for alias in node.names:
                whole = ".".join([*base, alias.name])
                found.add(whole if whole in modules() else ".".join(base))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # By name: a constant is an import like any other; what is computed cannot point at one file.
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and argument.value.startswith("."):
                found.add(argument.value.lstrip("."))
    # The package itself offers its version to everybody.
    return {target for target in found if target and target != name}


def floor(name: str) -> int:
    fits = [(len(room), level) for level, rooms in enumerate(FLOORS) for room in rooms
            if name == room or name.startswith(f"{room}.")]  # fmt: skip
    assert fits, f"{name} is in no room: give it one in FLOORS"
    return max(fits)[1]


@cache
def arrows() -> dict[str, set[str]]:
    return {name: imported(name, path) for name, path in modules().items() if name}


def test_every_import_of_the_package_leads_to_a_file():
    assert not {target for targets in arrows().values() for target in targets} - set(modules())


def test_no_file_imports_from_a_floor_above_its_own():
    upward = sorted(f"{name} -> {target}" for name, targets in arrows().items() for target in targets
                    if floor(target) > floor(name))  # fmt: skip
    assert not upward


def test_no_circle_of_files():
    """Kahn's algorithm: files that import nothing that is left are taken away, until only circles are left."""
    left = {name: set(targets) for name, targets in arrows().items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    # What merely leads to a circle is no part of it.
    while outer := [name for name in left if not any(name in targets for targets in left.values())]:
        for name in outer:
            del left[name]
    assert not {name: sorted(targets & left.keys()) for name, targets in left.items()}


@pytest.mark.parametrize("room", ["data", "evaluation", "hub", "planning", "training", "world_models"])
def test_tasks_are_known_to_nobody_by_name(room):
    """Only the register imports a task's folder; everybody else asks it."""
    tasks = {path.parent.name for path in (PACKAGE / "tasks").glob("*/task.py")}
    assert len(tasks) >= 4
    known = [f"{name} -> {target}" for name, targets in arrows().items() if name.split(".")[0] == room
             for target in targets if target.startswith(tuple(f"tasks.{task}" for task in tasks))]  # fmt: skip
    assert not known


def test_errors_keep_their_cause_and_nothing_catches_every_exception():
    wrong = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.cause, ast.Constant):
                wrong.append(f"{name}, line {node.lineno}: raise ... from None")
            caught = ast.unparse(node.type) if isinstance(node, ast.ExceptHandler) and node.type else ""
            if isinstance(node, ast.ExceptHandler) and (node.type is None or caught == "Exception"):
                wrong.append(f"{name}, line {node.lineno}: except {caught}")
    assert not wrong
