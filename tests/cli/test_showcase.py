"""`lewm demo TASK`: the shipped agent acts, and the page holds its films."""

import json

from lewm_hf.cli import main


def test_the_shipped_agent_of_a_task_is_shown_on_a_page(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "two_room", "--pairs", "3", "--out", str(out)]) == 0
    result = json.loads((out / "clean" / "results.json").read_text())
    assert result["env"]["id"] == "lewm/TwoRoom-v0" and result["success"]["n"] == 3
    page = (out / "index.html").read_text()
    assert page.count("data:image/gif") >= 3 and "lewm eval" in page
    assert f"open {out / 'index.html'}" in capsys.readouterr().out


def test_what_cannot_be_shown_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where nothing is trained
    for option, value in (("--model", "x"), ("--pairs", "2")):
        assert main(["demo", option, value]) == 2
        assert f"name the task, such as `lewm demo push_t {option} {value}`" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["demo", "push_t", "--model", str(tmp_path / "nothing"), "--out", str(tmp_path / "d")]) == 2
    assert "nothing" in capsys.readouterr().err and not (tmp_path / "d").exists()
