"""Recordings compute what the functions do, to the bit, from several threads and for every shape."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from lewm_hf import recordings
from lewm_hf.recordings import SUPPORTED, Recordings

WEIGHT, CALLS = torch.randn(6, 6), []


def layered(x, beside):
    CALLS.append(threading.get_ident())
    for _ in range(4):
        out = x @ WEIGHT
        out += 0.1 if beside is None else beside
        x = F.layer_norm(torch.ops.aten.gelu_(out), (6,)) + x
    return torch.cat(list(x.unbind(0)))


def doubled(x, beside):
    return 2 * x[0]


@pytest.mark.skipif(not SUPPORTED, reason="PyTorch records nothing under this Python")
def test_a_shape_is_recorded_once_and_every_bit_is_kept():
    play, made = Recordings(), len(CALLS)
    kinds = [(3, None), (3, 6), (5, None)]
    for repeat in range(3):
        for rows, width in kinds:
            inputs = torch.randn(2, rows, 6), None if width is None else torch.randn(width)
            with torch.inference_mode(repeat > 0):
                played = play(layered, [WEIGHT], *inputs)
            count = len(CALLS)
            assert torch.equal(played, layered(*inputs))
            del CALLS[count:]
    assert len(CALLS) - made == len(kinds)
    assert torch.equal(play(doubled, [], torch.ones(2, 3, 6), None), torch.full((3, 6), 2.0))  # another function


def test_threads_play_the_same_recording_at_once():
    play = Recordings()
    inputs = [torch.randn(2, 4, 6) for _ in range(40)]
    with torch.inference_mode(), ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda x: play(layered, [WEIGHT], x, None), inputs))
    for x, played in zip(inputs, found, strict=True):
        assert torch.equal(played, layered(x, None))


@pytest.mark.skipif(not SUPPORTED, reason="PyTorch records nothing under this Python")
def test_a_recording_takes_other_weights_and_keeps_none(monkeypatch):
    play, x, first = Recordings(), torch.randn(2, 4, 6), WEIGHT
    before, count = play(layered, [first], x, None), len(CALLS)
    monkeypatch.setitem(globals(), "WEIGHT", torch.randn(6, 6))
    after = play(layered, [WEIGHT], x, None)
    assert len(CALLS) == count  # played
    assert torch.equal(after, layered(x, None)) and not torch.equal(after, before)
    (recording,) = play._made.values()
    constants = [node for node in recording.graph.findAllNodes("prim::Constant") if node.hasAttribute("value")]
    assert not [node for node in constants if node.kindOf("value") == "t" and node.t("value").dim() > 0]


def test_there_are_no_more_recordings_than_memory_allows(monkeypatch):
    monkeypatch.setattr(recordings, "MOST", 2)
    play, count = Recordings(), len(CALLS)
    for rows in (1, 2, 3, 3, 1):
        x = torch.randn(2, rows, 6)
        assert torch.equal(play(layered, [WEIGHT], x, None), layered(x, None))
    assert len(CALLS) - count == 5 + (4 if SUPPORTED else 5)  # recorded twice, called twice


def test_nothing_is_recorded_where_that_is_not_supported(monkeypatch):
    monkeypatch.setattr(recordings, "SUPPORTED", False)
    play, x, count = Recordings(), torch.randn(2, 4, 6), len(CALLS)
    assert torch.equal(play(layered, [WEIGHT], x, None), play(layered, [WEIGHT], x, None)) and len(CALLS) == count + 2
