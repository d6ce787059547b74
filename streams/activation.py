"""From which offset on a partition's records are scored by which model and with which version of what labels say, as
`stream_controls` keeps it."""

from dataclasses import dataclass

from sqlalchemy import Connection

from storage.progress import record_control

#: The names in stream_controls under which a partition's model and its label version are recorded.
MODEL_CONTROL, LABELS_CONTROL = "detector", "labels"


@dataclass(frozen=True, slots=True)
class Activation:
    """Written in the transaction of the first batch that was scored so. name: one of the above; value: the model as
    name:version, or the number of the label version."""

    topic_generation: int
    partition: int
    from_offset: int
    name: str
    value: str

    def __call__(self, connection: Connection) -> None:
        record_control(connection, self.topic_generation, self.partition, self.name, self.from_offset, self.value)
