"""Published checkpoints -> folders that `from_pretrained` reads, with nothing lost, guessed or executed."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from torch import Tensor

from ... import __version__
from ...configuration_lewm import LeWMConfig
from ...data.storage.local_paths import relative
from ...folders import check_new_folder, new_folder
from ...image_processing_lewm import LeWMImageProcessor
from ...modeling_lewm import LeWMModel
from ..cards.write import conversion_card
from .action_statistics import ActionStatistics, measure_actions
from .keys import convert_state_dict
from .original_config import read_original_config
from .released import CONFIG_FILE, FRAMESKIP, RELEASES, WEIGHTS_FILE, Release, find_release, released_config
from .weights import SUFFIXES, read_state_dict, sha256

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PROVENANCE_FILE = "conversion.json"


@dataclass(frozen=True)
class Conversion:
    """What `convert` did; also the content of `conversion.json`, less `out`.

    Args:
        out: the new folder.
        source: Hub id, or name of the local folder or file.
        revision: commit of a Hub checkpoint.
        weights_sha256, config_sha256: of the files that were read; the latter is `None` where the config of the
            release was used because no file lay beside the weights.
        release: repository of the release that the weights are, `None` for other weights.
        tensors: number of published tensors, all of which are in the new file.
        parameters: number of trainable parameters.
        action_statistics: measured on a data set; `None` without one, and planning then refuses to run.
        converter: name and version of this package.
    """

    out: Path
    source: str
    revision: str | None
    weights_sha256: str
    config_sha256: str | None
    release: str | None
    tensors: int
    parameters: int
    action_statistics: ActionStatistics | None
    converter: str = f"lewm-hf {__version__}"

    def facts(self) -> dict[str, Any]:
        """Plain values for `conversion.json`."""
        values = asdict(self)
        del values["out"]
        return values

    def summary(self) -> str:
        """What happened, for a terminal."""
        statistics = self.action_statistics
        known = "weights of the release" if self.release else "weights of no known release"
        lines = [
            f"{self.source}{f' at {self.revision[:12]}' if self.revision else ''} -> {self.out}",
            f"{self.tensors} of {self.tensors} tensors, {self.parameters:,} parameters, {known} "
            f"(SHA-256 {self.weights_sha256[:12]}...)",
        ]
        if statistics is None:
            lines.append(
                "action statistics: none. The published files hold none, so planning will refuse to run: convert again "
                "with --dataset, the data set that the checkpoint was trained on"
            )
        else:
            lines.append(f"action statistics: {statistics.source}; mean {statistics.mean}, std {statistics.std}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Source:
    """The files of a checkpoint, on this machine."""

    name: str
    weights: Path
    config: Path | None
    release: Release | None = None  # what the files must be
    revision: str | None = None


def convert(
    source: str | Path,
    *,
    out: str | Path,
    dataset: str | Path | None = None,
    dataset_revision: str | None = None,
    allow_unknown_weights: bool = False,
    revision: str | None = None,
    frameskip: int = FRAMESKIP,
    token: str | bool | None = None,
) -> Conversion:
    """Converts a checkpoint in the published layout into `out`: safetensors, configs and a card.

    Args:
        source: Hub id of a published checkpoint, or a local folder with `config.json` and one weights file, or a
            weights file with `config.json` beside it (the files of the four releases need none).
        out: a new or empty folder. It appears when everything has been checked and written, and not before.
        dataset: directory or Hub id of episodes, or released HDF5 file; its actions are measured, because the published
            files do not say how actions were scaled. Without it, planning will refuse to run.
        dataset_revision: of a Hub data set.
        allow_unknown_weights: also convert files whose SHA-256 is not that of a release.
        revision: of a Hub checkpoint. Default: the pinned one.
        frameskip: environment steps of one action block. The published config gives the block's width alone.
        token: for private repositories.

    Raises:
        ValueError, OSError: one line, for an unknown or damaged file, one that holds more than tensors, a tensor that
            is missing, left over or of another shape, a config that contradicts itself, the weights or the data set.
    """
    out = Path(out)
    check_new_folder(out)
    if dataset is None and dataset_revision is not None:
        raise ValueError(f"dataset_revision={dataset_revision} is of no data set: give dataset too")
    found = _find(source, allow_unknown_weights, revision, token)
    weights_hash = sha256(found.weights)
    release = find_release(weights_sha256=weights_hash)
    if not allow_unknown_weights:
        _check_weights_hash(found, weights_hash, release)
    original, config_hash = _read_config(found, release, allow_unknown_weights)
    config = read_original_config(original, frameskip)
    released = read_state_dict(found.weights)
    state = _checked(convert_state_dict(released), config, len(released))
    statistics = measure_actions(dataset, dataset_revision, token) if dataset is not None else None
    if statistics is not None:
        _set_statistics(config, statistics)

    model = LeWMModel.from_pretrained(None, config=config, state_dict=state)
    conversion = Conversion(
        out=out,
        source=found.name,
        revision=found.revision,
        weights_sha256=weights_hash,
        config_sha256=config_hash,
        release=release.repo_id if release else None,
        tensors=len(released),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        action_statistics=statistics,
    )
    with new_folder(out) as folder:
        model.save_pretrained(folder)
        LeWMImageProcessor(image_size=config.image_size).save_pretrained(folder)
        (folder / PROVENANCE_FILE).write_text(json.dumps(conversion.facts(), indent=2) + "\n", encoding="utf-8")
        card = conversion_card(conversion.facts(), config, relative(out.as_posix()))
        (folder / "README.md").write_text(card, encoding="utf-8")
    logger.info("converted %s: %d tensors", found.name, len(released))
    return conversion


def _find(source: str | Path, allow_unknown: bool, revision: str | None, token: str | bool | None) -> _Source:
    path = Path(source)
    if path.is_dir():
        _refuse_converted(path / CONFIG_FILE, path)
        return _Source(path.resolve().name, _only_weights(path), path / CONFIG_FILE)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is not a weights file: expected one of {', '.join(SUFFIXES)}")
        config = path.with_name(CONFIG_FILE)
        _refuse_converted(config, path)
        return _Source(path.name, path, config if config.exists() else None)
    if not HUB_ID.fullmatch(str(source)):
        raise FileNotFoundError(f"there is no checkpoint {source}: give a folder, a weights file or a Hub id org/name")
    return _download(str(source), allow_unknown, revision, token)


def _download(repo_id: str, allow_unknown: bool, revision: str | None, token: str | bool | None) -> _Source:
    release = find_release(repo_id=repo_id)
    revision = revision or (release.revision if release else None)
    config = _fetch(repo_id, CONFIG_FILE, revision, token)
    _refuse_converted(config, repo_id)
    if release is None and not allow_unknown:
        raise ValueError(
            f"{repo_id} is not a known release ({_known()}): check the id, or add --allow-unknown-weights to convert "
            "it all the same"
        )
    weights = _fetch(repo_id, WEIGHTS_FILE, revision, token)
    # The Hub's cache keeps each file in a folder named after its commit.
    return _Source(repo_id, weights, config, release, weights.parent.name)


def _known() -> str:
    return ", ".join(known.repo_id for known in RELEASES)


def _fetch(repo_id: str, name: str, revision: str | None, token: str | bool | None) -> Path:
    try:
        return Path(hf_hub_download(repo_id, name, revision=revision, token=token))
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        at = f" at revision {revision}" if revision else ""
        raise OSError(
            f"{name} of {repo_id}{at} cannot be fetched ({reason}): check the id (releases: {_known()}), the network "
            "and the token, or give a local copy of the folder"
        ) from error


def _refuse_converted(config: Path, source: object) -> None:
    """Before anything else is asked of it: whatever advice came first would lead here."""
    kind = _parsed(config).get("model_type") if config.exists() else None
    if kind is not None:
        raise ValueError(
            f"{source} is a checkpoint of transformers already (model_type={kind!r}) and needs no converting: load it "
            "with AutoModel.from_pretrained, or with LeWMPlanner.from_pretrained to plan"
        )


def _parsed(config: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is not valid JSON ({error}): fetch it again") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{config} holds {type(found).__name__}, expected an object with _target_: fetch it again")
    return found


def _only_weights(folder: Path) -> Path:
    if (folder / WEIGHTS_FILE).exists():
        return folder / WEIGHTS_FILE
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{folder} holds no weights file ({', '.join(SUFFIXES)}): give another folder")
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:4])
        raise ValueError(f"{folder} holds several weights files ({names}): give the path of the one to convert")
    return files[0]


def _check_weights_hash(found: _Source, weights_hash: str, release: Release | None) -> None:
    if found.release is not None and weights_hash != found.release.weights_sha256:
        raise ValueError(
            f"{found.weights} has SHA-256 {weights_hash}, but {found.name} was published with "
            f"{found.release.weights_sha256}: the download is damaged or the repository has changed; delete that file "
            "and convert again, or add --allow-unknown-weights to convert it all the same"
        )
    if release is None:
        raise ValueError(
            f"{found.weights} has SHA-256 {weights_hash}, which is none of the published checkpoints': fetch it again, "
            "or add --allow-unknown-weights to convert it all the same"
        )


def _read_config(found: _Source, release: Release | None, allow_unknown: bool) -> tuple[Any, str | None]:
    """The original config and the SHA-256 of its file."""
    if found.config is None:
        if release is None:
            raise FileNotFoundError(
                f"there is no {CONFIG_FILE} beside {found.weights}: put the checkpoint's config there, sizes cannot be "
                "told from weights alone"
            )
        return released_config(release.action_dim), None
    if not found.config.exists():
        raise FileNotFoundError(f"{found.config.parent} has no {CONFIG_FILE}: put the checkpoint's config there")
    config_hash = sha256(found.config)
    if release is not None and config_hash != release.config_sha256 and not allow_unknown:
        raise ValueError(
            f"{found.config} has SHA-256 {config_hash}, but these weights were published with "
            f"{release.config_sha256}: fetch both again, or add --allow-unknown-weights to convert all the same"
        )
    return _parsed(found.config), config_hash


def _checked(state: Mapping[str, Tensor], config: LeWMConfig, count: int) -> dict[str, Tensor]:
    """The converted tensors, if they are exactly those that the config asks for."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in LeWMModel(config).state_dict().items()}
    missing, left = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    shaped = [name for name in expected.keys() & state.keys() if state[name].shape != expected[name]]
    if missing or left or shaped:
        parts = [
            f"{len(names)} {what} such as {names[0]}"
            for what, names in (("missing", missing), ("left over", left))
            if names
        ]
        if shaped:
            name = min(shaped)
            parts.append(
                f"{len(shaped)} of another shape such as {name} {tuple(state[name].shape)}, where the config asks for "
                f"{tuple(expected[name])}"
            )
        raise ValueError(
            f"the {count} tensors of the checkpoint are not those of its config ({'; '.join(parts)}): the files belong "
            "to different checkpoints, or this is another architecture"
        )
    for name, tensor in state.items():
        counter = name.endswith("num_batches_tracked")
        if tensor.dtype != (torch.int64 if counter else torch.float32):
            raise ValueError(f"tensor {name} has type {tensor.dtype}: published checkpoints hold float32 weights")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"tensor {name} holds NaN or infinite values: the checkpoint is damaged")
    # Views into larger storages would be saved with all they do not show.
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _set_statistics(config: LeWMConfig, statistics: ActionStatistics) -> None:
    if len(statistics.mean) != config.action_dim:
        raise ValueError(
            f"{statistics.dataset} has {len(statistics.mean)} action dimensions, but the checkpoint takes blocks of "
            f"{config.action_block_size} = frameskip {config.frameskip} x {config.action_dim}: give the data set that "
            "it was trained on"
        )
    config.action_mean, config.action_std = statistics.mean, statistics.std
    config.action_statistics_source = statistics.source
