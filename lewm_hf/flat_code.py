"""The code of this package's models as files that transformers follows, for checkpoints that bring their code along.

Transformers copies the Python files that a repository names and follows their flat relative imports
(`from .name import ...`) alone. The modeling files are flat already; the planner's package is flattened:
`planning/costs.py` becomes `planning_costs.py`, and imports are rewritten to match.
"""

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from transformers import CONFIG_MAPPING, MODEL_MAPPING

from . import __version__
from .files import write_atomic

PACKAGE = Path(__file__).resolve().parent
HEADER = f"# Part of lewm-hf {__version__}, Apache-2.0. Exported for trust_remote_code; the package is the original.\n"

Module = tuple[str, ...]  # path within the package, ("planning", "costs")


def write_code(folder: str | Path, model_type: str | None) -> list[str]:
    """Writes the code of a model of this package into a folder, and that of its image processor and planner.

    Args:
        folder: of a checkpoint, made where it does not exist.
        model_type: what its config says.

    Returns:
        Names of the files.

    Raises:
        ValueError: one line for a model from elsewhere; nothing is written then.
    """
    folder = Path(folder)
    kinds = auto_classes(folder, model_type)
    entries = [*map(_module, kinds.values()), ("image_processing_lewm",)]
    planned = plans(kinds["AutoModel"])
    if planned:
        entries.append(("pipeline_lewm",))
    files = {f"{name}.py": HEADER + source for name, source in flat_sources(entries).items()}
    if planned:
        # Never runs; who copies the model's code copies the planner with it, which the model's config names.
        model = f"{_flat(_module(kinds['AutoModel']))}.py"
        files[model] += "\n\nif False:\n    from .pipeline_lewm import LeWMPlanner\n"
    for name, text in files.items():
        write_atomic(folder / name, text)
    return list(files)


def plans(model: type) -> bool:
    """Whether a planner can search with models of this class."""
    return hasattr(model, "rollout")


def flat_name(kind: type) -> str:
    """What a config calls a class of this package, `"modeling_lewm.LeWMModel"`."""
    return f"{_flat(_module(kind))}.{kind.__name__}"


def auto_classes(folder: Path, model_type: str | None) -> dict[str, type]:
    """The classes of this package behind a model type, by the auto class that finds them.

    Raises:
        ValueError: one line for a model from elsewhere; `folder` is that of its checkpoint.
    """
    package = __name__.split(".")[0]
    if model_type in CONFIG_MAPPING:
        config = CONFIG_MAPPING[model_type]
        if config in MODEL_MAPPING and config.__module__.split(".")[0] == package:
            return {"AutoConfig": config, "AutoModel": MODEL_MAPPING[config]}
    raise ValueError(
        f"{folder}/config.json has model_type={model_type!r}: only checkpoints of models of {package} take its code"
    )


def _module(kind: type) -> Module:
    """Where a class of this package is defined, as a path within it."""
    return tuple(kind.__module__.split(".")[1:])


def flat_sources(entries: Sequence[Module]) -> dict[str, str]:
    """Modules of this package and all that they import of it, flattened: flat name -> source."""
    sources: dict[str, str] = {}
    waiting: list[Module] = list(entries)
    while waiting:
        module = waiting.pop()
        if _flat(module) not in sources:
            sources[_flat(module)], needed = _flatten(module)
            waiting += needed
    return sources


def _flat(module: Module) -> str:
    return "_".join(module)


def _file(module: Module) -> Path:
    path = PACKAGE.joinpath(*module)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _flatten(module: Module) -> tuple[str, list[Module]]:
    """The source with flat imports, and the modules it needs."""
    path = _file(module)
    source = path.read_text(encoding="utf-8")
    package = module if path.name == "__init__.py" else module[:-1]
    lines, needed = source.splitlines(keepends=True), []
    by_name = False
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = (*base, *node.module.split(".")) if node.module else base
            if not node.module and any(_file((*base, alias.name)).exists() for alias in node.names):
                raise ValueError(f"{path}, line {node.lineno}: cannot flatten the import of a module as a name")
            needed.append(target)
            row = node.lineno - 1
            lines[row] = re.sub(r"from\s+\.[\w.]*\s+import", f"from .{_flat(target)} import", lines[row], count=1)
        elif isinstance(node, ast.Call) and ast.unparse(node).startswith("import_module(f'.{"):
            # A package that looks its own modules up by name. They become neighbors with a common prefix.
            row, by_name = node.lineno - 1, True
            lines[row] = lines[row].replace('f".{', f'f".{_flat(package)}_{{').replace("__name__", "__package__")
    text = "".join(lines)
    if by_name:
        members = sorted(entry.stem for entry in path.parent.glob("*.py") if entry.stem != "__init__")
        needed += [(*package, member) for member in members]
        # Never runs; the loader of remote code reads it to learn which files to copy.
        text += "\n\nif False:\n" + "".join(
            f"    from .{_flat((*package, member))} import {member}\n" for member in members
        )
    return text, needed
