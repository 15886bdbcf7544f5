"""Collecting to an address: the files of a folder, on a real FTP server and in fsspec's memory, whatever fails."""

import shutil
import threading

import datasets
import fsspec
import numpy as np
import pytest
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

from lewm_cli import main
from lewm_hf.data.collect import collect, place
from lewm_hf.data.collect import run as collecting
from lewm_hf.data.collect.place import STAGING
from lewm_hf.data.episodes import load_episodes
from lewm_hf.data.source_folder import FETCHED
from lewm_hf.data.storage import remote

from .test_run import content

SMALL = {"episodes": 6, "image_size": 16, "episodes_per_file": 2, "seed": 3, "max_steps": 12, "workers": 1}


class Server:
    """An FTP server of a folder, which goes down and comes up on one port."""

    def __init__(self, folder):
        self.folder, self.port, self.dropped, self.most = folder, 0, 0, None
        self.sent, self.received = [], []
        folder.mkdir()

    @property
    def address(self):
        return f"ftp://me:secret@127.0.0.1:{self.port}/deep/set"

    def __enter__(self):
        server = self

        class Handler(FTPHandler):
            authorizer = DummyAuthorizer()

            def on_connect(self):
                if server.dropped > 0:
                    server.dropped -= 1
                    self.close()

            def on_file_sent(self, file):
                server.sent.append(file)

            def ftp_STOR(self, file, mode="w"):
                if server.most is not None and len(server.received) >= server.most:
                    return self.respond("452 there is no room")
                return super().ftp_STOR(file, mode)

            def on_file_received(self, file):
                server.received.append(file)

        Handler.authorizer.add_user("me", "secret", str(self.folder), perm="elradfmw")
        # A loop of its own, which ends in the thread that runs it.
        listening = FTPServer(("127.0.0.1", self.port), Handler, ioloop=IOLoop.factory())
        self.port = listening.socket.getsockname()[1]
        self._stop = threading.Event()

        def serve():
            while not self._stop.is_set():
                listening.serve_forever(timeout=0.02, blocking=False, handle_exit=False)
            listening.close_all()

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 0.01)
    with Server(tmp_path / "served") as up:
        yield up


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return collect("two_room", tmp_path_factory.mktemp("here") / "set", **SMALL)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def staged(cache):
    return [path.name for path in (cache / STAGING).rglob("*.parquet")]


def test_files_on_a_server_are_those_of_a_folder(server, here, cache):
    """Half of them first; a server that hangs up is asked again; what is complete is left as it is."""
    served = server.folder / "deep/set"
    server.dropped = 2
    collect("two_room", server.address, **SMALL, shard=(0, 2))
    assert sorted(path.name for path in served.rglob("*.parquet")) == ["file-000.parquet", "file-002.parquet"]
    assert not staged(cache) and not list(served.rglob(".*"))
    (served / "data/chunk-000/.file-001.parquet.0.tmp").write_bytes(b"of an upload that was cut off")
    assert collect("two_room", server.address, **{**SMALL, "workers": 2}) == server.address
    assert content(served) == content(here) and not staged(cache)
    before = {path: path.stat().st_mtime_ns for path in served.rglob("*")}
    collect("two_room", server.address, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in served.rglob("*")}


def test_a_data_set_at_an_address_is_opened_by_it(server, here, cache):
    """A split is copied once, and again only where it has changed; nobody is told the password."""
    served = server.folder / "deep/set"
    shutil.copytree(here, served)
    for split in ("train", "test"):
        far, near = load_episodes(server.address, split), load_episodes(here, split)
        np.testing.assert_array_equal(far.actions, near.actions)
        np.testing.assert_array_equal(far.frames(range(far.num_rows)), near.frames(range(near.num_rows)))
        assert "secret" not in far.name and far.name.endswith("/deep/set")
    copied = len(server.sent)
    load_episodes(server.address, "test")
    assert len(server.sent) == copied == len({*server.sent})
    (served / "episodes.json").write_text((served / "episodes.json").read_text() + "\n")
    load_episodes(server.address, "test")
    assert len(server.sent) == copied + 3 and len(list((cache / FETCHED).iterdir())) == 2
    with pytest.raises(FileNotFoundError, match=r"no data set at ftp://127.0.0.1:\d+/deep/no"):
        load_episodes(server.address.replace("set", "no"))


def test_what_a_full_or_vanished_server_did_not_take_is_not_collected_again(server, here, cache, monkeypatch):
    served, made = server.folder / "deep/set", []
    write = collecting.write_episodes

    def counted(path, *args, **kwargs):
        made.append(path.name)
        return write(path, *args, **kwargs)

    monkeypatch.setattr(collecting, "write_episodes", counted)
    monkeypatch.setattr(place, "SECONDS_BETWEEN", 0.0)
    server.most = 2  # the description and a file
    with pytest.raises(OSError, match=r"ftp://127.*/deep/set: writing data/.* failed \(452 there is no room") as error:
        collect("two_room", server.address, **SMALL)
    assert "secret" not in str(error.value) and len(list(served.rglob("*.parquet"))) == 1
    assert len(staged(cache)) > 1, "they wait here"
    server.__exit__()
    with pytest.raises(OSError, match="listing it failed .*refused"):
        collect("two_room", server.address, **SMALL)
    server.most = None
    with server:
        collect("two_room", server.address, **SMALL)
    assert content(served) == content(here) and not staged(cache)
    assert len(made) <= 4 + 1, "the one that was being made"


def test_memory_stands_for_an_object_store(here, cache, tmp_path):
    """Where nothing is renamed; damaged files are made again, others' data is not touched."""
    store, address = fsspec.filesystem("memory"), "memory://bucket/set"
    store.store.clear()

    def there():
        store.get("/bucket/set", str(tmp_path / "copy"), recursive=True)
        found = content(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")
        return found

    collect("two_room", address, **SMALL, shard=(1, 2))
    name = next(path for path in store.find("/bucket/set") if path.endswith(".parquet"))
    store.pipe_file(name, store.cat_file(name)[:-100])
    assert main(["collect", "two_room", "--episodes", "6", "--image-size", "16", "--max-steps", "12", "--seed", "3",
                 "--workers", "1", "--out", "memory://bucket/other"]) == 0  # fmt: skip
    collect("two_room", address, **SMALL)
    assert there() == content(here)
    before = there()
    with pytest.raises(ValueError, match="memory://bucket/set was collected with seed=3, not 4"):
        collect("two_room", address, **{**SMALL, "seed": 4})
    store.pipe_file("/bucket/mine/notes.txt", b"notes")
    with pytest.raises(ValueError, match="memory://bucket/mine is not empty and holds no collection"):
        collect("two_room", "memory://bucket/mine", **SMALL)
    assert there() == before and store.find("/bucket/mine") == ["/bucket/mine/notes.txt"]
    store.store.clear()


def test_an_address_of_this_machine_is_a_folder(here, tmp_path, cache):
    assert collect("two_room", f"file://{tmp_path}/set", **SMALL) == tmp_path / "set"
    assert content(tmp_path / "set") == content(here) and not (cache / STAGING).exists()
    assert load_episodes(f"file://{tmp_path}/set", "test").num_rows == load_episodes(here, "test").num_rows


def test_what_writes_into_folders_alone_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (
        ["eval", "model", "--out", "s3://bucket/set"], ["import", "table", "rows", "s3://bucket/set"],
        ["report", "run", "--out", "s3://bucket/page.html"],
    ):  # fmt: skip
        with pytest.raises(SystemExit) as left:
            main(command)
        assert left.value.code == 2
        assert "s3://bucket/" in (error := capsys.readouterr().err) and "is an address: give a folder" in error
    assert main(["collect", "two_room", "--episodes", "6", "--out", "nowhere://bucket/set"]) == 2
    assert "nowhere://bucket/set is at no kind of place that fsspec knows" in capsys.readouterr().err
    assert main(["data-stats", "s3://bucket/set"]) == 2
    assert "s3:/bucket/set is an address: give a folder" in capsys.readouterr().err
    assert not list(tmp_path.glob("s3*"))
