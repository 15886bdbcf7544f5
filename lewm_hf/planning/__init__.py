"""Planning with any world model: solvers, goal costs, and the policy that acts with them in environments."""

from .costs import goal_cost
from .frames import encode_frames
from .mpc import MPCPolicy
from .noise import problem_noise
from .planner import PlanOutput, PlanSettings, plan
from .solvers import Solution, Solver, get_solver
from .world_model import WorldModel, check_ready

__all__ = [
    "MPCPolicy",
    "PlanOutput",
    "PlanSettings",
    "Solution",
    "Solver",
    "WorldModel",
    "check_ready",
    "encode_frames",
    "get_solver",
    "goal_cost",
    "plan",
    "problem_noise",
]
