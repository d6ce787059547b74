"""One part of `headgate bench recommendation`, as a process of the benchmark environment.

`python -m ops.bench.recommendation.part recogym '{"worlds": [42]}'` answers as ops/bench/processes.py says.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ops.bench.processes import Progress, followed

#: Part -> module and function; called with the arguments given and `progress`.
FUNCTIONS: Mapping[str, tuple[str, str]] = {
    "recsim_interest": ("recsim", "recsim_interest"),
    "recsim_satisfaction": ("recsim_satisfaction", "recsim_satisfaction"),
    "recogym": ("recogym", "recogym_benchmark"),
    "open_bandit": ("open_bandit", "open_bandit_benchmark"),
}


def main() -> int:
    name, arguments = sys.argv[1:]
    torch.set_num_threads(1)
    return followed(partial(result_of, name, json.loads(arguments)))


def result_of(name: str, arguments: Mapping[str, Any], progress: Progress) -> Any:
    module, function = FUNCTIONS[name]
    run = getattr(importlib.import_module(f"ops.bench.recommendation.{module}"), function)
    return run(**arguments, progress=progress)


if __name__ == "__main__":
    sys.exit(main())
