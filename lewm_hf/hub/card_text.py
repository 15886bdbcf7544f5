"""The prose of model cards. Every figure comes from the facts; what is fixed text is true of every LeWM."""

import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..configuration_lewm import LeWMConfig
from ..data.local_paths import published

if TYPE_CHECKING:
    from .cards import CardFacts

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
    "dataset", "dataset_revision", "frame_cache", "num_workers", "log_every", "save_every", "tracker",
    *LeWMConfig.__annotations__,
)  # fmt: skip
# Fields that belong to the task or the software, not to the paper's model.
_NOT_ARCHITECTURE = ("action_dim", "action_mean", "action_std", "action_statistics_source")


def model_text(facts: "CardFacts") -> str:
    """The body of a measured model card."""
    name = facts.repo_id.partition("/")[2]
    origin = _training(facts) if facts.training else _conversion(facts.conversion)
    parameters = (facts.training or facts.conversion)["parameters"]
    sections = [
        f"# {name}\n\nA {PAPER} for `{facts.env_id}`: {parameters / 1e6:.2f} M parameters, learned end to end from "
        f"pixels and actions alone. Given a picture of now and one of the goal, it plans the actions between them by "
        f"imagining futures in a latent space of {facts.config.embed_dim} numbers.",
        f"## Results\n\n{_results(facts)}",
        f"## Use\n\n{_usage(facts.repo_id, facts.config, facts.remote_code)}",
        f"## Inputs and outputs\n\n{_interface(facts.config)}",
        origin,
        f"## Training data\n\n{_data(facts)}",
        f"## Deviations from the paper\n\n{_deviations(facts)}",
        f"## Weights\n\n`model.safetensors`, SHA-256 `{facts.weights_sha256}`; "
        f"{parameters:,} parameters, {str(facts.config.dtype).removeprefix('torch.')}. Safetensors only, no pickle.",
        f"## Limits\n\n{_limits(facts)}",
        f"## Versions\n\n{_versions(facts)}",
        f"## Licenses\n\nWeights: {facts.license}. Code (`lewm-hf`): apache-2.0. Training data: {facts.data_license}.",
    ]
    return "\n\n".join(sections) + "\n"


def conversion_text(conversion: Mapping[str, Any], config: LeWMConfig, env: str | None) -> str:
    """The body of the card that a conversion leaves; `env` is the short name of its environment, where known."""
    statistics = conversion["action_statistics"]
    if statistics is None:
        scale = (
            "**None.** The published files hold no action statistics, so planning refuses to run. Convert again with "
            "`--dataset`, the data set that the checkpoint was trained on."
        )
    else:
        scale = (
            f"Mean {statistics['mean']}, population std {statistics['std']}, measured on {statistics['dataset']} "
            f"({statistics['counted']:,} of {statistics['rows']:,} rows; rows without an action do not count)."
        )
    return "\n\n".join(
        [
            f"# {PAPER} checkpoint, converted",
            _conversion(conversion),
            f"## Action statistics\n\n{scale}",
            f"## Use\n\n{_usage('path/to/this/folder', config, remote_code=False)}",
            f"## Inputs and outputs\n\n{_interface(config)}",
            "## Results\n\nNot measured after the conversion: "
            f"`lewm eval path/to/this/folder --env {env or 'ENV'}`, then `lewm card`.",
            "## License\n\nThe weights are those of the original authors; see the source repository for their terms "
            "before publishing this folder.\n",
        ]
    )


def _results(facts: "CardFacts") -> str:
    lines = [
        "| protocol | success | random actions | zero actions | excess over random | solved before the first action |",
        "|---|---|---|---|---|---|",
    ]
    details = []
    for result in facts.results:
        protocol, floors = result["protocol"], result["floors"]
        label = f"`{protocol['label']}`, {protocol['split']} episodes"
        zero = _rate(floors["zero_action"]) if "zero_action" in floors else "not measured"
        lines.append(
            f"| {label} | **{_percent(result['success']['rate'])}** {_spread(result['success'])} | "
            f"{_rate(floors['random'])} | {zero} | {100 * result['excess']['random']:+.1f} points | "
            f"{_percent(result['solved_at_start']['share'])} |"
        )
        details.append(f"{_how_measured(result)}\n\n```bash\n{_command(result, facts)}\n```")
    note = "Success: the goal is reached within the budget. Intervals are Wilson's, 95 %. Random and "
    return "\n".join([*lines, "", note + "zero actions ran on the same pairs.", "", "\n\n".join(details)])


def _how_measured(result: Mapping[str, Any]) -> str:
    protocol, planning = result["protocol"], result["planning"]
    changes = ", ".join(f"{name}={value}" for name, value in protocol.get("overrides", {}).items())
    seeds = ", ".join(f"{entry['seed']}: {_percent(entry['rate'])}" for entry in result["per_seed"])
    pairs = (
        f"goals {protocol['goal_offset']} steps after the start, pairs solved at the start "
        f"{'removed' if protocol['drop_solved'] else 'kept'}, a budget of {protocol['budget']} steps"
    )
    planner = (
        f"{protocol['solver'].upper()} with {protocol['samples']} samples, {protocol['iterations']} iterations and "
        f"{protocol['elites']} elites over {protocol['horizon']} blocks of {protocol['action_block']} actions, "
        f"replanned after {protocol['receding_horizon']}"
    )
    return (
        f"**`{protocol['label']}`**, hash `{protocol['hash'][:12]}`{f' (differs in {changes})' if changes else ''}: "
        f"{pairs}. {planner}. n = {result['success']['n']}; per seed {seeds}. {planning['seconds_per_plan']:.3g} s per "
        f"plan, {planning['num_envs']} problems at a time, on {result['hardware']['device_name']}. Finished "
        f"{result['finished'][:10]}, outcomes `{result['rows_hash'][:12]}`."
    )


def _command(result: Mapping[str, Any], facts: "CardFacts") -> str:
    """What measures a result again."""
    protocol = result["protocol"]
    words = ["lewm", "eval", facts.repo_id, "--env", _short_name(result["env"]["id"])]
    if (result.get("dataset") or {}).get("source"):
        words += ["--episodes", facts.dataset_id]
    words += ["--protocol", protocol["name"]]
    for name, value in protocol.get("overrides", {}).items():
        words += ["--set", f"{name}={value}"]
    words += ["-n", str(result["per_seed"][0]["n"])]
    return shlex.join([*words, "--seeds", *(str(entry["seed"]) for entry in result["per_seed"])])


def _short_name(env_id: str) -> str:
    """`"lewm/TwoRoom-v0"` -> `"two_room"`, as the command line calls it."""
    name = env_id.partition("/")[2].rpartition("-v")[0]
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _usage(source: str, config: LeWMConfig, remote_code: bool) -> str:
    steps = 5 * config.frameskip
    text = f"""```python
from PIL import Image
from lewm_hf import LeWMPlanner

planner = LeWMPlanner.from_pretrained("{source}")
plan = planner({{"observation": Image.open("now.png"), "goal": Image.open("goal.png")}})
plan["actions"]  # ({steps}, {config.action_dim}) float32, environment units: just execute them
plan["cost"]     # squared latent distance of the imagined end from the goal
```"""
    if remote_code:
        text += f"""

Where `lewm-hf` is not installed, with the code of this repository:

```python
from transformers import pipeline

planner = pipeline(model="{source}", trust_remote_code=True)
```"""
    return text


def _interface(config: LeWMConfig) -> str:
    size, block = config.image_size, config.action_block_size
    statistics = "none" if config.action_mean is None else _statistics(config)
    return f"""| | shape | content |
|---|---|---|
| observation, goal | `(H, W, 3)` | RGB, uint8; resized to {size} x {size}, ImageNet statistics |
| `pixel_values` | `(batch, time, 3, {size}, {size})` | float32, from the image processor |
| embeddings | `(batch, time, {config.embed_dim})` | float32, no unit |
| action blocks | `(batch, time, {block})` | {config.frameskip} actions of {config.action_dim} dimensions, z-scored |
| planned actions | `(horizon * {config.frameskip}, {config.action_dim})` | float32, environment units |

The predictor sees at most {config.history_size} frames, {config.frameskip} environment steps apart. Action \
statistics: {statistics}."""


def _statistics(config: LeWMConfig) -> str:
    mean, std = ([round(value, 4) for value in values] for values in (config.action_mean, config.action_std))
    return f"mean {mean}, population std {std}; exact in `config.json`"


def _data(facts: "CardFacts") -> str:
    link = f"[`{facts.dataset_id}`](https://huggingface.co/datasets/{facts.dataset_id})"
    text = f"{link} at revision `{facts.dataset_revision}`; license {facts.data_license}. "
    if facts.training:
        text += (
            "Split `train`; splits are by episode, the test episodes were not trained on. Fingerprint of the training "
            f"episodes: `{facts.training['train_fingerprint'][:12]}`."
        )
        return f"{text} Action statistics were measured on these episodes."
    text += "Split: the original code holds out windows and no episodes; which ones has not been published."
    if facts.config.action_statistics_source:
        text += f" Action statistics: {published(facts.config.action_statistics_source)}."
    return text


def _training(facts: "CardFacts") -> str:
    training, recipe = facts.training, facts.training["recipe"]
    hours = training["seconds"] * training["num_processes"] / 3600
    rows = "\n".join(
        f"| `{name}` | {_plain(value)} |" for name, value in published(recipe).items() if name not in _NOT_RECIPE
    )
    return f"""## Training

{training["steps"]:,} steps ({training["epochs"]:.2f} epochs over {training["train_windows"]:,} windows), batch \
{recipe["batch_size"]}, precision {training["mixed_precision"]}, seed {recipe["seed"]}; {hours:.2f} device hours on \
{training["num_processes"]} x {training["hardware"]["device_name"]}.

<details><summary>Recipe</summary>

| key | value |
|---|---|
{rows}

</details>"""


def _conversion(conversion: Mapping[str, Any]) -> str:
    revision = f" at revision `{conversion['revision']}`" if conversion.get("revision") else ""
    release = conversion.get("release")
    known = f"the weights of the release `{release}`" if release else "**weights of no known release**"
    return f"""## Source

Converted by {conversion["converter"]} from `{conversion["source"]}`{revision}: {known}, \
SHA-256 `{conversion["weights_sha256"]}`. All {conversion["tensors"]} tensors are here, with the same numbers. How \
many steps and with which seed they were trained has not been published."""


def _deviations(facts: "CardFacts") -> str:
    defaults = LeWMConfig()
    rows = [
        (name, getattr(facts.config, name), getattr(defaults, name))
        for name in LeWMConfig.__annotations__
        if name not in _NOT_ARCHITECTURE and getattr(facts.config, name) != getattr(defaults, name)
    ]
    if facts.training:
        recipe = facts.training["recipe"]
        rows += [(name, recipe.get(name), value) for name, value in PAPER_RECIPE.items() if recipe.get(name) != value]
    if not rows:
        return "None of architecture or recipe."
    lines = [f"| `{name}` | {_plain(here)} | {_plain(there)} |" for name, here, there in rows]
    return "\n".join(["| | here | paper and released weights |", "|---|---|---|", *lines])


def _limits(facts: "CardFacts") -> str:
    protocols = ", ".join(f"`{result['protocol']['label']}`" for result in facts.results)
    return (
        f"Knows one environment, `{facts.env_id}`, in the look of its training episodes. Success was measured under "
        f"{protocols} and nowhere else; goals further away than the protocol's, other looks and real cameras are "
        "untested. A plan is open loop: replan from new pictures. The cost is a distance in the embedding and no "
        "probability of success."
    )


def _versions(facts: "CardFacts") -> str:
    used: dict[str, list[str]] = {}
    if facts.training:
        used.setdefault(_joined(facts.training["versions"]), []).append("trained")
    for result in facts.results:
        used.setdefault(_joined(result["versions"]), []).append(f"measured under `{result['protocol']['label']}`")
    return "\n\n".join(f"{', '.join(what).capitalize()}: {versions}." for versions, what in used.items())


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _rate(rate: Mapping[str, Any]) -> str:
    return f"{_percent(rate['rate'])} {_spread(rate)}"


def _spread(rate: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in rate["interval"])
    return f"({low:.1f}-{high:.1f}; {rate['successes']} of {rate['n']})"


def _joined(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "unset" if value is None else str(value)
