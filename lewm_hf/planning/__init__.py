"""Planning with any world model: solvers, goal costs, named planners, and the policies that act in environments."""

from ..world_models.base import ActingWorldModel, WorldModel
from .actor import ActorPolicy, propose, propose_around
from .costs import control_cost, goal_cost
from .frames import encode_frames, observe_frames
from .mpc import MPCPolicy
from .noise import problem_noise
from .plan_settings import PlanSettings
from .planner import PlanOutput, plan
from .planners import Planner, load_planner, planner_names
from .robot_loop import LoopReport, RobotLoop
from .solvers import (
    CEM,
    ICEM,
    MPPI,
    Gradient,
    Hybrid,
    Keep,
    RandomShooting,
    Solution,
    Solver,
    make_solver,
    register_solver,
)
from .world_model import check_ready, has_actor

__all__ = [
    "CEM",
    "Gradient",
    "Hybrid",
    "ICEM",
    "Keep",
    "MPPI",
    "RandomShooting",
    "ActingWorldModel",
    "ActorPolicy",
    "MPCPolicy",
    "PlanOutput",
    "PlanSettings",
    "Planner",
    "LoopReport",
    "RobotLoop",
    "Solution",
    "Solver",
    "WorldModel",
    "check_ready",
    "control_cost",
    "encode_frames",
    "goal_cost",
    "has_actor",
    "load_planner",
    "make_solver",
    "observe_frames",
    "plan",
    "planner_names",
    "problem_noise",
    "propose",
    "propose_around",
    "register_solver",
]
