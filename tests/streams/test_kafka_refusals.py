"""What Kafka refuses is counted each time, said once in a while, and told apart from a broker that is away."""

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from streams.kafka_refusals import QUIET_SECONDS, Refusals, refusal_of


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (KafkaError._AUTHENTICATION, "sasl_ssl://host:1/bootstrap: no (after 3ms in state AUTH_REQ)", "authentication"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "Broker: Topic authorization failed", "authorization"),
        (KafkaError._SSL, "ssl://host:1/1: certificate verify failed (after 3ms in state SSL_HANDSHAKE)", "tls"),
        (KafkaError._TRANSPORT, "ssl://host:1/1: SSL alert number 42 (after 1ms in state UP)", "tls"),
    ],
)
def test_a_refusal_is_known_with_its_reason_and_without_what_the_client_did(code: int, text: str, reason: str) -> None:
    refusal = refusal_of(KafkaError(code, text))

    assert refusal is not None
    assert refusal.reason == reason
    assert "://" not in refusal.text
    assert "(after" not in refusal.text


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT])
def test_a_broker_that_is_away_is_no_refusal(code: int) -> None:
    counted: list[str] = []

    assert not Refusals(counted.append, lambda: 0.0).hear(KafkaError(code, "Connection refused"))
    assert counted == []


def test_each_refusal_is_counted_and_the_same_is_said_once_a_minute() -> None:
    counted: list[str] = []
    now = 0.0
    refusals = Refusals(counted.append, lambda: now)
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)

    with capture_logs() as lines:
        for _ in range(3):
            assert refusals.hear(denied)
        assert refusals.hear(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
        now = QUIET_SECONDS
        refusals.hear(denied)

    assert counted == ["authorization"] * 5
    assert [line["problem"] for line in lines] == [
        "Broker: Topic authorization failed",
        "Broker: Group authorization failed",
        "Broker: Topic authorization failed",
    ]
