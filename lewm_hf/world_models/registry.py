"""Finding world models by the `model_type` of their configuration: this package's, and those of others.

A class of your own becomes known by `AutoConfig.register` and `AutoModel.register`. So that commands know it without
being told, let your package's entry point group `lewm_hf.world_models` name the module that registers it:

    [project.entry-points."lewm_hf.world_models"]
    my_model_type = "my_package.my_model"
"""

from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

from ..offered import load_offered, offered_names

ENTRY_POINTS = "lewm_hf.world_models"
BUILT_IN = ("lewm", "pldm", "dino_wm", "goal_imitation", "lewm_with_decoder")


def import_offered(model_type: str | None) -> None:
    """Imports what an installed package offers under this name, unless the name is known already.

    Raises:
        ImportError: one line where it cannot be imported.
    """
    if model_type and model_type not in CONFIG_MAPPING and model_type in offered_names(ENTRY_POINTS):
        load_offered(ENTRY_POINTS, model_type, "world model")


def find_world_model(model_type: str) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    """Configuration and model behind a `model_type`; imports what an installed package offers under that name.

    Raises:
        ValueError: for a name that nobody registered, or one of a model that encodes nothing.
    """
    import_offered(model_type)
    # Its `get` knows nothing of classes that are imported on demand.
    config = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None  # noqa: SIM401
    if config is None or not hasattr(MODEL_MAPPING.get(config, None), "encode"):
        names = ", ".join(sorted({*BUILT_IN, *offered_names(ENTRY_POINTS)}))
        raise ValueError(f"model_type={model_type!r} is not a world model: use one of {names}, or register yours")
    return config, MODEL_MAPPING[config]
