"""What it means when Kafka says no: who we are, whom we trust, or what we may do. Never a reason to end at once.

librdkafka tries again for ever, and tells only those who ask. So each client of a long-running process reports here;
what is refused is counted, and said once in a while.
"""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

import structlog
from confluent_kafka import KafkaError

log = structlog.get_logger(__name__)

Reason = Literal["authentication", "authorization", "tls"]

AUTHENTICATION = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}
AUTHORIZATION = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
#: How the broker's refusal of our certificate, and a listener without TLS, are told.
TLS_TEXT = re.compile(r"SSL routines|SSL alert|PLAINTEXT broker listener")
#: Where librdkafka was when it heard of it.
CONTEXT = re.compile(r"^\w+://\S+: | \(after [^()]*\)$")
#: Between two lines that say the same.
QUIET_SECONDS = 60.0


class Refusal(NamedTuple):
    reason: Reason
    text: str


def refusal_of(error: KafkaError) -> Refusal | None:
    """None for everything else that goes wrong, such as a broker that is away."""
    reason: Reason
    if error.code() in AUTHENTICATION:
        reason = "authentication"
    elif error.code() in AUTHORIZATION:
        reason = "authorization"
    elif error.code() == KafkaError._SSL or (error.code() == KafkaError._TRANSPORT and TLS_TEXT.search(error.str())):
        reason = "tls"
    else:
        return None
    return Refusal(reason, CONTEXT.sub("", error.str()))


class Refusals:
    """Counts and tells what the clients of one process report. count: gets the reason; clock: seconds, monotonic."""

    def __init__(self, count: Callable[[Reason], None], clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._said: dict[Refusal, float] = {}

    def hear(self, error: KafkaError) -> bool:
        """Whether it was a refusal; all else is the caller's business. From any thread."""
        refusal = refusal_of(error)
        if refusal is None:
            return False
        self._count(refusal.reason)
        now = self._clock()
        self._said = {each: at for each, at in self._said.items() if now < at + QUIET_SECONDS}
        if refusal not in self._said:
            self._said[refusal] = now
            log.error("Kafka refuses this client", reason=refusal.reason, problem=refusal.text)
        return True
