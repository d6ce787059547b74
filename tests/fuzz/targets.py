"""The targets of the fuzz runs, each a hypothesis test that counts outcomes: in the suite with a bounded number of
inputs (test_inputs.py), and for as long as somebody likes with atheris, which steers by coverage (`make fuzz`)."""

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.hostile import damaged, keys, messages, stamps
from tests.fuzz.laws import DECODERS, outcome, picture_outcome
from tests.pictures import BLUE_JPEG, RED_PNG, jpeg, plain, png

#: Target -> outcome -> how many inputs had it.
OUTCOMES: dict[str, Counter[str]] = {}
PICTURES = (
    *(RED_PNG, BLUE_JPEG, jpeg(plain("blue"), progressive=True), jpeg(plain((0, 255, 255, 0), mode="CMYK"))),
    *(png(plain("red").convert("P")), png(plain((0, 128), mode="LA")), png(plain(1, mode="1")), b"GIF89a", b""),
)


def decoding(topic: str) -> Callable[[], None]:
    counts = OUTCOMES.setdefault(topic, Counter())

    @given(value=st.none() | messages(topic) | st.binary(max_size=64), key=keys, stamp=stamps)
    def target(value: bytes | None, key: bytes | None, stamp: int) -> None:
        counts[outcome(topic, value, key, stamp)] += 1

    return target


def _pictures() -> Callable[[], None]:
    counts = OUTCOMES.setdefault("pictures", Counter())

    @given(
        data=st.sampled_from(PICTURES).flatmap(damaged) | st.sampled_from(PICTURES).flatmap(damaged).flatmap(damaged)
    )
    def target(data: bytes) -> None:
        counts[picture_outcome(data)] += 1

    return target


TARGETS: dict[str, Callable[[], None]] = {topic: decoding(topic) for topic in DECODERS} | {"pictures": _pictures()}
