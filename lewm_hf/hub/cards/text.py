"""The prose of model cards. Every figure comes from the facts; what is fixed text is true of every LeWM."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from ...configuration_lewm import LeWMConfig
from ...data.storage.local_paths import published, relative
from ...proprioception_lewm import size_of
from .checks import weights_text
from .collected import collect_command
from .facts import CardFacts
from .results import best_planner, measured_text, result_rows
from .snippets import BIBTEX, actor_snippet, install, planner_snippet
from .training_curves import CURVES_FILE

PAPER = "[LeWorldModel](https://arxiv.org/abs/2603.19312)"
# The recipe of the paper and the released code; a card lists where a checkpoint departs from it.
PAPER_RECIPE = {
    "batch_size": 128,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "warmup_fraction": 0.01,
    "weight_decay": 1e-3,
    "max_grad_norm": 1.0,
    "schedule_epochs": 100.0,
    "stop_epoch": 10.0,
    "max_steps": None,
}
# What the machine needed rather than what was learned from; architecture stands in config.json and among deviations.
_NOT_RECIPE = (
    "dataset", "dataset_revision", "frame_cache", "num_workers", "log_every", "save_every", "tracker", "model_type",
)  # fmt: skip
# Fields that belong to the task or the software, not to the paper's model.
_NOT_ARCHITECTURE = (
    "action_dim", "action_mean", "action_std", "action_statistics_source", "action_low", "action_high",
    "action_choices", "actions_per_second", "backbone_config", "backbone_fingerprint",
)  # fmt: skip


def own_fields(kind: type) -> list[str]:
    """Names of a configuration's fields, less those that transformers gives to every one."""
    common = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return [field.name for field in dataclasses.fields(kind) if field.name not in common]


def model_values(facts: CardFacts) -> dict[str, Any]:
    """What `templates/model_card.md` is filled with."""
    config, source = facts.config, facts.repo_id
    parameters = facts.origin["parameters"]
    learned = f"`{facts.env_id}`" if facts.env_id else "recordings without an environment"
    known = facts.training["env_kwargs"] if facts.training else facts.results[0].env.kwargs
    shape = f"({5 * config.frameskip}, {config.action_dim})"
    return {
        "name": facts.name,
        "source": source,
        "film": facts.film,
        "film_text": "The agent, what it imagined, and its goal",
        "sentence": f"A {facts.method} for {learned}: {parameters / 1e6:.2f} M parameters, {facts.learned}; given a "
        f"picture of now and one of the goal, {_acts(facts)}.",
        "results": result_rows(facts.results),
        "measured": measured_text(facts),
        "notes": facts.notes,
        "analyses": facts.analyses,
        "curves": CURVES_FILE if facts.curves is not None else None,
        "install": install(facts.env_id),
        "snippet": planner_snippet(
            source,
            facts.env_id,
            published(known or {}),
            config.image_size,
            shape,
            size_of(config),
            best_planner(facts.results),
            facts.cameras,
        )
        if facts.plans
        else actor_snippet(source, facts.env_id, config.image_size, f"(1, {config.action_dim})", facts.cameras),
        "remote_code": facts.remote_code,
        "interface": _interface(config, facts.latent),
        "origin": _training(facts.training, facts.config) if facts.training else _conversion(facts.origin),
        "data": _data(facts),
        "limits": _limits(facts),
        "licenses": {"weights": facts.license, "data": facts.data_license},
        "bibtex": BIBTEX,
        "deviations": _deviations(facts),
        "weights": f"{weights_text(facts.weights_sha256)}; {parameters:,} parameters, "
        f"{' and '.join(facts.stored_types)}. Safetensors only, no pickle.",
        "fingerprint": facts.training and facts.training["train_fingerprint"][:12],
        "versions": _versions(facts),
    }


def conversion_values(
    conversion: Mapping[str, Any], config: LeWMConfig, env: str | None, env_id: str | None, source: str
) -> dict[str, Any]:
    """What `templates/conversion_card.md` is filled with.

    Args:
        env, env_id: short name and id of its environment, where known.
        source: the folder, as it was typed.
    """
    statistics = conversion["action_statistics"]
    if statistics is None:
        scale = (
            "**None.** The published files hold no action statistics, so planning refuses to run. Convert again with "
            "`--dataset`, the data set that the checkpoint was trained on."
        )
    else:
        at = f" at revision {statistics['revision']}" if statistics.get("revision") else ""
        scale = (
            f"Mean {statistics['mean']}, population std {statistics['std']}, measured on {statistics['dataset']}{at} "
            f"({statistics['counted']:,} of {statistics['rows']:,} rows; rows without an action do not count)."
        )
    shape = f"({5 * config.frameskip}, {config.action_dim})"
    return {
        "paper": PAPER,
        "origin": _conversion(conversion),
        "statistics": scale,
        "install": "'lewm-hf[envs]'" if env_id else "lewm-hf",
        "snippet": planner_snippet(source, env_id, {}, config.image_size, shape),
        "interface": _interface(config, (config.embed_dim,)),
        "source": source,
        "env": env or "ENV",
        "bibtex": BIBTEX,
    }


def _acts(facts: CardFacts) -> str:
    if not facts.plans:
        return "it returns the actions that the data's behavior took on its way between two such pictures"
    size = " x ".join(map(str, facts.latent))
    return f"it plans the actions between them by imagining futures in a latent space of {size} numbers"


def _interface(config: Any, latent: tuple[int, ...]) -> str:
    size, block = config.image_size, config.action_block_size
    statistics = "none" if config.action_mean is None else _statistics(config)
    per_second = getattr(config, "actions_per_second", None)
    rate = f"; {per_second:g} actions make a second" if per_second else ""
    return f"""| | shape | content |
|---|---|---|
| observation, goal | `(H, W, 3)` | RGB, uint8; resized to {size} x {size}, ImageNet statistics |
| `pixel_values` | `(batch, time, 3, {size}, {size})` | float32, from the image processor |
| embeddings | `(batch, time, {", ".join(map(str, latent))})` | float32, no unit |
| action blocks | `(batch, time, {block})` | {config.frameskip} actions of {config.action_dim} dimensions, z-scored |
| planned actions | `(horizon * {config.frameskip}, {config.action_dim})` | float32, environment units |

The predictor sees at most {config.history_size} frames, {config.frameskip} environment steps apart{rate}. Action \
statistics: {statistics}."""


def _statistics(config: LeWMConfig) -> str:
    mean, std = ([round(value, 4) for value in values or ()] for values in (config.action_mean, config.action_std))
    return f"mean {mean}, population std {std}; exact in `config.json`"


def _data(facts: CardFacts) -> str:
    if facts.local:
        text = _local_data(facts)
    else:
        link = f"[`{facts.dataset_id}`](https://huggingface.co/datasets/{facts.dataset_id})"
        text = f"{link} at revision `{facts.dataset_revision}`; license {facts.data_license}. "
    if facts.training:
        text += "Split `train`; splits are by episode, the test episodes were not trained on."
        return f"{text} {_statistics_of(facts)}"
    text += "Split: the original code holds out windows and no episodes; which ones has not been published."
    if facts.config.action_statistics_source:
        text += f" Action statistics: {published(facts.config.action_statistics_source)}."
    return text


def _statistics_of(facts: CardFacts) -> str:
    if facts.local and facts.collection:
        return "Action statistics cover all episodes of the data set, the test episodes too."
    return (
        "Action statistics cover all episodes of the data set, the test episodes too, where its `episodes.json` states "
        "them, and else this split."
    )


def _local_data(facts: CardFacts) -> str:
    if facts.training and facts.collection:
        return collected_text(facts.collection, relative(facts.training["recipe"]["dataset"]))
    release = facts.origin.get("release")
    return f"That of the release `{release}`. " if release else "Unknown. "


def collected_text(collection: Mapping[str, Any], folder: str) -> str:
    """How to come by training episodes that are not on the Hub."""
    command = collect_command(collection, folder)
    if command is None:
        facts = "\n".join(f"| {name} | {plain(value)} |" for name, value in published(collection["collector"]).items())
        text = f"Not on the Hub. They came about like this:\n\n| | |\n|---|---|\n{facts}\n\n"
    else:
        text = (
            "Not on the Hub: the command below collects the same episodes again, collection being deterministic.\n\n"
            f"```bash\n{command}\n```\n\n"
        )
    look = {name: value for name, value in published(collection["env_kwargs"]).items() if name != "image_size"}
    if look and collection["env"]:
        chosen = ", ".join(f"`{name}={value!r}`" for name, value in look.items())
        text += f"The environment was made with {chosen}; how the checkpoint does in another look is not measured. "
    return text


def _training(training: Mapping[str, Any], config: Any) -> str:
    recipe = training["recipe"]
    hours = training["seconds"] * training["num_processes"] / 3600
    rows = "\n".join(
        f"| `{name}` | {plain(value)} |"
        for name, value in published(recipe).items()
        if name not in (*_NOT_RECIPE, *own_fields(type(config)))
    )
    return f"""## Training

{training["steps"]:,} steps ({training["epochs"]:.2f} epochs over {training["train_windows"]:,} windows), batch \
{recipe["batch_size"]}, precision {precision_text(training)}, seed {recipe["seed"]}; {hours:.2f} device hours on \
{training["num_processes"]} x {training["hardware"]["device_name"]}.{_start(training.get("base_model"), recipe)}

<details><summary>Recipe</summary>

| key | value |
|---|---|
{rows}

</details>"""


def precision_text(training: Mapping[str, Any]) -> str:
    """In which arithmetic a run computed. Accelerate's name for it does not know of an encoder that differs."""
    if training["recipe"].get("precision") == "bf16_encoder":
        return "bf16 in the encoder and float32 elsewhere"
    return {"no": "float32", "bf16": "bf16 (autocast)"}.get(training["mixed_precision"], training["mixed_precision"])


def _start(base: Mapping[str, Any] | None, recipe: Mapping[str, Any]) -> str:
    """Which checkpoint a run started from, and what of it was kept."""
    if not base:
        return ""
    source, revision = published({"source": base["source"]})["source"], base.get("revision")
    where = f"[`{source}`](https://huggingface.co/{source}) at revision `{revision}`" if revision else f"`{source}`"
    text = f" It started from {where} (fingerprint of the weights `{base['fingerprint'][:12]}`)"
    if base.get("new_parts"):
        text += f"; {', '.join(f'`{part}`' for part in base['new_parts'])} started from nothing"
    if recipe.get("freeze"):
        text += f"; {', '.join(f'`{part}`' for part in recipe['freeze'])} stayed as there"
    return text + "."


def _conversion(conversion: Mapping[str, Any]) -> str:
    revision = f" at revision `{conversion['revision']}`" if conversion.get("revision") else ""
    release = conversion.get("release")
    known = f"the weights of the release `{release}`" if release else "**weights of no known release**"
    return f"""## Source

Converted by {conversion["converter"]} from `{conversion["source"]}`{revision}: {known}, \
SHA-256 `{conversion["weights_sha256"]}`. All {conversion["tensors"]} tensors are here, with the same numbers. How \
many steps and with which seed they were trained has not been published."""


def _deviations(facts: CardFacts) -> str:
    defaults = type(facts.config)()
    rows = [
        (name, getattr(facts.config, name), getattr(defaults, name))
        for name in own_fields(type(facts.config))
        if name not in _NOT_ARCHITECTURE and getattr(facts.config, name) != getattr(defaults, name)
    ]
    if facts.training:
        recipe = facts.training["recipe"]
        rows += [(name, recipe.get(name), value) for name, value in PAPER_RECIPE.items() if recipe.get(name) != value]
    if not rows:
        return "None of architecture or recipe."
    lines = [f"| `{name}` | {plain(here)} | {plain(there)} |" for name, here, there in rows]
    return "\n".join(["| | here | paper and released weights |", "|---|---|---|", *lines])


def _limits(facts: CardFacts) -> str:
    if facts.env_id:
        protocols = ", ".join(dict.fromkeys(f"`{result.protocol['label']}`" for result in facts.results))
        known = (
            f"Knows one environment, `{facts.env_id}`, in the look of its training episodes. Success was measured "
            f"under {protocols} and nowhere else; goals farther away than those, other looks and real cameras are "
            "untested."
        )
    else:
        known = (
            "Knows what its recordings show, in their look. There is no environment to try plans in: whether they "
            "reach their goals is not known."
        )
    return (
        f"{known} A plan is open loop: replan from new pictures. The cost is a distance in the embedding and no "
        "probability of success."
    )


def _versions(facts: CardFacts) -> str:
    used: dict[str, list[str]] = {}
    if facts.training:
        used.setdefault(_joined(facts.training["versions"]), []).append("trained")
    for result in facts.results:
        what = f"measured under `{result.protocol['label']}`"
        if what not in used.setdefault(_joined(result.versions), []):
            used[_joined(result.versions)].append(what)
    return "\n\n".join(f"{', '.join(what).capitalize()}: {versions}." for versions, what in used.items())


def _joined(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value)
