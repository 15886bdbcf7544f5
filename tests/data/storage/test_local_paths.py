"""What leaves this machine names no folder of it."""

import json

import pytest
import yaml

from lewm_hf.data.storage.local_paths import clean_text, published, without_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/runs/two room/x", "x"),
        ("/home/John Doe/eps/a", "a"),
        ("/home/John Doe/eps/", "eps"),
        ("~/John Doe/eps", "eps"),
        ("~john/my eps/b", "b"),
        ("file:///home/u/x", "x"),
        ("file:///home/John Doe/x y", "x y"),
        ("from file:///home/u/x and more", "from x and more"),
        ("path:/home/u/x", "path:x"),
        ("C:\\Users\\John Doe\\my data", "my data"),
        ("\\\\server\\share\\John Doe\\d", "d"),
        ("/slash", "/slash"),
        ("/ 2 / 3", "/ 2 / 3"),
        ("//comment", "//comment"),
        ("hf://datasets/a/b", "hf://datasets/a/b"),
        ("/home/anna/runs/best", "best"),
        ("/home/anna/runs/best/", "best"),
        ("~/data/push-t", "push-t"),
        ("C:\\Users\\anna\\data", "data"),
        ("measured on /srv/data/pusht.h5: 3 of 4 rows", "measured on pusht.h5: 3 of 4 rows"),
        ("https://huggingface.co/org/name", "https://huggingface.co/org/name"),
        ("ftp://me:secret@host:21/a/b", "ftp://host:21/a/b"),
        ("from s3://key@bucket/a, me@mail", "from s3://bucket/a, me@mail"),
        ("org/name", "org/name"),
        ("lewm/TwoRoom-v0", "lewm/TwoRoom-v0"),
        ("3 m/s or km/h/s, 1 / 2 / 3", "3 m/s or km/h/s, 1 / 2 / 3"),
        ("[lewm-hf](https://a.b/c/d) and/or", "[lewm-hf](https://a.b/c/d) and/or"),
        ("2.13.0+cpu", "2.13.0+cpu"),
    ],
)
def test_paths_become_names_and_nothing_else_changes(text, expected):
    assert without_paths(text) == expected


def test_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "episodes").mkdir(parents=True)
    for value, expected in (
        ("/a/two words/b c", "b c"), ("runs/tworoom/best", "best"), ("../episodes", "episodes"),
        ("demo/episodes", "episodes"), ("org/episodes", "org/episodes"), ("LeWMModel", "LeWMModel"), ("best", "best"),
        ("two-room: 3 of 4/5/6 rows", "two-room: 3 of 4/5/6 rows"), ("hf://datasets/a/b", "hf://datasets/a/b"),
    ):  # fmt: skip
        assert published({"source": value}) == {"source": expected}
    assert published({"other": "demo/episodes", "n": [1, None, True, 0.5]}) == {
        "other": "demo/episodes", "n": [1, None, True, 0.5],
    }  # fmt: skip


def test_files_keep_their_form():
    content = {"recipe": {"dataset": "/home/änna/episodes", "seed": 3}, "env": "lewm/TwoRoom-v0", "/home/a/b": 1}
    for ascii_only in (True, False):
        text = json.dumps(content, indent=3, ensure_ascii=ascii_only)
        cleaned, replaced = clean_text(text, ".json")
        assert replaced == {"/home/änna/episodes": "episodes", "/home/a/b": "b"}
        expected = {"recipe": {"dataset": "episodes", "seed": 3}, "env": "lewm/TwoRoom-v0", "b": 1}
        assert cleaned == json.dumps(expected, indent=3, ensure_ascii=ascii_only)
    lines = '{"model": "/a/b/c"}\n{"model": "/a/b"}\n'
    assert clean_text(lines, ".jsonl")[0] == '{"model": "c"}\n{"model": "b"}\n'
    assert published(content) == expected
    # In a form that is not written here: escaped slashes, a string over two lines.
    cleaned, _ = clean_text('{"a": "\\/home\\/u\\/x", "/home/u/key": 1}', ".json")
    assert json.loads(cleaned) == {"a": "x", "key": 1}
    cleaned, _ = clean_text('a: "/home/John\n  Doe/eps"\nb: 1\n', ".yaml")
    assert yaml.safe_load(cleaned) == {"a": "eps", "b": 1}
    # A shorter path that is the end of another string.
    cleaned, _ = clean_text("dataset: runs/eps/one\nother: x/runs/eps/one\n", ".yaml")
    assert yaml.safe_load(cleaned) == {"dataset": "one", "other": "x/runs/eps/one"}
    recipe = "dataset: /srv/episodes  # comment\noutput_dir: runs/a/b\nseed: 3072\nother: /srv/episodes/train\n"
    cleaned, _ = clean_text(recipe, ".yaml")
    assert "# comment" in cleaned
    assert yaml.safe_load(cleaned) == {"dataset": "episodes", "output_dir": "b", "seed": 3072, "other": "train"}
    same = '{"a":1,  "b": [ ]}'
    assert clean_text(same, ".json") == (same, {})


@pytest.mark.parametrize(("text", "suffix"), [("{", ".json"), ('{"a": 1}\n{', ".jsonl"), ("a: [", ".yaml")])
def test_damaged_files_are_one_line(text, suffix):
    with pytest.raises(ValueError) as caught:
        clean_text(text, suffix)
    assert "\n" not in str(caught.value)
