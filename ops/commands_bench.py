"""`headgate bench`: benchmarks, each of which checks its results and prints its proof.

Arguments in, one call to the part of ops/bench that does the work. Imports inside commands keep `headgate --help` fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from ops.terminal import Json, print_json

bench = typer.Typer(help="Benchmarks; each prints its proof.", no_args_is_help=True)


@bench.command("data")
def bench_data(
    transactions: Annotated[Path, typer.Option(help="Write transactions to this .csv or .parquet file.")],
    labels: Annotated[Path, typer.Option(help="Write the frauds' labels to this .csv or .parquet file.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same data.")] = 0,
    as_json: Json = False,
) -> None:
    """Write the Fraud Detection Handbook's transactions, made from their published description."""
    from ops.simulate.handbook import HandbookConfig, write_handbook

    data = write_handbook(transactions, labels, HandbookConfig(seed=seed))
    if as_json:
        print_json({"events": len(data), "frauds": int(data.fraud.sum())})
    else:
        print(f"{len(data):,} transactions, {int(data.fraud.sum()):,} of them frauds")


@bench.command("drift")
def bench_drift(
    output: Annotated[Path, typer.Option(help="Write the plot to this .png file.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation and of training.")] = 0,
    as_json: Json = False,
) -> None:
    """What retraining is worth when fraud changes: weekly average precision against a model that stays."""
    from ops.bench.drift import DriftConfig, in_words, run_drift
    from ops.progress import progress_bar

    with progress_bar(as_json) as progress:
        found = run_drift(output, DriftConfig(seed=seed), progress)
    if as_json:
        print_json(found)
    else:
        print(in_words(found))


@bench.command("detection")
def bench_detection(
    seeds: Annotated[str, typer.Option(help="Of the data, with commas.")] = "0,1,2",
    as_json: Json = False,
) -> None:
    """How well the service detects on the Handbook's protocol, beside boosted trees and streaming models."""
    from ops.bench.detection import run_detection
    from ops.bench.options import whole_numbers

    result = run_detection(whole_numbers("--seeds", seeds), quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("order")
def bench_order(
    seeds: Annotated[str, typer.Option(help="Of the simulation and of training, with commas.")] = "0,1,2",
    as_json: Json = False,
) -> None:
    """What the detector's memory is worth where fraud lies in the order of payments, beside boosted trees."""
    from ops.bench.options import whole_numbers
    from ops.bench.order import run_order

    result = run_order(whole_numbers("--seeds", seeds), quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("memos")
def bench_memos(
    seeds: Annotated[str, typer.Option(help="Of the simulation and of training, with commas.")] = "0,1,2",
    as_json: Json = False,
) -> None:
    """What reading memos is worth to the detector where fraud shows early in nothing else."""
    from ops.bench.memos import run_memos
    from ops.bench.options import whole_numbers

    result = run_memos(whole_numbers("--seeds", seeds), quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("compression")
def bench_compression(
    seeds: Annotated[str, typer.Option(help="Of the simulation and of training, with commas.")] = "0,1",
    hidden: Annotated[int, typer.Option(min=2, help="Hidden units of the large detector.")] = 256,
    kept: Annotated[int, typer.Option(min=1, help="Hidden units of the pruned and the distilled one.")] = 32,
    as_json: Json = False,
) -> None:
    """What making a large detector small costs in average precision and gains in speed, by method."""
    from ops.bench.compression import CompressionBench, run_compression
    from ops.bench.options import whole_numbers

    config = CompressionBench(hidden=hidden, kept=kept)
    result = run_compression(whole_numbers("--seeds", seeds), config, quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("shoppers")
def bench_shoppers(
    seeds: Annotated[str, typer.Option(help="Of the simulation, with commas.")] = "0,1,2",
    as_json: Json = False,
) -> None:
    """What simple policies earn from the simulated shoppers, beside an oracle that knows their tastes."""
    from ops.bench.options import whole_numbers
    from ops.bench.shoppers import in_words, run_shoppers_bench
    from ops.progress import progress_bar

    with progress_bar(as_json) as progress:
        found = run_shoppers_bench(whole_numbers("--seeds", seeds), progress)
    if as_json:
        print_json(found)
    else:
        print(in_words(found))


@bench.command("recommendation")
def bench_recommendation(
    parts: Annotated[
        str,
        typer.Option(
            help="Of recsim_interest, recsim_satisfaction, recogym, open_bandit, gate, learning, speed, latency; with "
            "commas."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of training and of simulated users.")] = 0,
    as_json: Json = False,
) -> None:
    """How well the recommender does in public simulators, beside others; its gate and its speed. All parts: hours."""
    from ops.bench.recommendation.command import run_recommendation

    result = run_recommendation(names_in(parts), seed, quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("cold-start")
def bench_cold_start(
    seeds: Annotated[str, typer.Option(help="Of the shop and of training, with commas.")] = "0,1,2",
    picture: Annotated[
        Path | None, typer.Option(help="Draw what the picture encoder groups, into this .png file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What new items earn in their first hour with a policy that sees their pictures, beside one that does not."""
    from ops.bench.cold_start.command import in_words, run_cold_start
    from ops.bench.options import whole_numbers
    from ops.progress import progress_bar

    with progress_bar(as_json) as progress:
        found = run_cold_start(whole_numbers("--seeds", seeds), progress, picture=picture)
    if as_json:
        print_json(found)
    else:
        print(in_words(found))


@bench.command("throughput")
def bench_throughput(
    events: Annotated[int, typer.Option(help="Transactions in Kafka.")] = 600_000,
    accounts: Annotated[int, typer.Option()] = 100_000,
    partitions: Annotated[int, typer.Option()] = 4,
    hidden: Annotated[int, typer.Option()] = 64,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; the median counts.")] = 3,
    peers: Annotated[str, typer.Option(help="Which to run beside it.")] = "faust,quix,bytewax",
    as_json: Json = False,
) -> None:
    """Full durable path, events a second, beside Faust, Quix Streams and Bytewax with the same model and COPY."""
    from ops.bench.throughput import run_throughput

    result = run_throughput(
        events=events,
        accounts=accounts,
        partitions=partitions,
        hidden=hidden,
        rounds=rounds,
        peers=names_in(peers),
        quiet=as_json,
    )
    if as_json:
        print_json(result)


@bench.command("latency")
def bench_latency(
    rate: Annotated[float, typer.Option(min=1, help="Payments a second.")] = 1_000.0,
    seconds: Annotated[float, typer.Option(min=1, help="Measured, after half a minute of warm-up.")] = 120.0,
    accounts: Annotated[int, typer.Option()] = 100_000,
    partitions: Annotated[int, typer.Option()] = 4,
    hidden: Annotated[int, typer.Option()] = 64,
    as_json: Json = False,
) -> None:
    """From a payment to its alert in Kafka and in Redis, open loop; every payment scored once."""
    from ops.bench.latency import LatencyConfig, run_latency

    result = run_latency(LatencyConfig(rate, seconds, accounts, partitions, hidden), quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("endurance")
def bench_endurance(
    rate: Annotated[int, typer.Option(min=20, help="Payments a second.")] = 20_000,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30.0,
    accounts: Annotated[int, typer.Option()] = 100_000,
    partitions: Annotated[int, typer.Option()] = 4,
    hidden: Annotated[int, typer.Option()] = 64,
    as_json: Json = False,
) -> None:
    """Whether a worker's memory stays flat under an even load on the whole durable path; needs 25 GB of disk."""
    from ops.bench.endurance import EnduranceConfig, run_endurance

    result = run_endurance(EnduranceConfig(rate, minutes, accounts, partitions, hidden), quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("console")
def bench_console(
    payments: Annotated[int, typer.Option(min=1_000, help="Predictions in SQL.")] = 1_000_000,
    alert_share: Annotated[float, typer.Option(min=0.001, max=0.5, help="Of payments that are flagged.")] = 0.057,
    accounts: Annotated[int, typer.Option()] = 100_000,
    loads: Annotated[int, typer.Option(min=1, help="Of each page.")] = 7,
    as_json: Json = False,
) -> None:
    """How long the console's pages take in Chromium, with a million predictions and some 50,000 alerts in SQL."""
    from ops.bench.console import ConsoleConfig, run_console

    result = run_console(ConsoleConfig(payments, alert_share, accounts, loads), quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("state")
def bench_state(
    parts: Annotated[str, typer.Option(help="copies, memory, or both with a comma.")] = "copies,memory",
    accounts: Annotated[int, typer.Option(help="Of the copies; all of them fit.")] = 100_000,
    events: Annotated[int, typer.Option(help="Of each run of the copies.")] = 1_000_000,
    every: Annotated[int, typer.Option(help="A partition is copied after so many of its events.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs with and without copies in turn; medians count.")] = 3,
    many: Annotated[int, typer.Option(help="Accounts of the memory part.")] = 10_000_000,
    most_resident: Annotated[int, typer.Option(help="Of them in memory.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """What snapshots cost the stream, and how much memory many accounts take."""
    from ops.bench.state import StateBenchConfig, run_state

    config = StateBenchConfig(accounts, events, every, rounds, many, most_resident)
    result = run_state(names_in(parts), config, quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("model")
def bench_model(
    batches: Annotated[str, typer.Option(help="Events of a batch, with commas.")] = "256,1024,4096,8192,16384,65536",
    hidden: Annotated[str, typer.Option(help="Hidden units, with commas.")] = "64,128,256",
    as_json: Json = False,
) -> None:
    """The detector's network alone, events a second, on the CPU and a GPU where there is one; scores compared."""
    from ops.bench.model import ModelBenchConfig, run_model
    from ops.bench.options import whole_numbers

    config = ModelBenchConfig(whole_numbers("--batches", batches, least=1), whole_numbers("--hidden", hidden, least=1))
    result = run_model(config, quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("scaling")
def bench_scaling(
    parts: Annotated[
        str, typer.Option(help="Of entities, hot_key, memos, partitions, workers; with commas.")
    ] = "entities,hot_key,memos,partitions,workers",
    accounts: Annotated[str, typer.Option(help="How many, for entities.")] = "10000,100000,1000000",
    partitions: Annotated[str, typer.Option(help="How many, for partitions.")] = "1,4,16,64",
    workers: Annotated[str, typer.Option(help="How many processes, for workers.")] = "1,2",
    memos: Annotated[float, typer.Option(min=0.01, max=1, help="Share of events with a memo, for memos.")] = 0.5,
    events: Annotated[int, typer.Option(min=1, help="Of each run of memos, partitions and workers.")] = 200_000,
    as_json: Json = False,
) -> None:
    """What an event costs by accounts, with a hot key and memos; throughput with memos, by partitions and workers."""
    from ops.bench.options import whole_numbers
    from ops.bench.scaling import ScalingConfig, run_scaling
    from ops.bench.scaling_service import ServiceLoad

    config = ScalingConfig(
        accounts=whole_numbers("--accounts", accounts, least=1),
        partitions=whole_numbers("--partitions", partitions, least=1),
        workers=whole_numbers("--workers", workers, least=1),
        memo_share=memos,
        load=ServiceLoad(events=events),
    )
    result = run_scaling(names_in(parts), config, quiet=as_json)
    if as_json:
        print_json(result)


@bench.command("faults")
def bench_faults(
    seed: Annotated[int, typer.Option(min=0, help="Of the order of faults, the load and everything by chance.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="A round is one fault under load, healing, and the check.")] = 30,
    faults: Annotated[str, typer.Option(help="Only these, with commas; default: all, in turn.")] = "",
    results: Annotated[
        Path | None, typer.Option(help="Append finished rounds to this file (JSON lines), and go on behind them.")
    ] = None,
    bug: Annotated[
        str | None, typer.Option(help="Plant this bug in the workers, to see that it is found; docs/reliability.md.")
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Instead: kill one of two workers, beside Quix Streams and Faust.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Kill, freeze and cut off real workers and services under load, and check that nothing is lost or doubled."""
    from ops.bench.faults.command import run_faults
    from ops.bench.faults.stall_command import run_stalls

    if peers:
        found = run_stalls(quiet=as_json)
    else:
        found = run_faults(seed=seed, rounds=rounds, faults=names_in(faults), results=results, bug=bug, quiet=as_json)
    if as_json:
        print_json(found)


@bench.command("plot")
def bench_plot(
    result: Annotated[Path, typer.Argument(help="A file whose last line a benchmark printed with --json.")],
    output: Annotated[Path, typer.Option(help="Write the plot to this .png file.")],
) -> None:
    """Draw what throughput, latency, endurance, console or scaling found."""
    from ops.bench.plots import plot_result

    plot_result(result, output)
    print(f"{output} is written")


def names_in(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
