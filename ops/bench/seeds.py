"""Whole numbers with commas, as the benchmarks' commands take seeds and sizes."""

from ops.bench.measure import BenchmarkFailed


def parse_seeds(text: str) -> list[int]:
    """Of "0,1,2". Raises BenchmarkFailed."""
    return parse_numbers("--seeds", text)


def parse_numbers(option: str, text: str) -> list[int]:
    """Raises BenchmarkFailed, which names the option."""
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise BenchmarkFailed(f"{option} takes whole numbers with commas, as 0,1,2, not {text!r}")
    return [int(part) for part in parts]
