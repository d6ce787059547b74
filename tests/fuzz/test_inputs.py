"""Fuzzing with a bounded number of inputs: whatever comes from Kafka has one outcome and can be stored, whatever is
asked of the console's API is answered.

`make fuzz` runs the same targets for longer, steered by coverage.
"""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzz.api import api_target, console
from tests.fuzz.laws import CODES
from tests.fuzz.targets import OUTCOMES, TARGETS

pytestmark = pytest.mark.slow

INPUTS = 300
BOUNDED = settings(max_examples=INPUTS, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_has_one_outcome_and_can_be_stored(name: str) -> None:
    before = OUTCOMES[name].total()
    BOUNDED(TARGETS[name])()
    assert OUTCOMES[name].total() - before >= INPUTS / 2
    assert len(OUTCOMES[name]) >= 3, "what is drawn takes several ways through the code"
    assert set(OUTCOMES[name]) <= {*CODES, "applied", "thumbnail", "format", "costly", "broken"}


def test_whatever_is_asked_of_the_api_is_answered(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    with console(tmp_path) as asked:
        BOUNDED(api_target(asked, counts))()
    assert counts.total() >= INPUTS / 2
    assert {"200", "401", "404", "422"} <= set(counts)
