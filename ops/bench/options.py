"""Lists of whole numbers, as the commands of benchmarks take them. Knows no benchmark."""

from ops.bench.measure import BenchmarkFailed


def whole_numbers(option: str, text: str, *, least: int = 0) -> list[int]:
    """Of "0,1,2". Raises BenchmarkFailed."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise BenchmarkFailed(f"{option} takes whole numbers from {least} with commas, as 1,2,3, not {text!r}")
    return [int(part) for part in parts]
