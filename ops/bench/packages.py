"""The packages that only benchmarks need: headgate[bench]."""

from importlib import import_module
from typing import Any

from ops.bench.measure import BenchmarkFailed


def package(name: str) -> Any:
    """Raises BenchmarkFailed where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise BenchmarkFailed(f"{error.name} is not installed; install headgate[bench]") from error
