"""The Hugging Face-native LeWorldModel: a world model learned from pixels, and the planner that acts with it.

Everything that a user needs is here, by name. Models, configurations and the planner come with the import, which
brings torch and transformers and nothing heavier; what needs data sets, simulators or plots is imported when its name
is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from .configuration_lewm import LeWMConfig
from .configuration_lewm_decoder import LeWMDecoderConfig
from .encoders import register_encoder
from .image_processing_lewm import LeWMImageProcessor
from .modeling_lewm import LeWMModel, LeWMOutput
from .modeling_lewm_decoder import LeWMDecoder
from .pipeline_lewm import LeWMPlanner, register_pipeline
from .planning import CEM, ActorPolicy, MPCPolicy, Planner, PlanSettings, RobotLoop, load_planner, plan, register_solver
from .sigreg import SIGReg
from .world_models.backbones import register_backbone
from .world_models.dino_wm import DinoWMConfig, DinoWMModel
from .world_models.imitation import ImitationConfig, ImitationModel
from .world_models.lewm_with_decoder import LeWMWithDecoderConfig, LeWMWithDecoderModel
from .world_models.pldm import PLDMConfig, PLDMModel

if TYPE_CHECKING:
    from .data.collect.run import collect
    from .data.episode_data import EpisodeData
    from .data.episodes import load_episodes
    from .data.importers.run import import_dataset
    from .data.windows import WindowDataset
    from .engines.base import Engine
    from .engines.registry import register_engine
    from .evaluation.analyses import register_analysis
    from .evaluation.common.analysis import Analysis
    from .evaluation.decode.run import decode
    from .evaluation.health.run import health
    from .evaluation.probe.run import probe
    from .evaluation.report.run import write_report
    from .evaluation.success.comparison import compare
    from .evaluation.success.protocol import Protocol, load_protocol
    from .evaluation.success.run import evaluate
    from .evaluation.surprise.run import surprise
    from .hub.cards.write import write_card
    from .hub.convert.run import convert
    from .hub.export.graphs import export
    from .hub.push import push
    from .tasks.goal_env import GoalEnv
    from .tasks.measurable import Events, Target
    from .tasks.registry import find_task, make_env, register_task, task_names
    from .tasks.state_env import StateEnv
    from .tasks.task import Recording, Task
    from .tasks.variation import VariationSpace
    from .testing import check_world_model
    from .vector_agent import VectorAgent

# Where the names above live that are imported when they are used.
_HOMES = {
    "Analysis": "evaluation.common.analysis",
    "Engine": "engines.base",
    "EpisodeData": "data.episode_data",
    "Events": "tasks.measurable",
    "GoalEnv": "tasks.goal_env",
    "Protocol": "evaluation.success.protocol",
    "Recording": "tasks.task",
    "StateEnv": "tasks.state_env",
    "Target": "tasks.measurable",
    "Task": "tasks.task",
    "VariationSpace": "tasks.variation",
    "VectorAgent": "vector_agent",
    "WindowDataset": "data.windows",
    "check_world_model": "testing",
    "collect": "data.collect.run",
    "compare": "evaluation.success.comparison",
    "convert": "hub.convert.run",
    "decode": "evaluation.decode.run",
    "evaluate": "evaluation.success.run",
    "export": "hub.export.graphs",
    "find_task": "tasks.registry",
    "health": "evaluation.health.run",
    "import_dataset": "data.importers.run",
    "load_episodes": "data.episodes",
    "load_protocol": "evaluation.success.protocol",
    "make_env": "tasks.registry",
    "probe": "evaluation.probe.run",
    "push": "hub.push",
    "register_analysis": "evaluation.analyses",
    "register_engine": "engines.registry",
    "register_task": "tasks.registry",
    "surprise": "evaluation.surprise.run",
    "task_names": "tasks.registry",
    "write_card": "hub.cards.write",
    "write_report": "evaluation.report.run",
}

__all__ = [
    "ActorPolicy",
    "Analysis",
    "CEM",
    "DinoWMConfig",
    "DinoWMModel",
    "Engine",
    "EpisodeData",
    "Events",
    "GoalEnv",
    "ImitationConfig",
    "ImitationModel",
    "LeWMConfig",
    "LeWMDecoder",
    "LeWMDecoderConfig",
    "LeWMImageProcessor",
    "LeWMModel",
    "LeWMOutput",
    "LeWMPlanner",
    "LeWMWithDecoderConfig",
    "LeWMWithDecoderModel",
    "MPCPolicy",
    "PLDMConfig",
    "PLDMModel",
    "PlanSettings",
    "Planner",
    "Protocol",
    "Recording",
    "RobotLoop",
    "SIGReg",
    "StateEnv",
    "Target",
    "Task",
    "VariationSpace",
    "VectorAgent",
    "WindowDataset",
    "check_world_model",
    "collect",
    "compare",
    "convert",
    "decode",
    "evaluate",
    "export",
    "find_task",
    "health",
    "import_dataset",
    "load_episodes",
    "load_planner",
    "load_protocol",
    "make_env",
    "plan",
    "probe",
    "push",
    "register_analysis",
    "register_backbone",
    "register_encoder",
    "register_engine",
    "register_solver",
    "register_task",
    "surprise",
    "task_names",
    "write_card",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    """Tells transformers' Auto classes and pipelines what there is."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    world_models = (LeWMModel, PLDMModel, DinoWMModel, ImitationModel, LeWMWithDecoderModel)
    for model in (*world_models, LeWMDecoder):
        AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
        AutoModel.register(model.config_class, model, exist_ok=True)
    for model in world_models:
        AutoImageProcessor.register(
            model.config_class, image_processor_classes={"pil": LeWMImageProcessor}, exist_ok=True
        )
    register_pipeline()


_register()
