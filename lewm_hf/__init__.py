"""The Hugging Face-native LeWorldModel: a world model learned from pixels, and the planner that acts with it."""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "DinoWMConfig": "world_models.dino_wm",
    "DinoWMModel": "world_models.dino_wm",
    "LeWMConfig": "configuration_lewm",
    "LeWMDecoder": "modeling_lewm_decoder",
    "LeWMDecoderConfig": "configuration_lewm_decoder",
    "LeWMModel": "modeling_lewm",
    "LeWMOutput": "modeling_lewm",
    "LeWMImageProcessor": "image_processing_lewm",
    "LeWMPlanner": "pipeline_lewm",
    "PLDMConfig": "world_models.pldm",
    "PLDMModel": "world_models.pldm",
    "SIGReg": "sigreg",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return [*globals(), *__all__]


def _register():
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    from .image_processing_lewm import LeWMImageProcessor
    from .modeling_lewm import LeWMModel
    from .modeling_lewm_decoder import LeWMDecoder
    from .pipeline_lewm import register_pipeline
    from .world_models.dino_wm import DinoWMModel
    from .world_models.pldm import PLDMModel

    world_models = (LeWMModel, PLDMModel, DinoWMModel)
    for model in (*world_models, LeWMDecoder):
        AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
        AutoModel.register(model.config_class, model, exist_ok=True)
    for model in world_models:
        AutoImageProcessor.register(
            model.config_class, image_processor_classes={"pil": LeWMImageProcessor}, exist_ok=True
        )
    register_pipeline()


_register()
