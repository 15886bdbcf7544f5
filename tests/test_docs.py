"""What the guides show works as it stands there: every block of every page runs, and prints what the page says."""

import os
import re

import pytest
from pages import ROOT, Reader, blocks

from lewm_cli import parser

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
    reader = Reader(folder, environment)
    yield reader
    reader.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page, reader):
    reader.follow(page)


@pytest.mark.long
@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.stem)
def test_what_a_page_shows_runs_in_full(page, reader):
    reader.follow(page, long=True)


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
