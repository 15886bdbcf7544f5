"""The Hugging Face-native LeWorldModel: a world model learned from pixels, and the planner that acts with it."""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "LeWMConfig": "configuration_lewm",
    "LeWMDecoder": "modeling_lewm_decoder",
    "LeWMDecoderConfig": "configuration_lewm_decoder",
    "LeWMModel": "modeling_lewm",
    "LeWMOutput": "modeling_lewm",
    "LeWMImageProcessor": "image_processing_lewm",
    "LeWMPlanner": "pipeline_lewm",
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

    from .configuration_lewm import LeWMConfig
    from .configuration_lewm_decoder import LeWMDecoderConfig
    from .image_processing_lewm import LeWMImageProcessor
    from .modeling_lewm import LeWMModel
    from .modeling_lewm_decoder import LeWMDecoder
    from .pipeline_lewm import register_pipeline

    AutoConfig.register(LeWMConfig.model_type, LeWMConfig, exist_ok=True)
    AutoModel.register(LeWMConfig, LeWMModel, exist_ok=True)
    AutoConfig.register(LeWMDecoderConfig.model_type, LeWMDecoderConfig, exist_ok=True)
    AutoModel.register(LeWMDecoderConfig, LeWMDecoder, exist_ok=True)
    AutoImageProcessor.register(LeWMConfig, image_processor_classes={"pil": LeWMImageProcessor}, exist_ok=True)
    register_pipeline()


_register()
