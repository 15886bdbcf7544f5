"""The code beside the weights, so that a checkpoint also works where this package is not installed.

Transformers copies the Python files that a repository names and follows their flat relative imports
(`from .name import ...`) alone. The modeling files are flat already; the planner's package is flattened:
`planning/costs.py` becomes `planning_costs.py`, and imports are rewritten to match.
"""

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING

from ... import __version__
from ...configuration_lewm import PIPELINE_TASK
from ...files import replacing

PACKAGE = Path(__file__).resolve().parents[2]
PROCESSOR_AUTO_MAP = {"AutoImageProcessor": "image_processing_lewm.LeWMImageProcessor"}
PIPELINES = {PIPELINE_TASK: {"impl": "pipeline_lewm.LeWMPlanner", "pt": ["AutoModel"], "type": "multimodal"}}
HEADER = f"# Part of lewm-hf {__version__}, Apache-2.0. Exported for trust_remote_code; the package is the original.\n"

Module = tuple[str, ...]  # path within the package, ("planning", "costs")


def export_code(folder: str | Path) -> list[str]:
    """Adds the code to a saved checkpoint and names it in its configs.

    Afterwards `AutoModel`, `AutoImageProcessor` and `pipeline(model=folder, trust_remote_code=True)` work without this
    package. Where it is installed it keeps serving the auto classes; `pipeline` asks for `trust_remote_code` then too,
    `LeWMPlanner.from_pretrained` does not.

    Args:
        folder: a folder with `config.json` and `preprocessor_config.json`.

    Returns:
        Names of the files written, configs included.

    Raises:
        FileNotFoundError, ValueError: one line where the folder is not a checkpoint of LeWM or of a decoder; nothing is
            written then.
    """
    folder = Path(folder)
    config, processor = (_read_config(folder / name) for name in ("config.json", "preprocessor_config.json"))
    kinds = _classes(folder, config.get("model_type"))
    config["auto_map"] = {auto: f"{_flat(_module(kind))}.{kind.__name__}" for auto, kind in kinds.items()}
    entries = [*map(_module, kinds.values()), ("image_processing_lewm",)]
    if hasattr(kinds["AutoModel"], "rollout"):
        config["custom_pipelines"] = PIPELINES
        entries.append(("pipeline_lewm",))
    processor["auto_map"] = PROCESSOR_AUTO_MAP
    files = {f"{name}.py": HEADER + source for name, source in flat_sources(entries).items()}
    # The configs come last: they name the files.
    files["preprocessor_config.json"] = json.dumps(processor, indent=2) + "\n"
    files["config.json"] = json.dumps(config, indent=2) + "\n"
    for name, text in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(files)


def _classes(folder: Path, model_type: str | None) -> dict[str, type]:
    """The classes of this package behind a model type, by the auto class that finds them."""
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


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no {path.name}: save model and image processor there first")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): save the checkpoint again") from error
