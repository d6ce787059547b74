"""`headgate accept-loss` and `headgate rescale`: what only a person may decide about partitions."""

from dataclasses import asdict
from typing import Annotated

import typer

from ops.terminal import Json, fail, load_settings, print_json

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, say what would be done.")]


def accept_loss(
    topic: Annotated[str, typer.Option(help="For example transactions.")],
    partition: Annotated[int, typer.Option(min=0)],
    to: Annotated[
        int | None, typer.Option(min=0, help="The offset to go on with; default: the first that Kafka has.")
    ] = None,
    why: Annotated[str, typer.Option(help="Kept with the loss.")] = "by hand",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give up records that Kafka dropped before they were read. They are counted, and the partition goes on."""
    from ops.clock import utc_now
    from ops.jobs.accept_loss import give_up, plan_loss
    from storage.database import open_database

    settings = load_settings()
    database = open_database(settings.database.get_secret_value())
    plan = plan_loss(settings, database, topic, partition, to)
    if not yes:
        fail(f"--yes would give up {plan.in_words()}")
    loss = give_up(database, plan, why, utc_now)
    if as_json:
        print_json(
            {
                "topic": plan.topic,
                "partition": loss.partition,
                "from_offset": loss.from_offset,
                "to_offset": loss.to_offset,
                "lost": loss.records,
            }
        )
    else:
        print(f"given up: {plan.in_words()}; a running worker goes on within seconds")


def rescale(
    topic: Annotated[str | None, typer.Option(help="Only this one, for example transactions.")] = None,
    partitioner: Annotated[
        str | None,
        typer.Option(help="How producers choose partitions: murmur2, crc32, fnv1a or any; default: found out."),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Though old partitions were not read to their end.")] = False,
    as_json: Json = False,
) -> None:
    """Rebuild state from SQL after a topic has got more partitions, and read the new ones."""
    from ops.clock import utc_now
    from ops.jobs.rescale import run_rescale
    from storage.database import open_database

    settings = load_settings()
    database = open_database(settings.database.get_secret_value())
    found = run_rescale(settings, database, topic=topic, partitioner=partitioner, now=now, clock=utc_now)
    if as_json:
        print_json({"rescaled": [asdict(one) for one in found]})
        return
    for one in found:
        keys = "" if one.partitioner is None else f", keys by {one.partitioner}"
        print(f"{one.topic}: {one.before} to {one.partitions} partitions{keys}; running workers go on within seconds")
    if not found:
        print("no topic has more partitions than its state was built with")
