"""A worker that stops for good, or for longer than a session, leaves its consumer group at once.

Static membership keeps a member's partitions for it until its session ends. That is right where it died and is started
again; one that is told to stop hands over to the others, who would stand still meanwhile. Where there are no others
nothing is gained, and a new start finds its partitions waiting.
"""

from kafka.admin import MemberToRemove

from streams.kafka import KafkaSettings, KafkaUnavailable, group_admin

REQUEST_SECONDS = 3.0


def leave_group(settings: KafkaSettings, group: str, worker: str) -> bool:
    """Takes a static member that reads no more out of its group; False where it is the only one. Raises
    KafkaUnavailable."""
    try:
        with group_admin(settings, REQUEST_SECONDS) as admin:
            others = len(admin.describe_groups([group])[group]["members"]) > 1
            if others:
                admin.remove_group_members(group, [MemberToRemove(group_instance_id=worker)])
            return others
    except KafkaUnavailable as error:
        raise KafkaUnavailable(f"{worker} could not leave the group {group}: {error}") from error
