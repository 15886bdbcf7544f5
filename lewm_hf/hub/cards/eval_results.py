"""`.eval_results/*.yaml`: what was measured, in the form that the Hub collects into leaderboards.

It stands beside the `model-index` of the card, which the Hub calls its older form. The Hub shows an entry once its data
set is registered there as a benchmark with this task.
"""

from collections.abc import Mapping
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml, parse_eval_result_entries
from huggingface_hub.constants import EVAL_RESULTS_FOLDER

from ...evaluation.success.result import EvaluationResult
from .facts import CardFacts
from .results import dataset_of

EVAL_RESULTS_FILE = f"{EVAL_RESULTS_FOLDER}/planning.yaml"


def eval_results_text(facts: CardFacts, sources: Mapping[int, str]) -> str | None:
    """The content of `.eval_results/planning.yaml`: one entry per evaluation, its success rate in [0, 1].

    Pairs that ship or were given without episodes are results on no data set of the Hub, and have no entry. `None`
    where no evaluation has one.

    Args:
        facts: of the card.
        sources: number of a result -> its `results.json` within the repository, for those that are uploaded with it.
    """
    entries = [
        _entry(result, facts, sources.get(number))
        for number, result in enumerate(facts.results)
        if dataset_of(result, facts)[0] is not None
    ]
    if not entries:
        return None
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=120)
    check_eval_results(text, EVAL_RESULTS_FILE)
    return text


def _entry(result: EvaluationResult, facts: CardFacts, source: str | None) -> EvalResultEntry:
    protocol, success, floor = result.protocol, result.success, result.floors["random"]
    low, high = (100 * end for end in success.interval)
    dataset_id, revision = dataset_of(result, facts)
    return EvalResultEntry(
        dataset_id=dataset_id,
        task_id=task_id(result),
        dataset_revision=revision,
        value=round(success.rate, 4),
        date=result.finished,
        source_url=source and f"https://huggingface.co/{facts.repo_id}/blob/main/{source}",
        source_name=source and "results.json",
        notes=(
            f"success rate; protocol {protocol['label']}, hash {protocol['hash'][:12]}; planner "
            f"{result.planner['label']}, hash {result.planner['hash'][:12]}; n = {success.n}, Wilson "
            f"95 % {low:.1f}-{high:.1f}; random actions {100 * floor.rate:.1f} %; lewm-hf"
        ),
    )


def task_id(result: EvaluationResult) -> str:
    """`"clean-50"`, protocol and goal offset, with the beginning of the hash where anything else was changed; after it
    who acted, where that is not the protocol's own planner.
    """
    protocol, planner = result.protocol, result.planner
    name = f"{protocol['name']}-{protocol['goal_offset']}"
    further = set(protocol["overrides"]) == {"goal_offset", "budget"}  # `lewm eval --offset` and no more
    standard = not protocol["overrides"] or (further and protocol["budget"] == 2 * protocol["goal_offset"])
    name = name if standard else f"{name}-{protocol['hash'][:8]}"
    if planner["overrides"]:
        return f"{name}-{planner['name']}-{planner['hash'][:8]}"
    return name if planner["name"] == protocol["default_planner"] else f"{name}-{planner['name']}"


def check_eval_results(text: str, name: str) -> None:
    """Validates a file of evaluation results with the Hub library's own reader.

    Raises:
        ValueError: one line that names the file.
    """
    try:
        content = yaml.safe_load(text)
        if not isinstance(content, list) or not content:
            raise ValueError("it holds no list of results")
        for entry in parse_eval_result_entries(content):
            if not isinstance(entry.value, int | float) or isinstance(entry.value, bool):
                raise ValueError(f"value {entry.value!r} is not a number")
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} holds no evaluation results ({reason}): write it again with `lewm card`") from error


def eval_result_files(folder: Path) -> list[Path]:
    """The files of evaluation results of a model folder."""
    return sorted((folder / EVAL_RESULTS_FOLDER).glob("*.yaml"))
