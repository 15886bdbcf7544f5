"""A data set's description: `episodes.json` for programs, `README.md` for people, both measured on the files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import DatasetCard, DatasetCardData

from ...files import local_folder, replacing, size_text
from ..schema import ACTION, BLOCK_MEANINGS, COLUMN_MEANINGS, IMAGE, SIM_STATE
from ..statistics import GOAL_OFFSET, QUANTILES, Facts, measure
from .layout import SPLITS, check_files, split_files, viewer_patterns
from .lerobot import TAG, check_metadata, finished_metadata, is_lerobot
from .licenses import license_of
from .local_paths import published
from .parquet import matrix, read_columns, read_metadata, renumber

DESCRIPTION_FILE = "episodes.json"
CARD_FILE = "README.md"
FORMAT = "lewm-episodes-2"
READABLE = ("lewm-episodes-1", FORMAT)
FACTS_TITLE = "## Measured facts"
SIZE_CATEGORIES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


def read_description(directory: Path) -> dict[str, Any] | None:
    """The content of `episodes.json`, `None` without that file.

    Raises:
        ValueError: one line where it is no description of episodes.
    """
    path = directory / DESCRIPTION_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): restore it, or collect into a new directory") from error
    if not isinstance(content, dict) or content.get("format") not in READABLE:
        found = content.get("format") if isinstance(content, dict) else None
        raise ValueError(f"{path} has format {found!r}, this version reads {FORMAT!r}: use the version that wrote it")
    return content


def write_description(directory: Path, description: Mapping[str, Any]) -> None:
    """Writes `episodes.json`, one line per entry."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in description.items())
    with replacing(directory / DESCRIPTION_FILE) as temporary:
        temporary.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def check_complete(
    directory: Path, description: Mapping[str, Any] | None = None, splits: Iterable[str] | None = None
) -> None:
    """Whether all episode files are there, by their names alone.

    Args:
        directory: of a data set.
        description: the content of its `episodes.json`, where there is one.
        splits: those to look at. Default: all.

    Raises:
        ValueError: one line that names a missing file, or says that the collection is not finished.
    """
    if description is not None and "splits" not in description:
        raise ValueError(f"{directory} is not finished: run the command that collects it again")
    described = [split for split, value in (description or {}).get("splits", {}).items() if value["episodes"]]
    check_files(directory, description, splits, described)


def finish_dataset(directory: Path, description: Mapping[str, Any]) -> Facts:
    """Turns complete episode files into a data set: final row numbers, card and description.

    Args:
        directory: holds complete episode files.
        description: `env` (id or `None`), `env_kwargs`, `image_size`, `fps`, `collector` (provenance), `versions`, and
            `columns` where not all are there.
    """
    files = split_files(directory, description)
    renumber([path for paths in files.values() for path in paths])
    facts, splits = measure_directory(directory, description)
    finished = {
        **description,
        "action_mean": facts.action_mean,
        "action_std": facts.action_std,
        "splits": splits,
    }
    lerobot = finished_metadata(directory, finished)
    with replacing(directory / CARD_FILE) as temporary:
        temporary.write_text(render_card(finished, facts, lerobot), encoding="utf-8")
    write_description(directory, finished)
    return facts


def measure_directory(directory: Path, description: Mapping[str, Any]) -> tuple[Facts, dict[str, Any]]:
    """Measures the episode files of a directory.

    Returns:
        The facts; split -> `{"episodes": indices, "lengths": rows of each}`.

    Raises:
        ValueError: one line where there are none, or a file is damaged.
    """
    files = split_files(directory, description)
    paths = [path for split in files.values() for path in split]
    if not paths:
        raise ValueError(f"{directory} has no episode files: collect or import episodes into it first")
    splits, lengths = {}, {}
    for split, members in files.items():
        index = read_columns(members, ["episode_index"]).column(0).to_numpy()
        starts = np.flatnonzero(np.r_[True, index[1:] != index[:-1]])
        lengths[split] = np.diff(np.r_[starts, len(index)])
        splits[split] = {"episodes": index[starts].tolist(), "lengths": lengths[split].tolist()}
    names = read_metadata(paths[0]).schema.to_arrow_schema().names
    wanted = [name for name in (ACTION, "next.success", SIM_STATE) if name in names]
    table = read_columns(paths, wanted)
    reached = None
    if description.get("env"):
        from ...tasks.registry import make_env  # those who only read need no environment

        env = make_env(description["env"], **description["env_kwargs"])
        env.reset(seed=0, options={"goal_image": False})
        reached = env.reached if env.knows_pairs else None
    facts = measure(
        lengths,
        matrix(table.column(ACTION)),
        table.column("next.success").to_numpy() if "next.success" in wanted else None,
        matrix(table.column(SIM_STATE)) if SIM_STATE in wanted else None,
        reached,
        _frame_bytes(paths),
        description.get("every", 1),
    )
    if description.get("env"):
        env.close()
    return facts, splits


def data_stats(directory: str | Path) -> Facts:
    """Measures a data set again and compares with what its card and its description say.

    Raises:
        FileNotFoundError, ValueError: one line, naming the first statement that is not true of the files.
    """
    directory = local_folder(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no directory {directory}: give the directory of a data set")
    description = read_description(directory)
    if description is None:
        raise ValueError(f"{directory} has no {DESCRIPTION_FILE}: collect or import the episodes with this package")
    if "splits" not in description:
        raise ValueError(f"{directory} is not finished: run the command that collects it again")
    card = directory / CARD_FILE
    if not card.exists():
        raise ValueError(f"{directory} has no {CARD_FILE}: run the command that collected it again")
    facts, splits = measure_directory(directory, description)
    if is_lerobot(directory):
        check_metadata(directory, description)
    for split in SPLITS:
        said, found = description["splits"].get(split), splits.get(split)
        if said != found:
            count = len(found["episodes"]) if found else 0
            raise ValueError(
                f"{DESCRIPTION_FILE} describes {len(said['episodes']) if said else 0} {split} episodes, the files hold "
                f"{count} or others: restore the files, or collect again"
            )
    stated = _read_table(card.read_text(encoding="utf-8"))
    for name, value in fact_rows(facts):
        if stated.get(name) != value:
            raise ValueError(f"{card} says {name!r} is {stated.get(name)!r}, the files say {value!r}: correct the card")
    for name in ("action_mean", "action_std"):
        if name in description and not np.allclose(description[name], getattr(facts, name), rtol=1e-9, atol=1e-12):
            raise ValueError(f"{DESCRIPTION_FILE} says {name}={description[name]}, the files {getattr(facts, name)}")
    return facts


def fact_rows(facts: Facts) -> list[tuple[str, str]]:
    """The facts as the card prints them: (name, value)."""
    quantiles = ", ".join(
        f"{'min' if q == 0 else 'max' if q == 100 else f'{q} %'} {value:g}"
        for q, value in zip(QUANTILES, facts.length_quantiles, strict=True)
    )
    return [
        ("episodes", _by_split(facts, 0)),
        ("rows (frames)", _by_split(facts, 1)),
        ("rows per episode", f"mean {facts.length_mean:.2f}; {quantiles}"),
        ("action mean", _vector(facts.action_mean)),
        ("action std (population)", _vector(facts.action_std)),
        ("action range", f"{_vector(facts.action_min)} to {_vector(facts.action_max)}"),
        ("action lag-1 autocorrelation", _vector(facts.action_autocorrelation)),
        ("successful episodes", _share(facts.successful_episodes)),
        (f"(t, t+{GOAL_OFFSET}) pairs already solved at t", _share(facts.solved_pairs)),
        ("bytes per stored frame", f"{facts.frame_bytes:.0f}"),
        ("bytes of all frames", size_text(facts.frame_bytes * facts.rows)),
    ]


def render_card(description: Mapping[str, Any], facts: Facts, lerobot: bool) -> str:
    """The text of `README.md`: YAML header for the Hub, then what was measured and how it was collected.

    Args:
        lerobot: whether lerobot opens the data set; the Hub's tag says it of no other.
    """
    data = DatasetCardData(
        **license_of(description),
        task_categories=["robotics"],
        tags=[
            *([TAG] if lerobot else []),
            "lewm",
            "world-model",
            "reinforcement-learning",
            *env_tag(description.get("env")),
        ],
        size_categories=[next((name for bound, name in SIZE_CATEGORIES if facts.rows < bound), "n>10M")],
        configs=[
            {
                "config_name": "default",
                "data_files": viewer_patterns(facts.splits, description),
            }
        ],
    )
    name, every = description.get("env") or "Imported", description.get("every", 1)
    present = description.get("columns", list(COLUMN_MEANINGS))
    meanings = COLUMN_MEANINGS | (BLOCK_MEANINGS if every > 1 else {})
    env_with = ", ".join(f"{key}={value!r}" for key, value in published(description["env_kwargs"]).items())
    phase = f" Every {every}th step is kept, from a random one of an episode's first {every} on." if every > 1 else ""
    with as_file(files("lewm_hf.data.storage") / "templates" / "dataset_card.md") as template:
        card = DatasetCard.from_template(
            data,
            template_path=str(template),
            name=name,
            lerobot=lerobot,
            pace=f"frame, every {every} simulator steps" if every > 1 else "frame",
            facts_title=FACTS_TITLE,
            facts=fact_rows(facts),
            environment=f"`{name}` with {env_with}" if description.get("env") else "unknown",
            fps=description["fps"],
            phase=phase,
            provenance=[(key, _plain(value)) for key, value in published(description["collector"]).items()],
            versions=", ".join(f"{package} {version}" for package, version in description["versions"].items()),
            columns=[(column, meanings.get(column, "as recorded").format(every=every)) for column in present],
        )
    return f"{card}\n"


def env_tag(env_id: str | None) -> list[str]:
    """A tag of the Hub's metadata out of a gymnasium id: `["tworoom"]` of `"lewm/TwoRoom-v0"`; none without an id."""
    return [env_id.rpartition(":")[2].rpartition("/")[2].partition("-")[0].lower()] if env_id else []


def _read_table(card: str) -> dict[str, str]:
    section = card.partition(FACTS_TITLE)[2].partition("\n## ")[0]
    cells = (line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("| "))
    return {row[0].strip(): row[1].strip() for row in cells if len(row) == 2}


def _by_split(facts: Facts, which: int) -> str:
    total = (facts.episodes, facts.rows)[which]
    parts = ", ".join(f"{split} {numbers[which]:,}" for split, numbers in facts.splits.items())
    return f"{total:,} ({parts})"


def _vector(values: Sequence[float | None]) -> str:
    return "[" + ", ".join("undefined" if value is None else f"{value:.4f}" for value in values) + "]"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.2f} %"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _frame_bytes(paths: list[Path]) -> float:
    """What a frame takes in the files on average, from their footers."""
    total = rows = 0
    for path in paths:
        metadata = read_metadata(path)
        rows += metadata.num_rows
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                column = metadata.row_group(group).column(number)
                if column.path_in_schema == f"{IMAGE}.bytes":
                    total += column.total_compressed_size
    return total / rows
