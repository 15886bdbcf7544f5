"""A checkpoint that brings its code along, so that it also works where this package is not installed."""

import json
from pathlib import Path
from typing import Any

from ...configuration_lewm import PIPELINE_TASK
from ...files import write_atomic
from ...flat_code import auto_classes, flat_name, plans, write_code

PROCESSOR_AUTO_MAP = {"AutoImageProcessor": "image_processing_lewm.LeWMImageProcessor"}
PIPELINES = {PIPELINE_TASK: {"impl": "pipeline_lewm.LeWMPlanner", "pt": ["AutoModel"], "type": "multimodal"}}


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
    kinds = auto_classes(folder, config.get("model_type"))
    config["auto_map"] = {auto: flat_name(kind) for auto, kind in kinds.items()}
    if plans(kinds["AutoModel"]):
        config["custom_pipelines"] = PIPELINES
    processor["auto_map"] = PROCESSOR_AUTO_MAP
    written = write_code(folder, config["model_type"])
    # The configs come last: they name the files.
    for name, content in (("preprocessor_config.json", processor), ("config.json", config)):
        write_atomic(folder / name, json.dumps(content, indent=2) + "\n")
        written.append(name)
    return written


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent} has no {path.name}: save model and image processor there first")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): save the checkpoint again") from error
