"""The Space in a real browser: `make test-space`."""

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
APP = ROOT / "model_cards" / "space" / "app.py"
CHECKPOINT = ROOT / "model_cards" / "lewm-tworoom-mini"
SCREENSHOT = ROOT / "runs" / "space" / "screenshot.png"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

pytestmark = pytest.mark.space


def start(*arguments, timeout: float = 180, **environment: str):
    """The app as a process of its own, and its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(APP), "--port", str(port), *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5)
            return process, address
        except OSError:
            time.sleep(0.3)
    process.kill()
    raise AssertionError(process.communicate()[0])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The app with the shipped checkpoint, an empty folder, and a PushT checkpoint on a machine without pymunk."""
    empty, push_t, modules = (tmp_path_factory.mktemp(name) for name in ("empty", "push-t", "modules"))
    shutil.copytree(CHECKPOINT, push_t, dirs_exist_ok=True)
    (push_t / "training.json").write_text('{"env_id": "lewm/PushT-v0"}')
    (modules / "pymunk.py").write_text("raise ModuleNotFoundError(\"No module named 'pymunk'\", name='pymunk')")
    process, address = start("--checkpoints", CHECKPOINT, empty, push_t, PYTHONPATH=str(modules))
    yield address
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A new visitor without a network: nothing but this address answers."""
    page = browser.new_page(viewport={"width": 1240, "height": 1060})
    page.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
    page.goto(address)
    page.wait_for_selector("#goal img")
    yield page
    page.close()


def picture(page, selector: str) -> np.ndarray:
    """The pixels of a picture as the browser has them, once it has."""
    drawn = page.wait_for_function(
        """selector => {
            const image = document.querySelector(selector);
            if (!image?.complete || !image.naturalWidth) return false;
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL();
        }""",
        arg=f"{selector} img",
    ).json_value()
    return np.asarray(decoded(drawn).convert("RGB")).astype(int)


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


def disk(page, selector: str) -> np.ndarray:
    """Where the agent is drawn, as shares of the picture."""
    pixels = picture(page, selector)
    rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1] < 120))
    return (np.array([columns.mean(), rows.mean()]) + 0.5) / len(pixels)


def click(page, selector: str, x: float, y: float) -> None:
    box = page.locator(f"{selector} img").bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def put(page, selector: str, spot: tuple[float, float]) -> None:
    click(page, selector, *spot)
    wait_until(lambda: np.abs(disk(page, selector) - spot).max() < 0.01)


def plan(page) -> None:
    page.click("#plan")
    page.wait_for_selector("#film img", timeout=120_000)
    page.wait_for_selector("#curves img")


def test_a_visitor_clicks_a_goal_plans_and_sees_the_model_surprised(page):
    put(page, "#start", (0.36, 0.3))
    put(page, "#goal", (0.7, 0.36))
    page.get_by_label("a teleport").check()
    plan(page)

    verdict = page.inner_text("#verdict")
    assert re.search(r"(Reached the goal after|Missed the goal in) \d+ steps", verdict)
    assert re.search(r"\d+ plans, \d+ ms each · ends [\d.]+ from the goal", verdict)
    moving = decoded(page.get_attribute("#film img", "src"))
    assert moving.n_frames >= 21  # the event comes at step 20
    assert picture(page, "#film").shape == (moving.height, moving.width, 3)
    moving.seek(20)
    after = np.asarray(moving.convert("RGB")).astype(int)
    moving.seek(19)
    before = np.asarray(moving.convert("RGB")).astype(int)
    assert np.abs(after - before).max() > 150  # the agent is elsewhere
    curves = picture(page, "#curves")
    assert min(curves.shape[:2]) > 400
    for line in ((43, 108, 176), (200, 57, 47), (183, 121, 31)):  # distance, surprise, the event
        assert (np.abs(curves - line).max(-1) < 12).sum() > 50

    page.wait_for_timeout(1500)  # the film is moving
    SCREENSHOT.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOT, full_page=True)


def test_a_goal_within_reach_is_reached(page):
    put(page, "#start", (0.36, 0.3))
    put(page, "#goal", (0.7, 0.36))
    plan(page)
    assert "Reached the goal" in page.inner_text("#verdict")


def test_a_click_into_the_wall_is_refused_in_one_line(page):
    before = picture(page, "#goal")
    click(page, "#goal", 0.5, 0.7)
    page.wait_for_selector(".toast-body")
    assert "this spot is not possible: not within the wall" in page.inner_text(".toast-body").lower()
    np.testing.assert_array_equal(picture(page, "#goal"), before)


def test_a_start_at_the_goal_is_refused_in_one_line(page):
    put(page, "#start", (0.3, 0.3))
    put(page, "#goal", (0.3, 0.31))
    page.click("#plan")
    page.wait_for_selector(".toast-body")
    assert "solves this goal already" in page.inner_text(".toast-body")
    assert not page.query_selector("#film img")


def test_random_tasks_repeat_for_the_next_visitor(page, browser, address):
    page.click("#shuffle")
    first = picture(page, "#goal")
    wait_until(lambda: not np.array_equal(picture(page, "#goal"), first))
    drawn = picture(page, "#goal")
    other = browser.new_page()
    other.goto(address)
    other.wait_for_selector("#goal img")
    np.testing.assert_array_equal(picture(other, "#goal"), first)
    other.click("#shuffle")
    wait_until(lambda: np.array_equal(picture(other, "#goal"), drawn))
    other.close()


def test_what_cannot_be_shown_is_said(page):
    empty, push_t = page.inner_text("#notes").strip().splitlines()
    assert "holds no config.json" in empty
    assert "pip install 'lewm-hf[pusht]'" in push_t


def test_checkpoints_are_found_beside_the_app_or_named(tmp_path, monkeypatch):
    import app

    for name, kind in (("one", "lewm"), ("its-decoder", "lewm_decoder"), ("space", None)):
        (tmp_path / name).mkdir()
        if kind:
            (tmp_path / name / "config.json").write_text(f'{{"model_type": "{kind}"}}')
            (tmp_path / name / "model.safetensors").touch()
    monkeypatch.setattr(app, "HERE", tmp_path / "space")
    monkeypatch.delenv("LEWM_CHECKPOINTS", raising=False)
    assert app.find_checkpoints() == [str(tmp_path / "one")]
    monkeypatch.setenv("LEWM_CHECKPOINTS", "org/one  two")
    assert app.find_checkpoints() == ["org/one", "two"]


def test_no_checkpoint_at_all_ends_with_one_line(tmp_path):
    ended = subprocess.run(
        [sys.executable, str(APP), "--checkpoints", str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    assert "holds no config.json" in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
