"""Struct types are ready before there are threads."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

RACE = """
import sys, threading
import msgspec
from ops.struct_types import prepare_struct_types

def convert(kind, together):
    together.wait()
    msgspec.convert({"first": {"inner": 1}, "last": 2}, kind)

sys.setswitchinterval(1e-7)
for number in range(200):
    inner = msgspec.defstruct(f"Inner{number}", [("inner", int)])
    outer = msgspec.defstruct(f"Outer{number}", [("first", inner), ("last", int)])
    if sys.argv[1] == "prepared":
        prepare_struct_types()
    together = threading.Barrier(6)
    threads = [threading.Thread(target=convert, args=(outer, together)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del inner, outer, threads
"""
EVERYTHING = """
import msgspec, ops.dashboard.server, ops.demo.run, ops.worker
from ops.struct_types import prepare_struct_types
from streams import contract

prepare_struct_types()
assert contract.Alert in set(msgspec.Struct.__subclasses__())
"""


def run(script: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-c", script, *arguments], cwd=CHECKOUT, check=False, timeout=120).returncode


@pytest.mark.slow
def test_threads_that_convert_to_a_type_at_once_do_no_harm_where_it_was_prepared() -> None:
    assert run(RACE, "prepared") == 0


@pytest.mark.slow
def test_without_that_the_process_dies() -> None:
    """Once this fails, msgspec has mended it, and ops/struct_types.py can go."""
    assert run(RACE, "as it was") == -signal.SIGSEGV


def test_every_struct_type_of_the_services_can_be_prepared() -> None:
    assert run(EVERYTHING) == 0
