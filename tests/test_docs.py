"""What the guides show works as it stands there: every block of every page runs, and prints what the page says."""

import json
import os
import re
import socket
import subprocess

import pytest
import torch
from hub.fake_hub import FakeHub
from hub.published import PublishedLeWM, original_config, write_checkpoint
from pages import ROOT, Reader, blocks

from lewm_cli import parser
from lewm_hf.data.collect import collect

PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in [*PAGES, *ROOT.glob("CONTRIBUTING.md")]}
SLOW = [page for page in PAGES if any(block.long for block in blocks(TEXTS[page.name]))]


@pytest.fixture
def reader(tmp_path):
    """Somebody in the root of a clone, or in a folder that looks like one to the guides."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("model_cards", "training"):
        (folder / name).symlink_to(ROOT / name)
    # `pip install .` puts a reader's package beside this environment instead of into it, and asks no index.
    site = tmp_path / "site"
    environment = {
        "PIP_TARGET": str(site), "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]),
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"),
    }  # fmt: skip
    with FakeHub() as hub:
        # What is started from a shell finds a Hub on this machine.
        online = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_valid", "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        reader = Reader(folder, environment, online)
        yield reader
        reader.close()


@pytest.fixture
def original(reader):
    """A checkpoint as the released code leaves it, with random weights."""
    torch.manual_seed(0)
    small = {"image": 56, "depth": 1, "heads": 2, "head_dim": 16, "mlp": 48, "hidden": 64}
    write_checkpoint(reader.folder / "original", PublishedLeWM(**small), original_config(**small))


@pytest.mark.usefixtures("original")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page, reader):
    reader.follow(page)


@pytest.mark.long
@pytest.mark.usefixtures("original")
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.stem)
def test_what_a_page_shows_runs_in_full(page, reader):
    reader.follow(page, long=True)


SRUN = """#!/bin/sh
# What SLURM does on two machines, on this one.
for number in $(seq "$SLURM_NNODES"); do "$@" & done
wait
"""


@pytest.mark.long
def test_the_batch_script_of_two_machines(reader):
    """For real but for SLURM: two torchruns that meet at one port, and a run that continues."""
    (block,) = (block for block in blocks(TEXTS["many_gpus.md"]) if block.file == "train.sbatch")
    (reader.folder / block.file).write_text(block.text)
    tools = reader.folder / "bin"
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for tool in tools.iterdir():
        tool.chmod(0o755)
    episodes = collect("two_room", reader.folder / "episodes", 8, image_size=64, max_steps=60, workers=1)
    more = f"--dataset {episodes} --max_steps 2 --batch_size 32 --eval_pairs 0 --recalibration_batches 2 --tracker none"
    reader.environment |= {
        "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "both", "GPUS": "1", "PORT": str(port),
        "RECIPE": "tworoom-mini", "MORE": more,
    }  # fmt: skip
    for _ in range(2):
        reader.run(f"PATH={tools}:$PATH bash train.sbatch", "train.sbatch")
    progress = json.loads((reader.folder / "runs" / "tworoom" / "state" / "progress.json").read_text())
    assert (progress["step"], progress["num_processes"]) == (2, 2)


def test_scripts_are_shell():
    for block in (block for text in TEXTS.values() for block in blocks(text) if block.language == "sh"):
        checked = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
        assert checked.returncode == 0 and not checked.stderr, checked.stderr


def test_a_page_that_is_wrong_is_found(tmp_path):
    """The runner itself: what fails, prints something else or is of a language that nobody runs is told by its line."""
    for text, message in (
        ("```python\nprint(1)\n```\n```text\n1\n```\n", None),
        ("# Title\n\n```python\nprint(1)\n```\n```text\n2\n```\n", "page.md, line 6: the page says\n2"),
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```bash\nlewm eval nowhere\n```\n", "status 2\n\\$ lewm eval nowhere"),
        ("```bash\nfalse\n```\n", "page.md, line 1: status 1"),
        ("```rust\nfn main() {}\n```\n", "line 1: nobody runs a block of rust"),
        ("```python\n# a.py\nX = 3\n```\n```bash\npython a.py\n```\n```python\nimport a\nassert a.X == 3\n```\n", None),
    ):
        (tmp_path / "page.md").write_text(text)
        (tmp_path / "folder").mkdir(exist_ok=True)
        reader = Reader(tmp_path / "folder")
        try:
            if message is None:
                reader.follow(tmp_path / "page.md")
            else:
                with pytest.raises(AssertionError, match=message):
                    reader.follow(tmp_path / "page.md")
        finally:
            reader.close()


@pytest.mark.parametrize("name", TEXTS)
def test_links_and_verbs_of_a_page_exist(name):
    text = TEXTS[name]
    folder = ROOT if name == "CONTRIBUTING.md" else ROOT / "docs"
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
        assert (folder / target).exists(), target
    verbs = next(action for action in parser()._actions if action.dest == "verb").choices
    assert set(re.findall(r"`lewm\s+([a-z][a-z-]*)", prose)) <= set(verbs)


def test_the_index_lists_every_page():
    listed = set(re.findall(r"\]\(([\w]+\.md)\)", TEXTS["README.md"]))
    assert listed == TEXTS.keys() - {"README.md", "CONTRIBUTING.md"}


@pytest.mark.parametrize("name", TEXTS)
def test_make_targets_of_a_page_exist(name):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ((?:test|lint|types|demo)[a-z-]*)", TEXTS[name])) <= set(targets)
