"""The seeds that a benchmark runs with, as its command takes them."""

from ops.bench.measure import BenchmarkFailed


def parse_seeds(text: str) -> list[int]:
    """Of "0,1,2". Raises BenchmarkFailed."""
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise BenchmarkFailed(f"--seeds takes whole numbers with commas, as 0,1,2, not {text!r}")
    return [int(part) for part in parts]
