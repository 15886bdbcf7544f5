"""`LeWMPlanner`: pictures of where things are and where they should be -> actions. Task `world-model-planning`."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .action_choices import chosen_values
from .configuration_lewm import PIPELINE_TASK, LeWMConfig
from .pictures import read, rgb
from .planning.frames import check_same_size, encode_frames, frame_size, observe_frames
from .planning.goal_embeddings import check_embedding, read_embedding
from .planning.horizon import SHORTEST, blocks_until, check_steps_left, horizon_until
from .planning.noise import check_problem
from .planning.plan_settings import PlanSettings
from .planning.planner import plan
from .planning.solvers import known_settings
from .planning.world_model import check_actor, check_imagines, check_ready, check_same_as_config
from .proprioception_lewm import beside_pictures
from .world_models.registry import import_offered

SETTINGS = tuple(field.name for field in dataclasses.fields(PlanSettings))
# Fields of the config that other planners take as arguments. Here a differing value is an error, not an override.
CONFIG_FIELDS = ("history_size", "frameskip", "image_size", "action_dim", "action_mean", "action_std")
INPUT_KEYS = (
    "observation", "goal", "goal_embedding", "proprioception", "goal_proprioception", "steps_left", "problem",
)  # fmt: skip
LOADING = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")
LOADING_MODEL = ("dtype", "torch_dtype", "device_map", "attn_implementation", "quantization_config", "variant")
TRUST = ("trust_remote_code",)


class LeWMPlanner(Pipeline):
    """Plans from one picture to another, with no environment and no data set.

        planner = LeWMPlanner.from_pretrained("org/lewm-pusht")
        plan = planner({"observation": image, "goal": goal_image})
        plan["actions"]                                    # (horizon * frameskip, action_dim), environment units

    History, frameskip, image size and action statistics come from the checkpoint. Settings of the search are the
    keywords of `PlanSettings` and of its solver, given to the constructor or to a call:
    `planner(..., samples=100, iterations=8, elites=15, seed=7)`. `planner="actor-guided"` takes over the search of a
    named planner, of a file, or of a `Planner`, before other keywords change it; how often to plan again is for who
    acts, as `MPCPolicy` and `RobotLoop` do.

    Input: a dictionary, or a list, generator or data set of them, with
        observation: a PIL picture, `(H, W, 3)` or `(3, H, W)` uint8 array or tensor (floats must lie in [0, 1]), path
            or URL. Pictures are turned upright as their EXIF data says, and made square as the training pictures were.
            Of a model that sees several cameras, one by the name of each: `{"top": ..., "wrist": ...}`.
        goal: the same and as large, or a list of them, of which any (or all, by `goals="mean"`) will do.
        goal_embedding: instead of `goal`, `model.encode`'s `(*latent)`, or `(G, *latent)`.
        proprioception, goal_proprioception: of models with it: what the robot reports of itself beside the observation
            and at the goal, a vector each in the units of the recordings; see `config.proprioception_key`.
        steps_left: optional, environment steps until the goal is due: the plan looks no further ahead than that, but at
            least two blocks; with a named planner as far as that does. Without it the plan has the whole `horizon`.
        problem: optional name or number, default 0. The noise of the search is a function of (seed, problem) alone:
            the same input has the same plan alone, in a list and in a batch.
    Batches may be written as one dictionary, or two arguments, of lists or arrays with one more dimension:
    `planner(images, goal_images)`. What else belongs to a problem is then a keyword: `planner(image, goal_image,
    steps_left=10)`, `planner(image, goal_embedding=latent)`.

    Output: a dictionary with `actions` `(horizon * frameskip, action_dim)` float32, kept within the config's action
    bounds where it states some, and `cost`, a float; with
    `return_elites=True` also `elites` `(elites, horizon * frameskip, action_dim)` and `elite_costs` `(elites,)`, best
    first; `choices` `(horizon * frameskip, choices)` int64, the values to choose, where actions are choices; with
    `return_predictions=True` also `predicted_embeddings` `(horizon, *latent)`. All are NumPy arrays.

    Args:
        model: a world model in eval mode, with action statistics in its config; `image_processor`: the one saved beside
            it.
        **kwargs: `device` and `batch_size` of the pipeline, and any setting of the search.

    Raises:
        ValueError: at construction for a model in training mode, a checkpoint without action statistics, an image
            processor of another size, or a `dtype` that is not the model's, which is chosen when it is loaded; in a
            call for pictures of other than 3 channels, goals of another size than the observation, pictures that are
            not square where training pictures were, NaN, unknown input keys, or arguments that contradict the
            checkpoint's config.
        TypeError: for unknown arguments.
    """

    _load_processor = False
    _load_image_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(self, model: Any, image_processor: Any = None, **kwargs: Any):
        if image_processor is None:
            raise ValueError(
                "the planner needs the image processor that the model was trained with: pass image_processor=, or a "
                "directory or repository that holds both"
            )
        check_ready(model)
        check_imagines(model, "planning")
        for name in ("dtype", "torch_dtype"):
            _check_dtype(name, kwargs.get(name), model)
        size = getattr(image_processor, "image_size", model.config.image_size)
        if size != model.config.image_size:
            raise ValueError(
                f"the image processor makes {size} pixels, but the model takes image_size={model.config.image_size}: "
                "use the processor saved beside the model"
            )
        kwargs.setdefault("task", PIPELINE_TASK)
        super().__init__(model=model, image_processor=image_processor, **kwargs)

    @property
    def settings(self) -> PlanSettings:
        """How it searches where a call says nothing else."""
        return self._forward_params["settings"]

    @property
    def planner(self) -> Any:
        """The `Planner` whose search was taken over, `None` where none was named."""
        return self._forward_params.get("planner")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "LeWMPlanner":
        """Loads model and image processor from a directory or the Hub.

        Args:
            pretrained_model_name_or_path: directory or repository.
            **kwargs: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`, `trust_remote_code`, `dtype`,
                `device_map`, `quantization_config`, `variant` for loading; `device` and `batch_size` of the pipeline;
                and any setting of the search. Before a `dtype` of half precision, `lewm health` tells whether the
                checkpoint still tells frames apart in it.
        """
        shared, own, trust = (
            {name: kwargs.pop(name) for name in names if name in kwargs} for names in (LOADING, LOADING_MODEL, TRUST)
        )
        # Names the converter where AutoModel would only find an unknown config.
        config, _ = LeWMConfig.get_config_dict(pretrained_model_name_or_path, **shared)
        import_offered(config.get("model_type"))
        model = AutoModel.from_pretrained(pretrained_model_name_or_path, **shared, **own, **trust)
        processor = AutoImageProcessor.from_pretrained(pretrained_model_name_or_path, **shared, **trust)
        return cls(model, processor, **kwargs)

    def save_pretrained(self, save_directory: str | Path, *, code: bool = False, **kwargs: Any) -> None:
        """Saves model and image processor, and their code where the checkpoint brought it along.

        Args:
            save_directory: a folder, made where it does not exist.
            code: copy it in any case, so that `pipeline(model=save_directory, trust_remote_code=True)` plans where this
                package is not installed; see `hub.export.code`.
            **kwargs: of the model's and the image processor's `save_pretrained`.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.image_processor.save_pretrained(save_directory, **kwargs)
        if code and __name__.partition(".")[0] != TRANSFORMERS_DYNAMIC_MODULE_NAME:  # a copy went along with the model
            # By name: transformers follows import statements, and would want a copy of the exporter too.
            import_module(".hub.export.code", __package__).export_code(save_directory)

    def __call__(self, inputs: Any, goal: Any = None, **kwargs: Any) -> Any:
        """See the class. `planner(observation, goal)` is short for `planner({"observation": ..., "goal": ...})`."""
        if goal is not None or "goal_embedding" in kwargs:
            beside = {name: kwargs.pop(name) for name in INPUT_KEYS if name in kwargs}
            inputs = {"observation": inputs} | ({} if goal is None else {"goal": goal}) | beside
        if isinstance(inputs, dict) and _is_batch(inputs.get("observation")):
            inputs = _unbatch(inputs)
        elif _is_table(inputs):
            inputs = _Rows(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        planner: Any = None,
        return_elites: bool | None = None,
        return_predictions: bool | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = {*SETTINGS, *known_settings()}
        changes = {name: kwargs.pop(name) for name in list(kwargs) if name in known}
        check_same_as_config(self.model, **{name: kwargs.pop(name) for name in CONFIG_FIELDS if name in kwargs})
        if kwargs:
            raise TypeError(
                f"unknown arguments {sorted(kwargs)}: LeWMPlanner takes planner, {', '.join(SETTINGS)}, the settings "
                "of its solver, return_elites and return_predictions"
            )
        # Refused here, before any work.
        settings = getattr(self, "_forward_params", {}).get("settings", PlanSettings())
        search: dict[str, Any] = {}
        if planner is not None:
            named = search["planner"] = self._load_planner(planner)
            # Computed for as it was before: on the same seed, in the same precision.
            settings = named.settings(
                **{name: getattr(settings, name) for name in SETTINGS if not hasattr(named, name)}
            )
        search["settings"] = settings = settings.changed(**changes)
        if settings.proposal is not None:
            check_actor(self.model, f"proposal={settings.proposal!r}")
        returned = {"return_elites": return_elites, "return_predictions": return_predictions}
        return {}, search, {name: value for name, value in returned.items() if value is not None}

    @staticmethod
    def _load_planner(planner: Any) -> Any:
        # By name: the copy of this file that a checkpoint may carry has no planners beside it.
        try:
            planners = import_module(".planning.planners", __package__)
        except ModuleNotFoundError as error:
            raise ValueError(f"planner={planner!r} needs the package lewm-hf: install it, or give settings") from error
        return planners.load_planner(planner)

    def preprocess(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """One problem -> `pixel_values` `(1, 3, S, S)`, and a goal: `pixel_values` `(G, 3, S, S)` or `embedding`.

        Raises:
            ValueError: for an input that the class does not describe.
        """
        if not isinstance(inputs, dict):
            raise ValueError(f"got a {type(inputs).__name__}: give a dictionary with 'observation' and 'goal'")
        unknown = sorted(set(inputs) - set(INPUT_KEYS))
        if unknown or "observation" not in inputs or ("goal" in inputs) == ("goal_embedding" in inputs):
            raise ValueError(
                f"input has the keys {sorted(inputs)}: expected 'observation', either 'goal' or 'goal_embedding', and "
                "if wanted 'steps_left' and 'problem'"
            )
        observation = _picture(inputs["observation"])
        if "goal" in inputs:
            given = inputs["goal"]
            pictures = [_picture(one) for one in (given if _is_batch(given) else [given])]
            for one in pictures:
                check_same_size(frame_size(observation), frame_size(one))
            goal = {"pixel_values": self._normalize(pictures)}
            goal |= self._body(inputs, "goal_proprioception", len(pictures))
        else:
            goal = {"embedding": read_embedding(inputs["goal_embedding"], "goal_embedding").float()}
        problem = check_problem(inputs.get("problem", 0))
        steps_left = check_steps_left(inputs.get("steps_left"))
        # -1: nobody said. `None` would not pass through the batches of the pipeline.
        left = -1 if steps_left is None else blocks_until(steps_left, self.model.config.frameskip)
        pixels, body = self._normalize([observation]), self._body(inputs, "proprioception", 1)
        return {"pixel_values": pixels, **body, "goal": goal, "blocks_left": left, "problem": problem}

    def _body(self, inputs: dict[str, Any], name: str, pictures: int) -> dict[str, Tensor]:
        """`proprioception` `(pictures, N)`, z-scored; nothing for a model of pictures alone."""
        given = inputs.get(name)
        body = beside_pictures(None if given is None else [given], 1, self.model.config, name)
        return {} if body is None else {"proprioception": body.expand(pictures, -1)}

    def _forward(
        self, model_inputs: dict[str, Any], settings: PlanSettings, planner: Any = None
    ) -> dict[str, list[Tensor]]:
        goals, problems, left = (model_inputs[name] for name in ("goal", "problem", "blocks_left"))
        if not isinstance(goals, list):
            goals, problems, left = [goals], [problems], [left]
        guided = settings.proposal is not None
        frames, features = self._look(model_inputs, guided)
        context = frames[:, None]
        seen = [self._goal_latents(goal, context.shape[2:], guided) for goal in goals]
        shortest = SHORTEST if planner is None else planner.horizon_floor
        if planner is not None and planner.horizon_rule == "fixed":
            shortest = settings.horizon
        horizons = [settings.horizon if n < 0 else horizon_until(n, settings.horizon, shortest) for n in left]
        outputs: list[dict[str, Tensor]] = [{} for _ in goals]
        # Plans as long with as many goals share a batch. Noise belongs to the problem, so the grouping changes no plan.
        kinds = [(horizons[row], *latents.shape[:1], known is None) for row, (latents, known) in enumerate(seen)]
        for kind in sorted(set(kinds)):
            rows = [row for row, one in enumerate(kinds) if one == kind]
            guidance = {}
            if guided:
                guidance["blocks_left"] = [max(1, horizons[row] if left[row] < 0 else left[row]) for row in rows]
                if features is not None and not kind[-1]:
                    guidance["features"] = features[rows]
                    guidance["goal_features"] = torch.cat([seen[row][1] for row in rows])
            output = plan(
                self.model,
                context[rows],
                torch.stack([seen[row][0] for row in rows]).to(context),
                dataclasses.replace(settings, horizon=kind[0]),
                problems=[problems[row] for row in rows],
                **guidance,
            )
            for position, row in enumerate(rows):
                outputs[row] = {name: value[position] for name, value in output.items()}
        return {name: [output[name] for output in outputs] for name in outputs[0]}

    def postprocess(
        self, outputs: dict[str, Tensor], return_elites: bool = False, return_predictions: bool = False
    ) -> dict[str, Any]:
        """One plan's tensors -> the dictionary that the class describes, in NumPy arrays."""
        names = ["actions"]
        if return_elites:
            names += ["elites", "elite_costs"]
        if return_predictions:
            names += ["predicted_embeddings"]
        found = {"cost": float(outputs["costs"][0])}
        if sizes := getattr(self.model.config, "action_choices", None):
            found["choices"] = chosen_values(outputs["actions"][0], sizes).numpy()
        return found | {name: outputs[name][0].float().numpy() for name in names}

    def _normalize(self, pictures: list) -> Tensor:
        return self.image_processor(pictures, return_tensors="pt")["pixel_values"]

    def _look(self, seen: dict[str, Tensor], guided: bool) -> tuple[Tensor, Tensor | None]:
        """Latents `(N, *latent)` of normalized frames, and where an actor wants them features `(N, F)`."""
        inputs = seen["pixel_values"], seen.get("proprioception")
        return observe_frames(self.model, *inputs) if guided else (encode_frames(self.model, *inputs), None)

    def _goal_latents(
        self, goal: dict[str, Tensor], latent: Sequence[int], guided: bool
    ) -> tuple[Tensor, Tensor | None]:
        """`(G, *latent)`, and where an actor wants them and there is a picture features `(G, F)`."""
        if "pixel_values" in goal:
            return self._look(goal, guided)
        embedding = goal["embedding"]
        check_embedding(embedding, latent, "goal_embedding")
        return (embedding if embedding.dim() > len(latent) else embedding[None]), None


def _check_dtype(name: str, asked: Any, model: Any) -> None:
    """Refuses another precision than the model's: as all over transformers, it is chosen when a model is loaded."""
    wanted = getattr(torch, asked, asked) if isinstance(asked, str) else asked
    if wanted not in (None, "auto", model.dtype):
        raise ValueError(
            f"{name}={asked}, but the model is in {model.dtype}, and a precision is chosen when it is loaded: give it "
            "to from_pretrained, the planner's or the model's"
        )


def _picture(image: Any) -> Any:
    """A path, a URL or a PIL picture as an array; arrays and tensors unchanged; of several cameras each one."""
    if isinstance(image, Mapping):
        return {name: _picture(part) for name, part in image.items()}
    if isinstance(image, str | Path):
        return read(image)
    if isinstance(image, Image.Image):
        return rgb(image)
    if isinstance(image, np.ndarray | Tensor):
        return image
    raise ValueError(f"cannot read an image of type {type(image).__name__}: give PIL, numpy, torch, a path or a URL")


def _is_batch(images: Any) -> bool:
    """Whether these are several pictures: a list, a column of a data set, or an array with one dimension more."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim == 4
    return isinstance(images, Sequence) and not isinstance(images, str | bytes)


def _unbatch(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """One dictionary of batches -> a list of dictionaries; one deadline, or none, is that of all."""
    size = len(inputs["observation"])
    if "steps_left" in inputs and _count(inputs["steps_left"]) is None:
        inputs = {**inputs, "steps_left": [inputs["steps_left"]] * size}
    for name, values in inputs.items():
        if _count(values) != size:
            raise ValueError(f"a batch of {size} observations needs {size} entries of {name!r} as well")
    return [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]


def _count(values: Any) -> int | None:
    """Entries of a list, a column or an array; `None` for a single thing."""
    if isinstance(values, np.ndarray | Tensor):
        return len(values) if values.ndim else None
    return len(values) if isinstance(values, Sequence) and not isinstance(values, str | bytes) else None


def _is_table(inputs: Any) -> bool:
    """Whether these are rows by number with columns by name, as a `datasets.Dataset` has them."""
    return hasattr(inputs, "column_names") and hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")


class _Rows(torch.utils.data.Dataset):
    """The rows of such a table for transformers, which takes data sets of PyTorch alone."""

    def __init__(self, table: Any):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.table[row]


def register_pipeline() -> None:
    """Makes `transformers.pipeline("world-model-planning", model=...)` known. Calling it again changes nothing."""
    if PIPELINE_TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            PIPELINE_TASK, pipeline_class=LeWMPlanner, pt_model=AutoModel, type="multimodal"
        )


register_pipeline()
