import os
import subprocess
import sys

import numpy as np
import pytest

from lewm_hf.tasks import mujoco_backend, mujoco_env, mujoco_rendering
from lewm_hf.tasks.reacher.env import ReacherEnv
from lewm_hf.tasks.vector import GoalVectorEnv

POSE = np.array([0.7, 1.2, 0.0, 0.0])


def picture(**kwargs):
    env = ReacherEnv(**kwargs)
    env.set_state(POSE)
    try:
        return env.render()
    finally:
        env.close()


@pytest.mark.parametrize("size", [17, 300, 800])
def test_any_size_is_drawn_directly(size):
    image = picture(image_size=size, render_quality="fast")
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    # Drawn, not enlarged: the share of the picture that the arm covers hardly depends on the size.
    arm = (image[..., 0] > image[..., 2]).mean()
    assert arm == pytest.approx(0.0135, abs=0.006)


def test_fast_has_neither_shadows_nor_multisampling():
    reference, fast = picture(image_size=96).astype(int), picture(image_size=96, render_quality="fast").astype(int)
    # Where the arm's edge runs through a pixel, multisampling mixes colors.
    assert len(np.unique(reference.reshape(-1, 3), axis=0)) > 1.2 * len(np.unique(fast.reshape(-1, 3), axis=0))
    assert np.abs(reference - fast).mean() > 0.1


def test_qualities_do_not_leak_through_a_shared_model():
    model = ReacherEnv().model
    samples, shadows = model.vis.quality.offsamples, model.vis.quality.shadowsize
    mujoco_rendering.SceneRenderer(model, 32, "fast").close()
    assert (model.vis.quality.offsamples, model.vis.quality.shadowsize) == (samples, shadows) != (0, 0)


def test_no_context_before_the_first_picture(monkeypatch):
    def refuse(*_):
        raise AssertionError("drawn without being asked to")

    monkeypatch.setattr(mujoco_env, "SceneRenderer", refuse)
    env = ReacherEnv()
    env.reset(seed=0, options={"goal_image": False})
    env.set_goal(POSE)
    env.set_state(POSE)
    assert env.step(np.zeros(2))[2]
    env.close()
    with pytest.raises(AssertionError, match="without being asked"):
        env.render()


def test_one_context_draws_many_environments(monkeypatch):
    made = []
    original = mujoco_rendering.SceneRenderer.__init__
    monkeypatch.setattr(
        mujoco_rendering.SceneRenderer, "__init__", lambda self, *args: (made.append(args[1]), original(self, *args))[1]
    )
    with GoalVectorEnv("reacher", 4, image_size=40, render_quality="fast") as envs:
        for env, value in zip(envs.envs, (0, 1, 2, 2), strict=True):
            color = {"floor.color": [[0.5, 0, 0], [0, 0, 0.5]]} if value == 1 else {}
            color |= {"agent.color": [0, 1, 0], "light.intensity": 0.3} if value == 2 else {}
            env.reset(seed=value, options={"variation_values": color, "goal_image": False})
        goals, images = envs.goal_images([2, 0]), envs.render()
        assert len(made) == 2  # another floor is another texture
        assert np.array_equal(images[2], images[3])
        assert len(np.unique(images.reshape(4, -1), axis=0)) == 3
        for index, env in enumerate(envs.envs):
            assert np.array_equal(env.render(), images[index])
        assert np.array_equal(goals, [envs.envs[2].goal_image(), envs.envs[0].goal_image()])
        assert np.array_equal(envs.render([3, 1]), images[[3, 1]])
        envs.envs[0].close()  # the others go on with the shared one
        assert np.array_equal(envs.render([3, 1]), images[[3, 1]])
        assert len(made) == 2


def test_closed_environments_can_draw_again():
    env = ReacherEnv(image_size=32)
    env.set_state(POSE)
    first = env.render()
    env.close()
    env.close()
    assert np.array_equal(env.render(), first)
    env.close()


class TestBackend:
    def test_the_user_s_choice_stands(self, monkeypatch):
        monkeypatch.setenv("MUJOCO_GL", "OSMesa")
        monkeypatch.setattr(mujoco_backend, "_works", lambda name: pytest.fail("probed in spite of a choice"))
        assert mujoco_backend.choose_backend() == "osmesa"
        assert os.environ["MUJOCO_GL"] == "OSMesa"

    @pytest.mark.parametrize(
        ("system", "working", "chosen"),
        [
            ("Linux", {"egl", "osmesa"}, "egl"),
            ("Linux", {"osmesa"}, "osmesa"),
            ("Linux", set(), "disabled"),
            ("Darwin", set(), "glfw"),
        ],
    )
    def test_what_works_is_chosen(self, monkeypatch, system, working, chosen):
        monkeypatch.setenv("MUJOCO_GL", "")  # restored afterwards, whatever the code under test writes
        monkeypatch.delenv("MUJOCO_GL")
        monkeypatch.setattr(mujoco_backend.platform, "system", lambda: system)
        monkeypatch.setattr(mujoco_backend, "_works", lambda name: name in working)
        assert mujoco_backend.choose_backend() == chosen == os.environ["MUJOCO_GL"]

    def test_the_probe_really_makes_a_context(self):
        assert mujoco_backend._works(os.environ["MUJOCO_GL"])
        assert not mujoco_backend._works("no-such-backend")

    def test_a_machine_too_busy_to_answer_is_not_one_that_cannot_draw(self, monkeypatch):
        """A process that imports MuJoCo takes longer: what it would have said is unknown, and nothing is set."""
        monkeypatch.setenv("MUJOCO_GL", "")  # restored afterwards
        monkeypatch.delenv("MUJOCO_GL")
        monkeypatch.setattr(mujoco_backend, "PROBE_SECONDS", 0.001)
        monkeypatch.setattr(mujoco_backend.platform, "system", lambda: "Linux")
        with (
            pytest.raises(OSError, match=r"'egl' gave no answer within 0\.001 s.*=egl; .* osmesa, disabled$") as error,
            mujoco_backend.mujoco_import("reacher"),
        ):
            pytest.fail("imported without a back end")
        assert "\n" not in str(error.value) and "MUJOCO_GL" not in os.environ

    @pytest.mark.parametrize("backend", ["disabled", "osmesa", "glfw"])
    def test_a_back_end_without_its_libraries_names_the_packages(self, monkeypatch, backend):
        def missing(name):
            if backend == "glfw":  # GLFW without a display
                raise mujoco_rendering.mujoco.FatalError("an OpenGL platform library has not been loaded")
            raise AttributeError("'NoneType' object has no attribute\n 'glGetError'")

        monkeypatch.setenv("MUJOCO_GL", backend)
        monkeypatch.setattr(mujoco_rendering, "import_module", missing)
        env = ReacherEnv(image_size=32)
        env.reset(seed=0, options={"goal_image": False})
        env.step(np.zeros(2))  # physics needs no back end
        with pytest.raises(OSError, match="libosmesa6") as caught:
            env.render()
        message = str(caught.value)
        assert "\n" not in message and f"MUJOCO_GL={backend}" in message and "libegl1 libgl1-mesa-dri" in message

    def test_failing_imports_name_the_packages_and_missing_modules_the_extra(self, monkeypatch):
        monkeypatch.setenv("MUJOCO_GL", "egl")
        with (
            pytest.raises(OSError, match=r"MUJOCO_GL=egl \(no libEGL\).*libegl1"),
            mujoco_backend.mujoco_import("cube"),
        ):
            raise ImportError("no libEGL")
        with pytest.raises(ImportError, match=r"pip install 'lewm-hf\[cube\]'"), mujoco_backend.mujoco_import("cube"):
            raise ModuleNotFoundError("No module named 'ogbench'", name="ogbench")


@pytest.mark.long
def test_a_process_that_forgets_to_close_ends_quietly():
    code = (
        "from lewm_hf.tasks.reacher.env import ReacherEnv\n"
        "envs = [ReacherEnv(image_size=16, render_quality='fast') for _ in range(3)]\n"
        "for env in envs: env.reset(seed=0); env.render()\n"
        "del envs[0]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
