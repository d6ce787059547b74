"""RecoGym and RecSim as they import today. Both were written for `gym`, which no longer installs; gymnasium has what
they use of it, and stands in for it here.

Of RecoGym only the environments are wanted: its agents bring in TensorFlow and more, so an empty agent stands in for
them. Runs in the benchmark environment (`make benchmark-environment`).
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

#: What the two packages import of gym.
GYM_MODULES = ("spaces", "envs", "envs.registration")


class _NoAgent:
    """Stands in for recogym.agents.Agent, which RecoGym's environments name in an annotation and nowhere else."""


def recsim_environments() -> tuple[Any, Any]:
    """RecSim's modules interest_evolution and long_term_satisfaction. Raises ModuleNotFoundError outside the benchmark
    environment."""
    use_gymnasium_as_gym()
    folder = "recsim.environments"
    return (
        importlib.import_module(f"{folder}.interest_evolution"),
        importlib.import_module(f"{folder}.long_term_satisfaction"),
    )


def recogym_environments() -> Any:
    """The module recogym.envs: RecoEnv1, env_1_args and more. Raises ModuleNotFoundError outside the benchmark
    environment."""
    use_gymnasium_as_gym()
    if "recogym" not in sys.modules:
        found = importlib.util.find_spec("recogym")
        if found is None or found.submodule_search_locations is None:
            raise ModuleNotFoundError("No module named 'recogym'", name="recogym")
        package, agents = ModuleType("recogym"), ModuleType("recogym.agents")
        package.__path__ = list(found.submodule_search_locations)
        agents.Agent = _NoAgent  # type: ignore[attr-defined]
        sys.modules |= {"recogym": package, "recogym.agents": agents}
    return importlib.import_module("recogym.envs")


def use_gymnasium_as_gym() -> None:
    """`import gym` and what is under it find gymnasium from here on, in this process."""
    if "gym" not in sys.modules:
        sys.modules["gym"] = importlib.import_module("gymnasium")
        for name in GYM_MODULES:
            sys.modules[f"gym.{name}"] = importlib.import_module(f"gymnasium.{name}")
