"""Before any test imports MuJoCo by itself: without a back end dm_control tries to open a window."""

from lewm_hf.tasks.mujoco_backend import choose_backend

choose_backend()
