"""`headgate simulate`: card traffic with labelled frauds, and with `shoppers` people who look at items."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ops.terminal import Json, load_settings, print_json

simulate = typer.Typer(invoke_without_command=True)

ForSeconds = Annotated[float | None, typer.Option("--for", help="Live: end after so many seconds.")]
Kafka = Annotated[bool, typer.Option("--kafka", help="Send to the settings' broker and topic prefix.")]
Days = Annotated[float | None, typer.Option(help="Length of the history; default 30.")]
Start = Annotated[
    str | None, typer.Option(help="Its start, as 2026-01-31 or RFC 3339; into Kafka it ends now by default.")
]
Seed = Annotated[int, typer.Option(help="The same seed and options give the same traffic.")]


@simulate.callback()
def cards(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option(help="Write transactions to this .csv or .parquet file.")] = None,
    labels: Annotated[Path | None, typer.Option(help="With --output: write labels to this .csv or .parquet.")] = None,
    kafka: Kafka = False,
    accounts: Annotated[int, typer.Option(help="Accounts of the population.")] = 10_000,
    merchants: Annotated[int, typer.Option(help="Merchants of the population.")] = 1_000,
    days: Days = None,
    start: Start = None,
    events: Annotated[int | None, typer.Option(help="Exactly so many; default: as the accounts' habits make.")] = None,
    rate: Annotated[float | None, typer.Option(help="Live: transactions a second on average, open loop.")] = None,
    for_seconds: ForSeconds = None,
    fraud_share: Annotated[float, typer.Option(help="Share of the transactions that are frauds, 0 to 0.5.")] = 0.01,
    scenarios: Annotated[
        str, typer.Option(help="Which frauds, with commas.")
    ] = "large_amounts,compromised_merchants,stolen_credentials,structuring,card_testing",
    seed: Seed = 0,
    label_delay: Annotated[
        str | None, typer.Option(help="From transaction to label, as 7d, 30s or 5s-20s; default 7d, live 5s-20s.")
    ] = None,
    labels_for: Annotated[Literal["all", "frauds"] | None, typer.Option(help="What is labelled; default all.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate card traffic with labelled frauds: a history into files or Kafka, or live into Kafka with --rate."""
    if context.invoked_subcommand is not None:
        refuse_given(context, context.invoked_subcommand)
        return
    from ops.progress import progress_bar
    from ops.simulate.command import run_simulation
    from ops.simulate.options import Options

    options = Options(
        output=output,
        labels=labels,
        kafka=kafka,
        accounts=accounts,
        merchants=merchants,
        days=days,
        start=start,
        events=events,
        rate=rate,
        for_seconds=for_seconds,
        fraud_share=fraud_share,
        scenarios=scenarios,
        seed=seed,
        label_delay=label_delay,
        labels_for=labels_for,
    )
    with progress_bar(as_json) as progress:
        outcome = run_simulation(options, load_settings, progress)
    if as_json:
        print_json(outcome.as_json())
    else:
        print(outcome.summary())


@simulate.command("shoppers")
def shoppers(
    output: Annotated[Path | None, typer.Option(help="Write engagements to this .csv or .parquet file.")] = None,
    items_output: Annotated[
        Path | None, typer.Option(help="With --output: write the items to this .csv or .parquet.")
    ] = None,
    kafka: Kafka = False,
    users: Annotated[int, typer.Option(help="Shoppers.")] = 2_000,
    items: Annotated[int, typer.Option(help="Items of the catalogue.")] = 500,
    days: Days = None,
    start: Start = None,
    rate: Annotated[float | None, typer.Option(help="Live: visits a second on average, open loop.")] = None,
    for_seconds: ForSeconds = None,
    slates: Annotated[
        bool, typer.Option("--slates/--no-slates", help="Live: show shoppers their slates from the settings' Redis.")
    ] = True,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Simulate people who look at items, and answer the slates of a running service: a history, or live with --rate."""
    from ops.progress import progress_bar
    from ops.simulate.shoppers.command import run_shoppers
    from ops.simulate.shoppers.options import ShopOptions

    options = ShopOptions(
        output=output,
        items_output=items_output,
        kafka=kafka,
        users=users,
        items=items,
        days=days,
        start=start,
        rate=rate,
        for_seconds=for_seconds,
        slates=slates,
        seed=seed,
    )
    with progress_bar(as_json) as progress:
        outcome = run_shoppers(options, load_settings, progress)
    if as_json:
        print_json(outcome.as_json())
    else:
        print(outcome.summary())


def refuse_given(context: typer.Context, command: str) -> None:
    """Options before the subcommand would mean nothing. Raises BadSimulation."""
    from ops.simulate.cards import BadSimulation

    sources = (context.get_parameter_source(name) for name in context.params)
    if any(source is not None and source.name == "COMMANDLINE" for source in sources):
        raise BadSimulation(f"options of `headgate simulate {command}` come after the word {command}")
