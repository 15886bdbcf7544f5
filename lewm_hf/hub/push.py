"""Uploads: a model folder, a data set or both; what would go can be listed first, and only what belongs there goes."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import DatasetCard, HfApi, ModelCard
from huggingface_hub.constants import EVAL_RESULTS_FOLDER

# HTTPError is the HTTP library's own base class, whichever library this version of the client uses.
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session, hf_raise_for_status

from ..data.storage.dataset_card import check_complete, read_description
from ..data.storage.lerobot import INFO_FILE, TAG, check_metadata, is_lerobot
from ..data.storage.lerobot_copy import write_lerobot
from ..data.storage.local_paths import SUFFIXES, clean_text
from ..files import size_text
from .cards.checks import CARD_FILE, check_card, check_folder, check_repo_id, read_json, weight_files
from .cards.eval_results import check_eval_results, eval_result_files

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

REQUIRED = {
    "model": (CARD_FILE, "config.json", "preprocessor_config.json"),
    "dataset": (CARD_FILE, "episodes.json"),
}
# And a model's weights. Everything else stays at home: optimizer states, random states, logs, caches, leftovers.
BELONGS = {
    "model": (
        CARD_FILE, "LICENSE*", "config.json", "preprocessor_config.json", "training.json", "conversion.json",
        "collection.json", "*.py", "evaluation/*.json", "evaluation/*.jsonl", "evaluation/*.gif", "evaluation/*.png",
        ".eval_results/*.yaml", "assets/*",
    ),
    "dataset": (
        CARD_FILE, "LICENSE*", "episodes.json", "data/*.parquet", "meta/*.json", "meta/*.jsonl", "meta/*.parquet",
        "videos/*.mp4", "assets/*",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Upload:
    """One folder on its way to one repository.

    Args:
        folder: what is uploaded.
        kind: `"model"` or `"dataset"`.
        repo_id: where to.
        files: `(name, bytes)` of what goes.
        left: `(name, bytes)` of what stays.
        cleaned: name -> content that goes instead of the file's: without paths of this machine.
        paths: those paths, and the names that go in their place.
    """

    folder: Path
    kind: str
    repo_id: str
    files: list[tuple[str, int]]
    left: list[tuple[str, int]]
    cleaned: dict[str, bytes]
    paths: dict[str, str]

    def summary(self) -> str:
        """The list, for a terminal."""
        total = sum(size for _, size in self.files)
        lines = [f"{self.folder} -> {self.kind} {self.repo_id}: {len(self.files)} files, {size_text(total)}"]
        for name, size in self.files:
            changed = ", without paths of this machine" if name in self.cleaned else ""
            lines.append(f"  {name}  {size_text(size)}{changed}")
        lines += [f"  {old} goes as {new}" for old, new in self.paths.items()]
        if self.left:
            left = size_text(sum(size for _, size in self.left))
            lines.append(f"stays here: {len(self.left)} files, {left} ({_some(name for name, _ in self.left)})")
        return "\n".join(lines)


@dataclass(frozen=True)
class Pushed:
    """What `push` did, or would do.

    Args:
        uploads: by folder.
        urls: of the commits, one per upload; empty after a dry run.
    """

    uploads: list[Upload]
    urls: list[str]

    def summary(self) -> str:
        """For a terminal."""
        done = [f"uploaded: {url}" for url in self.urls] or ["dry run: nothing was uploaded"]
        return "\n".join([upload.summary() for upload in self.uploads] + done)


def push(
    repo_id: str,
    *,
    model: str | Path | None = None,
    dataset: str | Path | None = None,
    dataset_repo_id: str | None = None,
    public: bool = False,
    dry_run: bool = False,
    include: Sequence[str] = (),
    revision: str | None = None,
    message: str | None = None,
    token: str | bool | None = None,
    lerobot: bool = False,
) -> Pushed:
    """Uploads a checkpoint, a data set or both. Everything is checked before the first byte goes.

    Running it again after an interruption uploads what is missing: files that arrived are not sent a second time.
    Paths of this machine in JSON and YAML files go as their last names; the files here stay as they are.

    Args:
        repo_id: repository of the model; of the data set, if that goes alone.
        model: folder of a checkpoint with its card.
        dataset: directory of episodes with its card; one in LeRobot's layout gets the tag that lerobot looks for.
        dataset_repo_id: of the data set, where both go. Default: `repo_id` with `-episodes`.
        public: new repositories are private unless this is set; an existing public one is refused without it.
        dry_run: list what would go, contact nobody.
        include: patterns of further files to upload, such as `metrics.jsonl` or `state/*`.
        revision: branch to commit to. Default: the main branch.
        message: of the commits.
        token: default: the one of `hf auth login`.
        lerobot: upload a copy in LeRobot's layout where `dataset` is not in it: an earlier version's, or one whose
            episodes have gaps in their numbers.

    Raises:
        FileNotFoundError, ValueError: one line, where a folder is incomplete or damaged, a card is invalid, or a public
            repository would receive what was meant to be private.
        OSError: one line, where the Hub refuses or cannot be reached.
    """
    if model is None and dataset is None:
        raise ValueError("there is nothing to push: give model=DIR, dataset=DIR or both")
    if lerobot and dataset is None:
        raise ValueError("--lerobot is for data sets: add --dataset DIR")
    if dataset is not None and lerobot and not is_lerobot(Path(dataset)):
        with TemporaryDirectory(prefix="lewm-lerobot-") as temporary:
            exported = write_lerobot(dataset, Path(temporary) / Path(dataset).resolve().name)
            return push(
                repo_id, model=model, dataset=exported, dataset_repo_id=dataset_repo_id, public=public,
                dry_run=dry_run, include=include, revision=revision, message=message, token=token,
            )  # fmt: skip
    uploads = []
    if model is not None:
        uploads.append(_plan(Path(model), "model", repo_id, include))
    if dataset is not None:
        target = dataset_repo_id or (f"{repo_id}-episodes" if model is not None else repo_id)
        uploads.append(_plan(Path(dataset), "dataset", target, include))
    for pattern in include:
        if not any(fnmatchcase(name, pattern) for upload in uploads for name, _ in upload.files):
            raise ValueError(
                f"--include {pattern} matches no file of {' or '.join(str(upload.folder) for upload in uploads)}: give "
                "names as they are there, such as metrics.jsonl or 'state/*', or omit it"
            )
    if dry_run:
        return Pushed(uploads, [])
    api = HfApi(token=token)
    for upload in uploads:  # all of them, before the first upload
        _ask(upload, partial(_prepare, api, upload, public, revision))
    urls = []
    for upload in uploads:
        logger.info("uploading %s to %s", upload.folder, upload.repo_id)
        urls.append(_ask(upload, partial(_send, api, upload, revision, message)))
    return Pushed(uploads, urls)


def _plan(folder: Path, kind: str, repo_id: str, include: Sequence[str]) -> Upload:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the folder of a {kind}")
    check_repo_id(repo_id)
    lerobot = kind == "dataset" and is_lerobot(folder)
    described = read_description(folder) if kind == "dataset" else None
    required = (CARD_FILE, INFO_FILE) if lerobot and described is None else REQUIRED[kind]
    if missing := [name for name in required if not (folder / name).is_file()]:
        remedy = {
            CARD_FILE: "write its card with `lewm card`",
            "preprocessor_config.json": "save the image processor beside the model",
        }.get(missing[0], f"give the complete folder of a {kind}")
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)}: {remedy}")
    if kind == "dataset" and not any((folder / "data").rglob("*.parquet")):
        raise FileNotFoundError(f"{folder} has no data/*.parquet: finish collecting first")
    if described is not None:
        check_complete(folder, described)
    if described is not None and lerobot:
        check_metadata(folder, described)
    check_card((folder / CARD_FILE).read_text(encoding="utf-8"), kind)
    if kind == "dataset" and not lerobot and TAG in (DatasetCard.load(folder / CARD_FILE).data.tags or []):
        raise ValueError(
            f"the card of {folder} has the tag {TAG}, but there is no {INFO_FILE}, without which lerobot opens "
            "nothing: take the tag out, or add --lerobot"
        )
    if kind == "model":
        check_folder(folder)
        for path in eval_result_files(folder):
            check_eval_results(path.read_text(encoding="utf-8"), str(path))
    weights = weight_files(folder) if kind == "model" else []
    files: list[tuple[str, int]] = []
    left: list[tuple[str, int]] = []
    cleaned: dict[str, bytes] = {}
    paths: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.removeprefix(f"{EVAL_RESULTS_FOLDER}/").split("/"))
        goes = name in weights or any(fnmatchcase(name, pattern) for pattern in include)
        goes = goes or (not hidden and any(_matches(name, pattern) for pattern in BELONGS[kind]))
        if goes and not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{path} is a link to {path.resolve()}, outside of the folder, and would be uploaded: put a copy in "
                "its place, or remove the link"
            )
        if goes and path.suffix in SUFFIXES:
            text, replaced = _without_paths(path)
            if replaced:
                cleaned[name] = text.encode()
                paths |= replaced
        size = len(cleaned[name]) if name in cleaned else path.stat().st_size
        (files if goes else left).append((name, size))
    return Upload(folder, kind, repo_id, files, left, cleaned, paths)


def _without_paths(path: Path) -> tuple[str, dict[str, str]]:
    try:
        return clean_text(path.read_text(encoding="utf-8"), path.suffix)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): write it again, or delete it") from error


def _matches(name: str, pattern: str) -> bool:
    """Like a shell's: a star does not reach into folders, except below a folder that the pattern names."""
    return fnmatchcase(name, pattern) and ("/" in pattern or "/" not in name)


def _prepare(api: HfApi, upload: Upload, public: bool, revision: str | None) -> None:
    """Lets the Hub judge the card, then finds or makes the repository."""
    card = (ModelCard if upload.kind == "model" else DatasetCard).load(upload.folder / CARD_FILE)
    # `RepoCard.validate` of huggingface_hub before 2.2 would send it to huggingface.co, whatever HF_ENDPOINT says.
    judged = get_session().post(
        f"{api.endpoint}/api/validate-yaml",
        json={"repoType": upload.kind, "content": str(card)},
        headers={"Accept": "text/plain"},
    )
    if judged.status_code == 400:
        raise ValueError(
            f"the Hub refuses the card of {upload.folder} ({' '.join(judged.text.split())}): correct {CARD_FILE}"
        )
    hf_raise_for_status(judged)
    try:
        info = api.repo_info(upload.repo_id, repo_type=upload.kind)
    except RepositoryNotFoundError:
        api.create_repo(upload.repo_id, repo_type=upload.kind, private=not public, exist_ok=True)
    else:
        if not info.private and not public:
            raise ValueError(
                f"{upload.kind} {upload.repo_id} exists and is public: add --public to publish there, or name another"
            )
    if revision is not None:
        api.create_branch(upload.repo_id, repo_type=upload.kind, branch=revision, exist_ok=True)


def _send(api: HfApi, upload: Upload, revision: str | None, message: str | None) -> str:
    with TemporaryDirectory(prefix="lewm-push-") as temporary:
        staged = Path(temporary)
        for name, _ in upload.files:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            if name in upload.cleaned:
                (staged / name).write_bytes(upload.cleaned[name])
            else:
                (staged / name).symlink_to((upload.folder / name).resolve())
        commit = api.upload_folder(
            repo_id=upload.repo_id,
            repo_type=upload.kind,
            folder_path=staged,
            revision=revision,
            commit_message=message or f"Upload {upload.kind} with lewm-hf",
        )
    if upload.kind == "dataset" and is_lerobot(upload.folder):
        _tag_version(api, upload, commit.oid)
    return str(commit.commit_url)


def _tag_version(api: HfApi, upload: Upload, revision: str) -> None:
    """lerobot loads the revision that is tagged with the version of the layout."""
    repo = {"repo_id": upload.repo_id, "repo_type": "dataset"}
    version = (read_json(upload.folder / INFO_FILE) or {}).get("codebase_version")
    if any(tag.name == version for tag in api.list_repo_refs(**repo).tags):
        api.delete_tag(**repo, tag=version)
    api.create_tag(**repo, tag=version, revision=revision)


def _ask(upload: Upload, action: Callable[[], Answer]) -> Answer:
    """Turns what the Hub and the way to it refuse into one line."""
    try:
        return action()
    # The client wraps a failed file in a RuntimeError.
    except (HTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        status = getattr(getattr(cause, "response", None), "status_code", 0)
        reason = getattr(cause, "server_message", None) or " ".join(str(cause).split())[:300]
        remedy = {401: "log in with `hf auth login`", 403: "use a token that may write there"}.get(
            status, "run the command again, it continues where it stopped"
        )
        raise OSError(f"{upload.kind} {upload.repo_id} was not uploaded ({reason}): {remedy}") from error


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
