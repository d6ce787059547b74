"""The `headgate` command: arguments in, one call to the part that does the work, output for a person or as JSON.

Imports inside commands keep `headgate --help` fast. A user's mistake or an absent service is one line on standard
error and exit code 1, never a traceback; `--json` prints one JSON object as the last line.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from ops.commands_audit import audit
from ops.commands_bench import bench
from ops.commands_dashboard import dashboard
from ops.commands_data import HorizonDays, LabelsFile, Transactions, data
from ops.commands_database import database
from ops.commands_models import models
from ops.commands_partitions import accept_loss, rescale
from ops.commands_retention import prune
from ops.commands_simulate import simulate
from ops.commands_subjects import erase, pseudonym
from ops.terminal import Json, cli_user, fail, load_settings, plain, print_json

cli = typer.Typer(
    name="headgate",
    help="Scores live transactions on Kafka with a recurrent detector; every prediction in SQL, alerts where needed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics = typer.Typer(help="Kafka topics.", no_args_is_help=True)
dead_letters = typer.Typer(help="Records that could not be processed.", no_args_is_help=True)
redis_commands = typer.Typer(help="The Redis views.", no_args_is_help=True)
Learning = Literal["fraud", "recommender"]
cli.add_typer(simulate, name="simulate")
cli.add_typer(data, name="data")
cli.add_typer(models, name="models")
cli.add_typer(topics, name="topics")
cli.add_typer(database, name="db")
cli.add_typer(dead_letters, name="dlq")
cli.add_typer(redis_commands, name="redis")
cli.add_typer(bench, name="bench")


def main() -> None:
    """The entry point: known errors become one line and exit code 1."""
    try:
        cli()
    except Exception as error:
        from ops.errors import KNOWN_ERRORS  # brings torch and more, which takes seconds

        if not isinstance(error, KNOWN_ERRORS):
            raise
        fail(str(error))


@cli.command()
def demo(
    for_seconds: Annotated[
        float | None, typer.Option("--for", min=1, help="End after so many seconds of live traffic; else at Ctrl-C.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, max=5000, help="Transactions a second, on average.")] = 200.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated traffic.")] = 7,
    as_json: Json = False,
) -> None:
    """Start everything that is missing, train on simulated history, and watch live payments and shoppers."""
    from rich.console import Console

    from ops.demo.prepare import DemoConfig
    from ops.demo.run import run_demo
    from ops.demo.view import summary_table

    summary = run_demo(load_settings(), DemoConfig(seconds=for_seconds, rate=rate, seed=seed), Console(stderr=True))
    if as_json:
        print_json(summary)
    else:
        Console().print(summary_table(summary))


@cli.command()
def up() -> None:
    """Start the embedded services (Kafka-compatible broker, Redis) and print their settings, until Ctrl-C."""
    from ops.embedded import embedded_services, wait_for_interrupt

    with embedded_services(kafka=None, redis=None, database=None) as services:
        for line in services.exports():
            print(line, flush=True)
        print("Ctrl-C ends them; nothing is kept.", file=sys.stderr)
        wait_for_interrupt()


@cli.command()
def worker() -> None:
    """Score the stream until told to stop."""
    from ops.worker import run_worker

    run_worker(load_settings())


cli.command("dashboard")(dashboard)


@cli.command()
def train(
    transactions: Transactions = None,
    labels: LabelsFile = None,
    alerts_per_day: Annotated[float, typer.Option(help="How many alerts a day analysts can handle.")] = 100.0,
    events_per_day: Annotated[float | None, typer.Option(help="Expected traffic; default: as in the data.")] = None,
    label_horizon_days: HorizonDays = None,
    hidden: Annotated[int, typer.Option(help="Hidden units of the recurrent network.")] = 64,
    epochs: Annotated[int, typer.Option(help="At most this many passes over the history.")] = 12,
    seed: Annotated[int, typer.Option()] = 0,
    promote: Annotated[bool, typer.Option(help="Make it the champion (the first model always is).")] = False,
    as_json: Json = False,
) -> None:
    """Train a detector and register it."""
    from models.labels import History
    from models.sequences import TrainingConfig
    from ops.clock import utc_now
    from ops.compose import choose_device, read_rates
    from ops.jobs.data_check import filed_and_checked, stored_and_checked
    from ops.jobs.history_files import read_files
    from ops.jobs.train import train_and_register
    from ops.model_registry import open_registry
    from ops.progress import progress_bar
    from storage.database import open_database
    from storage.training_data import cut_now

    settings = load_settings()
    sql = open_database(settings.database.get_secret_value())
    registry = open_registry(settings, sql, registers=True)
    horizon = settings.label_horizon if label_horizon_days is None else timedelta(days=label_horizon_days)
    rates = read_rates(settings.rates)
    history: History
    if transactions is not None:
        history, quality = filed_and_checked(
            read_files(transactions, labels, rates, settings.pseudonyms), rates, horizon
        )
    else:
        history, quality = stored_and_checked(sql, rates, cut_now(sql, utc_now()), horizon)
    config = TrainingConfig(
        hidden=hidden, epochs=epochs, seed=seed, alerts_per_day=alerts_per_day, events_per_day=events_per_day
    )
    with progress_bar(as_json) as progress:
        record, result = train_and_register(
            history,
            config,
            registry.by(cli_user()),
            sql,
            quality=quality,
            promote="promoted by `headgate train --promote`" if promote else None,
            clock=utc_now,
            progress=progress,
            device=choose_device(settings.device),
        )
    if as_json:
        print_json({"model": f"{record.name}:{record.version}", "alias": record.alias, "metrics": result.metrics})
    else:
        print(f"registered {record.name}:{record.version} ({record.alias})")
        for name, value in result.metrics.items():
            print(f"  {name:28} {value:.4g}")


@cli.command()
def retrain(
    once: Annotated[bool, typer.Option("--once", help="One pass, then end.")] = False,
    every: Annotated[str, typer.Option(help="A pass so often, as 24h or 7d.")] = "24h",
    new_labels: Annotated[
        int | None, typer.Option(min=1, help="Also as soon as so many labels came in since the last pass.")
    ] = None,
    on_drift: Annotated[
        bool, typer.Option("--on-drift", help="Also as soon as inputs or scores drifted since the last pass.")
    ] = False,
    alerts_per_day: Annotated[float | None, typer.Option(help="Alert budget; default: the champion's.")] = None,
    label_horizon_days: HorizonDays = None,
    judged_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of the matured events, the latest, that only judge.")
    ] = 0.2,
    margin: Annotated[float, typer.Option(min=0, help="Average precision that a refresh may lose.")] = 0.02,
    hidden: Annotated[
        int | None, typer.Option(min=1, help="Hidden units; other than the champion's, it must be better.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most this many passes over the history.")] = 12,
    seed: Annotated[int, typer.Option()] = 0,
    only: Annotated[
        Learning | None, typer.Option("--model", help="This one alone; default: both, as far as they have data.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train challengers from SQL, prove them against the champions and promote them; again and again unless --once."""
    from models.gate import GateRules
    from models.train_policy import PolicyTrainingConfig
    from ops.compose_recommendations import slate_rules
    from ops.jobs.challenge import RetrainingRules
    from ops.jobs.retrain_command import run_retraining
    from ops.jobs.retrain_policy import PolicyRules

    settings = load_settings()
    rules = RetrainingRules(
        label_horizon=settings.label_horizon if label_horizon_days is None else timedelta(days=label_horizon_days),
        judged_share=judged_share,
        hidden=hidden,
        alerts_per_day=alerts_per_day,
        epochs=epochs,
        seed=seed,
        gate=GateRules(margin=margin),
    )
    policy_rules = PolicyRules(
        slates=slate_rules(settings),
        training=PolicyTrainingConfig(floor=settings.exploration, seed=seed),
        reward_window=settings.reward_window,
    )
    run_retraining(
        settings,
        rules,
        policy_rules,
        only=only,
        once=once,
        every=every,
        new_labels=new_labels,
        on_drift=on_drift,
        as_json=as_json,
    )


@cli.command()
def backtest(
    transactions: Annotated[Path, typer.Option(help="CSV or Parquet file in the contract's columns.")],
    output: Annotated[Path, typer.Option(help="A new or empty folder for predictions and report.")],
    labels: Annotated[
        Path | None, typer.Option(help="File with event_id and label; frauds alone suffice. None: without labels.")
    ] = None,
    label_delay: Annotated[str, typer.Option(help="From an event to its label, as 7d or 12h.")] = "7d",
    retrain_every: Annotated[str, typer.Option(help="A training so often, in event time.")] = "7d",
    retrain_from: Annotated[
        str | None, typer.Option(help="The first training, counted from the first day; default: --retrain-every.")
    ] = None,
    alerts_per_day: Annotated[float, typer.Option(min=0.01, help="How many alerts a day analysts can handle.")] = 100.0,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units of the recurrent network.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="At most this many passes over the history.")] = 12,
    seed: Annotated[int, typer.Option()] = 0,
    as_json: Json = False,
) -> None:
    """Replay a history through the code that runs live, with late labels and retraining, and report how it went."""
    from ops.compose import read_rates
    from ops.jobs.backtest_command import in_words, options_of, run_backtest
    from ops.progress import progress_bar

    options = options_of(
        label_delay, retrain_every, retrain_from, alerts_per_day=alerts_per_day, hidden=hidden, epochs=epochs, seed=seed
    )
    settings = load_settings()
    rates = read_rates(settings.rates)
    with progress_bar(as_json) as progress:
        found = run_backtest(transactions, labels, output, options, rates, progress, settings.pseudonyms)
    if as_json:
        print_json(found)
    else:
        print(in_words(found))


@cli.command()
def doctor(as_json: Json = False) -> None:
    """Check every service, version and permission, and say what to do."""
    from ops.doctor import diagnose

    checks = diagnose(load_settings())
    if as_json:
        print_json(
            {"checks": [{"name": c.name, "status": c.status, "found": c.found, "remedy": c.remedy} for c in checks]}
        )
    else:
        for check in checks:
            print(
                f"{check.status:5} {check.name:12} {check.found}"
                + (f"\n{'':18} -> {check.remedy}" if check.remedy else "")
            )
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


@topics.command("create")
def topics_create(
    partitions: Annotated[int, typer.Option(help="Partitions of each topic.")] = 4,
    replication: Annotated[int, typer.Option(help="Copies of each partition.")] = 1,
) -> None:
    """Create the contract's topics where they are missing."""
    from ops.kafka_settings import kafka_settings
    from streams.kafka import create_topics, topic_configurations

    settings = load_settings()
    wanted = topic_configurations(settings.topic_prefix, settings.record_size_limit)
    created = create_topics(kafka_settings(settings), wanted, partitions=partitions, replication=replication)
    for name in wanted:
        print(f"{name}: {'created' if name in created else 'exists'}")


@dead_letters.command("list")
def dead_letters_list(
    limit: Annotated[int, typer.Option(help="At most this many, newest first.")] = 50,
    code: Annotated[str | None, typer.Option(help="Only this error code.")] = None,
    as_json: Json = False,
) -> None:
    """Dead letters with their reason and place."""
    from ops.jobs.dead_letters import list_dead_letters
    from storage.database import open_database

    letters = list_dead_letters(open_database(load_settings().database.get_secret_value()), limit=limit, code=code)
    if as_json:
        print_json({"dead_letters": [letter.summary() for letter in letters]})
        return
    for letter in letters:
        again = f"  replayed {letter.replayed_at:%Y-%m-%d %H:%M}" if letter.replayed_at else ""
        place = f"{letter.topic}/{letter.source_partition}@{letter.source_offset}"
        print(
            f"{letter.recorded_at:%Y-%m-%d %H:%M:%S}  {place:28} {letter.error_code:14} "
            f"{plain(letter.error_message)}{again}"
        )


@dead_letters.command("replay")
def dead_letters_replay(
    code: Annotated[str | None, typer.Option(help="Only this error code.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many.")] = 1000,
) -> None:
    """Send dead letters to their topics again."""
    from ops.clock import utc_now
    from ops.jobs.dead_letters import reading_again, replay_dead_letters
    from ops.kafka_settings import kafka_settings
    from storage.database import open_database
    from streams.kafka import producer

    settings = load_settings()
    kafka = kafka_settings(settings)
    sent, partial = replay_dead_letters(
        open_database(settings.database.get_secret_value()),
        producer(kafka),
        read_again=reading_again(kafka, settings.pseudonyms),
        code=code,
        limit=limit,
        clock=utc_now,
        who=cli_user(),
    )
    print(f"{sent} sent again" + (f", {len(partial)} kept only in part and left alone" if partial else ""))


@redis_commands.command("rebuild")
def redis_rebuild() -> None:
    """Write the Redis views again from SQL."""
    from ops.clock import utc_now
    from ops.jobs.rebuild_redis import rebuild_redis

    rebuilt = rebuild_redis(load_settings(), utc_now())
    print(f"{rebuilt.alerts} alerts and {rebuilt.slates} slates written")


cli.command("audit")(audit)
cli.command("accept-loss")(accept_loss)
cli.command("rescale")(rescale)
cli.command("prune")(prune)
cli.command("erase")(erase)
cli.command("pseudonym")(pseudonym)
