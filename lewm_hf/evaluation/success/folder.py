"""The folder of an evaluation: whether it may be written, and what is written into it."""

from pathlib import Path

from ..common.outputs import clear
from ..common.provenance import hardware, library_versions
from ..common.results import EpisodeRow, write_result, write_rows
from .acting import describe_policy, seen_frames
from .filming import film
from .prepare import Prepared
from .result import EvaluationResult
from .unfinished import WRITTEN, SeedResult, Unfinished, model_content, shown_pictures


def reserve(task: Prepared) -> Unfinished:
    """Looks whether an evaluation may be written to its `out`; touches nothing.

    Returns:
        What was measured of the same evaluation before it was interrupted.

    Raises:
        ValueError: where `out` holds another evaluation and `overwrite` is not given.
    """
    shared = {
        "model": task.agent.facts().fingerprint,
        "model configuration": model_content(task.agent.model, task.agent.processor),
        # How many pairs and seeds is a choice of the run.
        "protocol": task.protocol.to_dict() | {"pairs": None, "seeds": None},
        "planner": describe_policy(task.policy, task.planner),
        "environment": [task.env_id, task.env_kwargs, task.judging.rule],
        "number of environments": task.num_envs,
        "choice of floors": task.given.floors,
        "set of versions": library_versions(),
        "machine": hardware(next(task.agent.model.parameters()).device),
    }
    contents = {
        one.seed: {
            "seed": one.seed,
            "set of pairs": one.hash,
            "set of pictures": shown_pictures(task.episodes, one, task.protocol),
            **shared,
        }
        for one in task.manifests
    }
    assert task.given.out is not None, "files are written where a folder was given"
    kept = Unfinished(task.given.out, contents)
    kept.check(task.given.overwrite)
    return kept


def write_files(
    task: Prepared,
    kept: Unfinished,
    rows: list[EpisodeRow],
    result: EvaluationResult,
    measured: list[SeedResult],
) -> list[Path]:
    """Writes all files of a complete evaluation, films among them, and removes what was kept of it before.

    Args:
        task: what was prepared.
        kept: what `reserve` returned for it.
        rows, result: of all seeds.
        measured: each seed's.

    Returns:
        The films' files, failures first.
    """
    given, out = task.given, kept.out
    clear(out, WRITTEN)
    outcomes = [outcome for seed in measured for outcome in seed.outcomes]
    files = film(
        out / "videos", task.agent, task.env_id, task.env_kwargs, task.manifests, outcomes,
        task.protocol.first_frame, seen_frames(task.policy, task.planner, task.agent), task.episodes, given.videos,
        given.video_successes, task.decoder,
    )  # fmt: skip
    for one in task.manifests:
        one.save(out / "manifests" / f"seed-{one.seed}.json")
    write_rows(out / "episodes.jsonl", rows)
    # Last: where it exists the folder is complete.
    write_result(out / "results.json", result)
    kept.remove()
    return files
