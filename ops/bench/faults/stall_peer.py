"""What the peers' programs of the stall benchmark are told: where events come from, and where their ids go.

They pass on the id of each event and do nothing else, which is in their favour: no model, no state, no SQL.
"""

import argparse
from dataclasses import dataclass
from typing import Literal

Guarantee = Literal["at-least-once", "exactly-once"]


@dataclass(frozen=True, slots=True)
class StallOptions:
    """kafka: bootstrap servers; source and target: topics; guarantee: where the framework knows such a thing."""

    kafka: str
    source: str
    target: str
    group: str
    guarantee: Guarantee


def read_options() -> StallOptions:
    parser = argparse.ArgumentParser()
    for name in ("kafka", "source", "target", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--guarantee", choices=("at-least-once", "exactly-once"), default="at-least-once")
    return StallOptions(**vars(parser.parse_args()))
