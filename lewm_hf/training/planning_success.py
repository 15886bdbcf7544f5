"""Planning success while training: a small fixed set of problems, the same at every step."""

from contextlib import closing

from ..configuration_lewm import LeWMConfig
from ..evaluation.success.acting import check_proprioception
from ..evaluation.success.manifest import sample_manifest
from ..evaluation.success.protocol import load_protocol, parse_overrides, split_overrides
from ..evaluation.success.run import evaluate
from ..image_processing_lewm import LeWMImageProcessor
from ..modeling_lewm import LeWMModel
from ..planning.planners import load_planner
from ..proprioception_lewm import size_of
from ..tasks.registry import make_env
from .arguments import TrainingRecipe

# Not a seed that anybody evaluates with: the best checkpoint must not be chosen on the pairs it is later judged by.
SELECTION_SEED = 2_147_483_629


class PlanningSuccess:
    """`evaluate(model, step)` of the training loop, made from a recipe.

    Args:
        recipe: its `eval_protocol`, `eval_planner`, `eval_overrides` and `eval_pairs`; the pairs are drawn with
            `SELECTION_SEED`.
        config: of the model, for its picture size.
        episodes: by split; the pairs come from the one that the protocol names.

    Raises:
        ValueError: where the episodes hold too few pairs, an override is unknown, or the model wants proprioception
            that the environment does not give.
    """

    def __init__(self, recipe: TrainingRecipe, config: LeWMConfig, episodes: dict):
        of_protocol, of_planner = split_overrides(parse_overrides(recipe.eval_overrides))
        self.protocol = load_protocol(recipe.eval_protocol, of_protocol | {"seeds": (SELECTION_SEED,)})
        self.planner = load_planner(recipe.eval_planner or self.protocol.default_planner, of_planner)
        self.episodes = episodes[self.protocol.split]
        if size_of(config):
            with closing(make_env(self.episodes.env_id, **self.episodes.env_kwargs)) as env:
                env.reset(seed=0, options={"goal_image": False})
                check_proprioception(config, env, self.episodes.env_id)
        self.manifest = sample_manifest(self.episodes, self.protocol, recipe.eval_pairs, SELECTION_SEED)
        self.image_processor = LeWMImageProcessor(image_size=config.image_size, fit=self.episodes.fit)
        self.random_success = None

    def __call__(self, model: LeWMModel, step: int) -> dict[str, float]:
        """Success of a model in evaluation mode, and the random policy's on the same problems, both in [0, 1]."""
        result = evaluate(
            model,
            processor=self.image_processor,
            episodes=self.episodes,
            manifest=self.manifest,
            protocol=self.protocol,
            planner=self.planner,
            floors=self.random_success is None,  # nothing of it changes between two evaluations
        ).result
        if self.random_success is None:
            self.random_success = result["floors"]["random"]["rate"]
        return {
            "success": result["success"]["rate"],
            "random_success": self.random_success,
            "seconds_per_plan": result["planning"]["seconds_per_plan"],
        }
