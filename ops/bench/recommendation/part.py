"""One part of `headgate bench recommendation`, as a process of the benchmark environment.

`python -m ops.bench.recommendation.part recogym '{"worlds": [42]}'` prints JSON lines: {"stage", "done"} as it goes,
then {"result"}, or {"failed"} with what is wrong in one line. What the packages print goes to standard error.
"""

import contextlib
import importlib
import json
import sys
from collections.abc import Mapping
from typing import TextIO

import torch

from ops.bench.measure import BenchmarkFailed

#: Part -> module and function; called with the arguments given and `progress`.
FUNCTIONS: Mapping[str, tuple[str, str]] = {
    "recsim_interest": ("recsim", "recsim_interest"),
    "recsim_satisfaction": ("recsim_satisfaction", "recsim_satisfaction"),
    "recogym": ("recogym", "recogym_benchmark"),
    "open_bandit": ("open_bandit", "open_bandit_benchmark"),
}


def main() -> int:
    name, arguments = sys.argv[1:]
    out = sys.stdout
    torch.set_num_threads(1)

    def progress(stage: str, done: float) -> None:
        tell(out, {"stage": stage, "done": done})

    with contextlib.redirect_stdout(sys.stderr):
        module, function = FUNCTIONS[name]
        try:
            run = getattr(importlib.import_module(f"ops.bench.recommendation.{module}"), function)
            result = run(**json.loads(arguments), progress=progress)
        except BenchmarkFailed as error:
            tell(out, {"failed": str(error)})
            return 1
    tell(out, {"result": result})
    return 0


def tell(out: TextIO, what: Mapping[str, object]) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
