"""Plots of what a benchmark printed with `--json`, for documentation. Knows results by their keys, measures nothing."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ops.bench.measure import BenchmarkFailed
from ops.jobs.report_plots import BLUE, GREY, ORANGE, canvas, legend, png, title

Result = Mapping[str, Any]
QUANTILES = {"p50": "median", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "longest"}
NAMES = {"headgate": "Headgate", "bytewax": "Bytewax", "quix": "Quix Streams", "faust": "Faust"}


def plot_result(result_file: Path, output: Path) -> None:
    """Reads the last line of the file. Raises BenchmarkFailed for what no benchmark printed."""
    try:
        result = json.loads(result_file.read_text().strip().splitlines()[-1])
    except (OSError, ValueError, IndexError) as error:
        raise BenchmarkFailed(f"{result_file}: needs what a benchmark printed with --json as its last line") from error
    for key, draw in KINDS.items():
        if isinstance(result, dict) and key in result:
            output.write_bytes(png(draw(result)))
            return
    raise BenchmarkFailed(f"{result_file}: no plot is known for this result; those with {', '.join(KINDS)} have one")


def throughput(result: Result) -> Figure:
    """Events a second of every contestant, with the lowest and the highest round."""
    paces = {"headgate": result["events_per_second"], **result["peers"]}
    names = sorted(paces, key=lambda name: paces[name])
    figure, axes = canvas(7.5, 0.6 * len(names) + 1.4)
    for place, name in enumerate(names):
        low, high = result["spread"][name]
        axes.barh(place, paces[name], color=BLUE if name == "headgate" else GREY, height=0.6)
        axes.plot([low, high], [place, place], color=ORANGE, linewidth=2)
        axes.text(paces[name], place, f"  {paces[name]:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), [NAMES.get(name, name) for name in names])
    axes.set(xlim=(0, max(paces.values()) * 1.18), xlabel="events a second (line: lowest to highest round)")
    title(axes, "Whole durable path, one process, same model and COPY")
    return figure


def latency(result: Result) -> Figure:
    """Quantiles from a payment to its alert, in Kafka and in Redis."""
    figure, axes = canvas(7.5, 3.6)
    told = [name for name in QUANTILES if result["kafka"][name] is not None and result["redis"][name] is not None]
    for shift, sink, colour in ((-0.2, "kafka", BLUE), (0.2, "redis", ORANGE)):
        heights = [1000 * result[sink][name] for name in told]
        axes.bar(np.arange(len(told)) + shift, heights, width=0.38, color=colour, label=f"alert in {sink.title()}")
        for place, height in enumerate(heights):
            axes.text(place + shift, height, f"{height:.0f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(told)), [QUANTILES[name] for name in told])
    axes.set_ylabel("milliseconds")
    title(axes, f"From payment to alert at {result['rate']:,.0f} payments a second")
    legend(axes)
    return figure


def endurance(result: Result) -> Figure:
    """Resident memory of a worker by minute."""
    figure, axes = canvas(7.5, 3.4)
    memory = {int(minute): resident for minute, resident in result["resident_mebibytes"].items()}
    axes.plot(list(memory), list(memory.values()), "o-", color=BLUE, markersize=3)
    axes.set(xlabel="minute", ylabel="MiB", ylim=(0, 1.15 * max(memory.values())))
    title(axes, f"A worker's resident memory at {result['rate']:,} payments a second")
    return figure


def pages(result: Result) -> Figure:
    """Of each page of the console the median and the longest time."""
    times = {"first view": result["first_view"], **result["pages"]}
    names = list(times)[::-1]
    figure, axes = canvas(7.5, 0.34 * len(names) + 1.4)
    for key, colour, label in (("max", GREY, "longest"), ("median", BLUE, "median")):
        axes.barh(range(len(names)), [1000 * times[name][key] for name in names], color=colour, height=0.6, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("milliseconds until a page is complete in Chromium")
    title(axes, f"{result['v_predictions']:,} predictions, {result['v_alerts']:,} alerts")
    legend(axes)
    return figure


def entities(result: Result) -> Figure:
    """What an event costs by accounts in memory."""
    figure, axes = canvas(7.5, 3.2)
    costs = {int(number): cost["cpu"] for number, cost in result["entities"].items()}
    axes.plot(list(costs), list(costs.values()), "o-", color=BLUE)
    axes.set(
        xscale="log", xlabel="accounts in memory", ylabel="microseconds of CPU", ylim=(0, 1.3 * max(costs.values()))
    )
    title(axes, "What an event costs the thread that scores")
    return figure


#: A key that tells a benchmark's result -> its plot.
KINDS: Mapping[str, Callable[[Result], Figure]] = {
    "peers": throughput,
    "sent_late": latency,
    "resident_mebibytes": endurance,
    "first_view": pages,
    "entities": entities,
}
