"""Results as typed records: what is written is read again, by attribute and by key, and what is wrong is named."""

import copy
import dataclasses
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lewm_hf.evaluation.common.results import read_result
from lewm_hf.evaluation.decode.result import DecodeResult
from lewm_hf.records import Record, Result, absent, named

CARDS = Path(__file__).parents[1] / "model_cards"
EVALUATIONS = sorted(CARDS.glob("*/evaluation/**/results.json"))


@dataclass(frozen=True)
class Inner(Record):
    kind_of: str = field(metadata=named("class"))
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Outer(Result):
    kind = "outer"
    format = 2

    name: str
    parts: dict[str, list[Inner]]
    extra: int | None = absent()
    flag: bool


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**50), 2**50)
inners = st.builds(Inner, kind_of=st.text(), interval=st.none() | st.tuples(numbers, numbers))
outers = st.builds(
    Outer,
    name=st.text(),
    parts=st.dictionaries(st.text(), st.lists(inners, max_size=3), max_size=3),
    extra=st.none() | st.integers(),
    flag=st.booleans(),
)


@given(outers)
def test_what_is_written_is_read_again(record):
    written = json.loads(json.dumps(record))
    assert written == record == record.to_json() and list(written)[:2] == ["format", "kind"]
    again = Outer.from_json(written)
    assert again == record and again.to_json() == written
    assert ("extra" in written) == (record.extra is not None)
    for copied in (copy.deepcopy(record), pickle.loads(pickle.dumps(record)), dataclasses.replace(record)):
        assert copied == record and type(copied) is Outer


def test_a_record_is_read_by_attribute_or_by_key_and_never_changed():
    record = Outer(name="a", parts={"x": [Inner(kind_of="k", interval=(0.0, 1))]}, flag=True)
    assert record["parts"]["x"][0]["class"] == record.parts["x"][0].kind_of == "k"
    assert record["kind"] == "outer" and "extra" not in record and record.extra is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.name = "b"
    for change in (
        lambda: record.__setitem__("name", "b"),
        lambda: record.update(name="b"),
        lambda: record.pop("name"),
        lambda: record.clear(),
    ):
        with pytest.raises(TypeError, match="does not change"):
            change()
    assert record.name == record["name"] == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ...}, "lacks name"),
        ({"parts": {"x": [{"interval": None}]}}, "lacks parts.x.0.class"),
        ({"name": 3}, "has 3 instead of text under name"),
        ({"flag": 1}, "has 1 instead of true or false under flag"),
        ({"extra": True}, "has True instead of a number under extra"),
        ({"parts": []}, "has a list instead of an object under parts"),
        ({"parts": {"x": [{"class": "k", "interval": [0, "1"]}]}}, "has '1' instead of a number under parts.x.0.int"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    content = {"format": 2, "kind": "outer", "name": "a", "parts": {}, "flag": True, "later": 1} | change
    content = {key: value for key, value in content.items() if value is not ...}
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        Outer.from_json(content)


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: "/".join(path.parts[-4:-1]))
def test_every_shipped_evaluation_is_read_whole(path):
    """Files of every generation, none of which is ever written again."""
    content, result = json.loads(path.read_text()), read_result(path)
    if content["format"] == 3:
        assert result.to_json() == content
    for name in ("success", "floors", "per_seed", "rows_hash", "mcnemar_against_random", "wall_time"):
        assert result.to_json()[name] == content[name]
    assert result.success.rate == result["success"]["rate"] == content["success"]["rate"]
    assert json.loads(json.dumps(result)) == result.to_json()


def test_the_shipped_decoding_is_read_whole():
    path = CARDS / "lewm-tworoom-mini-decoder/evaluation/decode.json"
    content = json.loads(path.read_text())
    result = DecodeResult.from_json(content)
    assert result.dataset.revision is None  # not said at that time
    assert result.to_json() | {"dataset": content["dataset"]} == content
