"""From which offset on a partition's records are scored by which model, as `stream_controls` keeps it."""

from dataclasses import dataclass

from sqlalchemy import Connection

from storage.progress import record_control

#: The name in stream_controls under which a partition's model is recorded.
MODEL_CONTROL = "detector"


@dataclass(frozen=True, slots=True)
class Activation:
    """Written in the transaction of the first batch that the model scored there."""

    topic_generation: int
    partition: int
    from_offset: int
    model: str

    def __call__(self, connection: Connection) -> None:
        record_control(connection, self.topic_generation, self.partition, MODEL_CONTROL, self.from_offset, self.model)
