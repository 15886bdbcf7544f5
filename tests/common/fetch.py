"""Fetches what tests need beside the environment, once, through pip alone: mirrors and proxies are the user's own.

    python tests/common/fetch.py        # `make test` runs it after installing

- The tests that transformers runs on every model: only its source distribution has them.
- torchao: where it is installed, every program that imports transformers imports it too, a second and several lines
  of warnings each time. So it lies apart, and the one test that is about it looks there.
"""

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

PACKAGE = "transformers_tests"
MODULES = ("test_modeling_common.py", "test_configuration_common.py")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def common_tests() -> Path:
    """The folder that holds transformers' tests as a package, of the release that is installed."""
    return Path(sys.prefix) / "share" / f"transformers-{version('transformers')}-tests"


def torchao() -> Path:
    """The folder that torchao lies in, of the tested version."""
    tested = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torchao=="))
    return Path(sys.prefix) / "share" / tested.replace("==", "-")


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet", "--no-deps"], check=True)


def fetch_common_tests(folder: Path) -> None:
    release = f"transformers-{version('transformers')}"
    pip("download", "--no-binary", "transformers", "--dest", str(folder), release.replace("-", "==", 1))
    package = folder / "kept" / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with tarfile.open(folder / f"{release}.tar.gz") as archive:
        for name in MODULES:
            (package / name).write_bytes(archive.extractfile(f"{release}/tests/{name}").read())


def fetch_torchao(folder: Path) -> None:
    pip("install", "--target", str(folder / "kept"), torchao().name.replace("-", "==", 1))


def main() -> None:
    """Fetches what is missing; an interrupted one leaves nothing behind.

    Raises:
        subprocess.CalledProcessError: where pip finds none.
        KeyError: where the source distribution has other files than it had.
    """
    for home, fetch in ((common_tests(), fetch_common_tests), (torchao(), fetch_torchao)):
        if not home.exists():
            home.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home.parent) as folder:
                fetch(Path(folder))
                (Path(folder) / "kept").rename(home)


if __name__ == "__main__":
    main()
