"""A partition's log is cut where another model took over, window by window as in one go."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ops.bench.faults.evidence import Control
from ops.bench.faults.reference import stretches
from ops.bench.faults.topic_log import LogRecord


def record(offset: int) -> LogRecord:
    return LogRecord(0, offset, 0, None, None, {})


@given(
    length=st.integers(1, 30),
    changes=st.lists(st.integers(1, 29), unique=True, max_size=6),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_windows_give_each_record_the_model_and_each_takeover_that_one_pass_gives(
    length: int, changes: list[int], cuts: list[int]
) -> None:
    controls = [Control(0, "detector", offset, f"m:{offset}") for offset in [0, *sorted(changes)]]
    log = [record(offset) for offset in range(length)]

    def by_record(bounds: list[int]) -> list[tuple[int, str, bool]]:
        found = []
        for first, last in pairwise(bounds):
            for stretch in stretches(log[first:last], controls):
                for number, one in enumerate(stretch.records):
                    found.append((one.offset, stretch.model, stretch.new and not number))
        return found

    whole = by_record([0, length])
    assert [offset for offset, _, _ in whole] == list(range(length))
    assert by_record([0, *sorted(min(cut, length) for cut in cuts), length]) == whole
    for offset, model, new in whole:
        assert model == max((c for c in controls if c.from_offset <= offset), key=lambda c: c.from_offset).value
        assert new == (offset in {control.from_offset for control in controls})
