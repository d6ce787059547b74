"""Where the tests' services come from: given ones are used; what cannot be had is a skip, or a failure for CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TEST_WITH_REDIS = "tests/ops/test_local_services.py::test_redis_starts_empty"


def run_pytest(tmp_path: Path, **variables: str) -> tuple[int, str]:
    """Exit code and output of a test with Redis, on a machine without redis-server and Docker."""
    without = {**os.environ, "PATH": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none"}
    for name in ("HEADGATE_REQUIRE_SERVICES", "HEADGATE_TEST_REDIS"):
        without.pop(name, None)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", TEST_WITH_REDIS],
        cwd=REPOSITORY,
        env={**without, **variables},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout


def test_a_service_that_cannot_be_had_is_a_skip_with_the_reason(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path)

    assert code == 0
    assert re.search(r"SKIPPED .* Redis needs the program redis-server, which is not installed", output)


def test_a_service_that_cannot_be_had_fails_where_services_are_required(tmp_path: Path) -> None:
    code, output = run_pytest(tmp_path, HEADGATE_REQUIRE_SERVICES="1")

    assert code == 1
    assert "needed here, but not to be had: Redis needs the program redis-server" in output


def test_a_given_service_is_used(tmp_path: Path, redis_shared_url: str) -> None:
    code, output = run_pytest(tmp_path, HEADGATE_REQUIRE_SERVICES="1", HEADGATE_TEST_REDIS=redis_shared_url)

    assert code == 0
    assert "1 passed" in output
