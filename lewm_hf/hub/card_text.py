"""The prose of model cards. Every figure comes from the facts; what is fixed text is true of every LeWM."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..configuration_lewm import LeWMConfig

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
# Fields that belong to the task or the software, not to the paper's model.
_NOT_ARCHITECTURE = ("action_dim", "action_mean", "action_std", "action_statistics_source")


def model_text(facts: "CardFacts") -> str:
    """The body of a measured model card."""
    name = facts.repo_id.partition("/")[2]
    origin = _training(facts) if facts.training else _conversion(facts.conversion)
    sections = [
        f"# {name}\n\n{PAPER}, a world model learned from pixels, for `{facts.env_id}`; it plans from one picture to "
        "another by imagining futures in its embedding space.",
        f"## Results\n\n{_results(facts)}",
        f"## Use\n\n{_usage(facts.repo_id, facts.config, facts.remote_code)}",
        f"## Inputs and outputs\n\n{_interface(facts.config)}",
        origin,
        f"## Training data\n\n{_data(facts)}",
        f"## Deviations from the paper\n\n{_deviations(facts)}",
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
        "| protocol | success | random actions | excess | solved before the first action |",
        "|---|---|---|---|---|",
    ]
    details = []
    for result in facts.results:
        protocol, floor = result["protocol"], result["floors"]["random"]
        lines.append(
            f"| `{protocol['label']}`, {protocol['split']} episodes | {_rate(result['success'])} | "
            f"{_rate(floor)} | {100 * result['excess']['random']:+.1f} points | "
            f"{_percent(result['solved_at_start']['share'])} |"
        )
        seeds = ", ".join(f"{entry['seed']}: {_percent(entry['rate'])}" for entry in result["per_seed"])
        pairs = result["per_seed"][0]["n"]
        changes = ", ".join(f"{name}={value}" for name, value in protocol.get("overrides", {}).items())
        details.append(
            f"- `{protocol['label']}` (hash `{protocol['hash'][:12]}`{f'; differs in {changes}' if changes else ''}): "
            f"n = {result['success']['n']} start-goal pairs, per seed {seeds}; "
            f"{result['planning']['seconds_per_plan']:.3g} s per plan on {result['hardware']['device_name']}; finished "
            f"{result['finished']}; outcomes `{result['rows_hash'][:12]}`. Measure it again: "
            f"`lewm eval {facts.repo_id} --env {result['env']['id']} --protocol {protocol['name']} -n {pairs}`"
        )
    return "\n".join([*lines, "", "Intervals are Wilson's, 95 %. Random actions ran on the same pairs.", "", *details])


def _usage(source: str, config: LeWMConfig, remote_code: bool) -> str:
    shape = f"(5 * {config.frameskip}, {config.action_dim})"
    text = f"""```python
from PIL import Image
from lewm_hf import LeWMPlanner

planner = LeWMPlanner.from_pretrained("{source}")
plan = planner({{"observation": Image.open("now.png"), "goal": Image.open("goal.png")}})
plan["actions"]  # {shape} float32, environment units
plan["cost"]     # squared distance of the imagined end from the goal, in the embedding
```"""
    if remote_code:
        text += f"""

Without `lewm-hf` installed, with the code of this repository:

```python
from transformers import pipeline

planner = pipeline(model="{source}", trust_remote_code=True)
```"""
    return text


def _interface(config: LeWMConfig) -> str:
    size, block = config.image_size, config.action_block_size
    statistics = "none" if config.action_mean is None else f"mean {config.action_mean}, std {config.action_std}"
    return f"""| | shape | content |
|---|---|---|
| observation, goal | `(H, W, 3)` | RGB, uint8; resized to {size} x {size}, ImageNet statistics |
| `pixel_values` | `(batch, time, 3, {size}, {size})` | float32, from the image processor |
| embeddings | `(batch, time, {config.embed_dim})` | float32, no unit |
| action blocks | `(batch, time, {block})` | {config.frameskip} actions of {config.action_dim} dimensions, z-scored |
| planned actions | `(horizon * {config.frameskip}, {config.action_dim})` | float32, environment units |

The predictor sees at most {config.history_size} frames, {config.frameskip} environment steps apart. Action \
statistics: {statistics}."""


def _data(facts: "CardFacts") -> str:
    text = f"`{facts.dataset_id}` at revision `{facts.dataset_revision}`; license {facts.data_license}."
    if facts.training:
        text += f" Fingerprint of the training episodes: `{facts.training['train_fingerprint'][:12]}`."
    if facts.config.action_statistics_source:
        text += f" Action statistics: {facts.config.action_statistics_source}."
    return text


def _training(facts: "CardFacts") -> str:
    training, recipe = facts.training, facts.training["recipe"]
    hours = training["seconds"] * training["num_processes"] / 3600
    rows = "\n".join(f"| `{name}` | {_plain(value)} |" for name, value in recipe.items() if name != "dataset")
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
    lines = [
        f"- `{name}`: {_plain(getattr(facts.config, name))} (released weights: {_plain(getattr(defaults, name))})"
        for name in LeWMConfig.__annotations__
        if name not in _NOT_ARCHITECTURE and getattr(facts.config, name) != getattr(defaults, name)
    ]
    if facts.training:
        recipe = facts.training["recipe"]
        lines += [
            f"- `{name}`: {_plain(recipe.get(name))} (paper: {_plain(value)})"
            for name, value in PAPER_RECIPE.items()
            if recipe.get(name) != value
        ]
    return "\n".join(lines) or "None of architecture or recipe."


def _limits(facts: "CardFacts") -> str:
    protocols = ", ".join(f"`{result['protocol']['label']}`" for result in facts.results)
    return (
        f"Knows one environment, `{facts.env_id}`, in the look of its training episodes. Success was measured under "
        f"{protocols} and nowhere else; goals further away than the protocol's, other looks and real cameras are "
        "untested. A plan is open loop: replan from new pictures. The cost is a distance in the embedding and no "
        "probability of success."
    )


def _versions(facts: "CardFacts") -> str:
    lines = []
    if facts.training:
        lines.append(f"Trained with {_joined(facts.training['versions'])}.")
    for result in facts.results:
        lines.append(f"`{result['protocol']['label']}` measured with {_joined(result['versions'])}.")
    return "\n\n".join(lines)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _rate(rate: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in rate["interval"])
    return f"{_percent(rate['rate'])} ({low:.1f}-{high:.1f}; {rate['successes']} of {rate['n']})"


def _joined(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _plain(value: Any) -> str:
    return "unset" if value is None else str(value)
