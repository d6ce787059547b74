"""Install what the tests' local services and clients need from Debian's packages, where that is allowed and needed.

Run as a script by `make test`, with any Python 3 and the standard library only. As root, or with a sudo that asks
for no password, it installs what is missing; otherwise it says what to install and leaves it at that: the tests
skip what they can't have, with a reason. A service that the environment gives (HEADGATE_TEST_...) or that
Docker can run needs nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable


def has_postgres() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


def has_program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def has_chromium() -> bool:
    return any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


# Variable that gives the service from elsewhere (none for what Docker does not run either), how to see whether it is
# there, and the package that has it.
NEEDS = (
    ("HEADGATE_TEST_DATABASE", has_postgres, "postgresql"),
    ("HEADGATE_TEST_REDIS", has_program("redis-server"), "redis-server"),
    ("HEADGATE_TEST_KAFKA", has_program("java"), "openjdk-17-jre-headless"),
    ("HEADGATE_TEST_KAFKA", has_program("mvn"), "maven"),
    # The clients that the README shows are tested too.
    ("", has_program("kcat"), "kcat"),
    # The console's pages are tested in a browser.
    ("", has_chromium, "chromium"),
)


def docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.call([docker, "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def missing_packages() -> list[str]:
    docker = docker_answers()
    return [
        package
        for variable, present, package in NEEDS
        if not (variable and (docker or os.environ.get(variable))) and not present()
    ]


def as_root() -> list[str] | None:
    """What to put before a command so that it runs as root; None where that is not to be had."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.call([sudo, "-n", "true"], stderr=subprocess.DEVNULL) == 0:
        return [sudo, "-n"]
    return None


def install(packages: list[str], prefix: list[str]) -> int:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = [*prefix, "apt-get", "--quiet", "--yes"]
    for command in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *packages]):
        code = subprocess.call(command, env=environment, stdout=sys.stderr)
        if code != 0:
            return code
    return 0


def main() -> int:
    packages = missing_packages()
    if not packages:
        return 0
    wanted = " ".join(packages)
    prefix = as_root()
    if prefix is None or not shutil.which("apt-get"):
        print("system packages: without %s some tests are skipped; install them to run all" % wanted, file=sys.stderr)
        return 0
    print("system packages: installing %s" % wanted, file=sys.stderr, flush=True)
    if install(packages, prefix) != 0:
        print("system packages: apt-get failed; tests that need %s are skipped" % wanted, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
