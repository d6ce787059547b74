"""Marks a test module that needs the packages of constraints-recommendation.txt; `make test-benchmarks` runs it."""

import importlib.util

import pytest

in_benchmark_environment = [
    pytest.mark.benchmarks,
    pytest.mark.skipif(
        importlib.util.find_spec("recogym") is None, reason="needs the benchmark environment: make test-benchmarks"
    ),
]
