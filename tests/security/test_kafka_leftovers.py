"""A client of kafka-python that was refused leaves nothing behind; apart from aiokafka's tests, whose sockets stay."""

import gc
import threading

import pytest

from streams.kafka import KafkaUnavailable
from tests.secured_clients import Doors, by_kafka_python
from tests.security.test_kafka_clients import REFUSED


def threads_of_kafka_python() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("kafka-io-")}


@pytest.mark.parametrize("case", REFUSED)
def test_a_client_of_kafka_python_that_was_refused_leaves_no_socket_and_no_thread(doors: Doors, case: str) -> None:
    before = threads_of_kafka_python()

    with pytest.raises(KafkaUnavailable):
        by_kafka_python(REFUSED[case][0](doors))

    gc.collect()  # a socket that is found unclosed now is an error, as all warnings are
    assert threads_of_kafka_python() <= before
