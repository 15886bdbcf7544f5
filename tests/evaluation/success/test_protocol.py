import hashlib
import json
from pathlib import Path

import pytest
import yaml

import lewm_hf.evaluation.success
from lewm_hf.evaluation.success.protocol import (
    Protocol,
    load_protocol,
    parse_overrides,
    protocol_names,
    split_overrides,
)
from lewm_hf.planning import load_planner

FOLDER = Path(lewm_hf.evaluation.success.__file__).parent / "protocols"


def write(folder: Path, changes: dict | None = None, drop: str | None = None) -> Path:
    content = yaml.safe_load((FOLDER / "clean.yaml").read_text()) | (changes or {})
    content.pop(drop, None)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_package_ships_two_protocols():
    assert protocol_names() == ["clean", "paper"]


def test_paper_states_the_values_of_the_paper():
    paper = load_protocol("paper")
    assert paper.label == "paper-v3"
    assert (paper.goal_offset, paper.budget, paper.split, paper.draw) == (25, 50, "train", "rows")
    assert paper.default_planner == "paper" and load_protocol("clean").default_planner == "goal-time"
    assert not paper.drop_solved
    assert paper.shoulder == "raw"
    assert paper.seeds[0] == 42


def test_a_label_as_results_say_it_is_a_name():
    assert load_protocol("paper-v3") == load_protocol("paper")
    assert load_planner("goal-time-small-v1") == load_planner("goal-time-small")
    with pytest.raises(ValueError, match="paper-v2 is not of this version of the package, whose paper is paper-v3"):
        load_protocol("paper-v2")
    with pytest.raises(ValueError, match="planner actor-guided-v1 is not .* is actor-guided-v2"):
        load_planner("actor-guided-v1")
    for unknown in ("papers-v3", "paper-v3x", "paper-v"):
        with pytest.raises(ValueError, match=f"unknown protocol {unknown!r}"):
            load_protocol(unknown)


def test_clean_differs_from_paper_only_in_its_pairs():
    paper, clean = load_protocol("paper").to_dict(), load_protocol("clean").to_dict()
    different = {name for name in paper if paper[name] != clean[name]}
    assert different == {
        "name", "version", "split", "draw", "drop_solved", "opposite_rooms", "shoulder", "pairs", "default_planner",
    }  # fmt: skip


def test_hash_is_sha256_of_the_canonical_content(tmp_path):
    content = yaml.safe_load((FOLDER / "paper.yaml").read_text())
    del content["default_planner"]  # who plans is no part of what is measured
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert load_protocol("paper").hash == hashlib.sha256(text.encode()).hexdigest()


def test_hash_ignores_comments_and_order_but_not_values(tmp_path):
    clean = load_protocol("clean")
    assert load_protocol(write(tmp_path)).hash == clean.hash
    assert load_protocol(write(tmp_path, {"budget": 51})).hash != clean.hash
    assert load_protocol(write(tmp_path, {"deadline": False})).hash != clean.hash
    assert load_protocol(write(tmp_path, {"default_planner": "small"})).hash == clean.hash


def test_an_override_is_recorded_and_changes_the_hash():
    clean = load_protocol("clean")
    mini = load_protocol("clean", {"goal_offset": 50, "pairs": 10, "budget": 50})
    assert (mini.goal_offset, mini.pairs) == (50, 10)
    assert mini.overrides == {"goal_offset": 50, "pairs": 10}  # budget was 50 already
    assert mini.label == "clean-v1 (modified)"
    assert mini.hash != clean.hash
    assert load_protocol(mini, {"pairs": 20}).overrides == {"goal_offset": 50, "pairs": 20}


def test_an_override_to_the_file_s_value_changes_nothing():
    assert load_protocol("clean", {"budget": 50, "seeds": [42, 43, 44]}) == load_protocol("clean")


@pytest.mark.parametrize(("typo", "meant"), [("spilt", "split"), ("goal_ofset", "goal_offset"), ("budgets", "budget")])
def test_an_unknown_key_is_refused_by_name_with_the_closest_one(tmp_path, typo, meant):
    for attempt in (
        lambda: load_protocol(write(tmp_path, {typo: 1})),
        lambda: load_protocol("paper", {typo: 1}),
        lambda: parse_overrides([f"{typo}=1"]),
    ):
        with pytest.raises(ValueError, match=f"{typo}.*{meant}") as error:
            attempt()
        assert "\n" not in str(error.value)


def test_a_missing_key_is_refused(tmp_path):
    with pytest.raises(ValueError, match="missing rest_start"):
        load_protocol(write(tmp_path, drop="rest_start"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "validation"}, "split='validation' is unknown: use train or test"),
        ({"draw": "best"}, "draw='best'"),
        ({"budget": 0}, "budget=0 must be at least 1"),
        ({"budget": 2.5}, "budget=2.5 must be of type int"),
        ({"budget": True}, "budget=True must be of type int"),
        ({"drop_solved": 1}, "drop_solved=1 must be of type bool"),
        ({"deadline": "soon"}, "deadline='soon' must be of type bool"),
        ({"samples": 100, "action_block": 5}, "action_block, samples say how an agent plans.*--planner FILE"),
        ({"seeds": []}, "seeds=\\[\\] must be a list"),
        ({"seeds": [1, 1]}, "repeat"),
        ({"seeds": [-1]}, "whole numbers"),
        ({"version": "new"}, "version='new' must be of type int"),
    ],
)
def test_impossible_values_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        load_protocol(write(tmp_path, changes))
    assert "\n" not in str(error.value)


def test_identity_cannot_be_overridden():
    with pytest.raises(ValueError, match="version identifies the protocol"):
        load_protocol("paper", {"version": 9})


def test_unknown_names_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown protocol 'papers': use one of clean, paper"):
        load_protocol("papers")
    with pytest.raises(FileNotFoundError):
        load_protocol(tmp_path / "nowhere.yaml")
    for text in ("- a list", "samples: [1", ""):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(ValueError, match="broken.yaml") as error:
            load_protocol(tmp_path / "broken.yaml")
        assert "\n" not in str(error.value)


def test_overrides_of_the_command_line_are_yaml_values():
    overrides = parse_overrides(["samples=200", "drop_solved=true", "seeds=[1, 2]", "split=test", "initial_std=0.5"])
    assert overrides == {"samples": 200, "drop_solved": True, "seeds": [1, 2], "split": "test", "initial_std": 0.5}
    of_protocol, of_planner = split_overrides(overrides)
    assert of_protocol == {"drop_solved": True, "seeds": [1, 2], "split": "test"}
    assert of_planner == {"samples": 200, "initial_std": 0.5}
    assert isinstance(load_protocol("paper", of_protocol), Protocol)
    with pytest.raises(ValueError, match="'sampels': the closest known one is 'samples'"):
        split_overrides({"sampels": 3})
    with pytest.raises(ValueError, match="has no '='"):
        parse_overrides(["samples"])


def test_a_protocol_cannot_be_changed():
    with pytest.raises(AttributeError):
        load_protocol("paper").budget = 3
