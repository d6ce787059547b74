"""Prepare this checkout to run: one command, nothing but Python 3.11 or 3.12 and a package index.

Two layers:
- all dependencies, pinned by constraints.txt, in a virtual environment in the user's cache folder, named by the
  Python version and a hash of what goes into it. Clones share it; it is built once (torch alone is large);
- `.venv` in this checkout, made in a second: its own Python, the commands of the first layer, this checkout on
  the path, and the project's metadata (the `headgate` command, the Faust transport's entry point).

`--benchmarks` prepares `.venv-benchmarks` too, whose Python sees all of that and the packages that the benchmarks of
recommendation compare with: a third layer in the cache, on top of the first. Two of its packages ask for much that is
not used (TensorFlow, Jupyter, a `gym` that no longer installs), so constraints-recommendation.txt lists the layer
whole, and pip adds nothing to it. `--fuzz` prepares `.venv-fuzz` in the same way, with constraints-fuzz.txt.

`--sbom` prepares what writes the bill of materials (ops/sbom.py), in a layer of its own, so that the product's does not
have it; constraints-sbom.txt lists it whole.

Run as a script by the Makefile, before any dependency exists: standard library only, readable by any Python 3.
Uses pip with the user's own settings (index, proxies, certificates). `--remove` undoes all layers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

Project = Dict[str, Any]  # the table [project] of pyproject.toml

SUPPORTED = ((3, 11), (3, 12))
CHECKOUT = Path(__file__).resolve().parent.parent
COMPLETE = "headgate-complete"  # written last into the shared environment; without it, it is half-built
MADE_FROM = "headgate-made-from"  # in .venv: says that it is ours, and what it was made from
OWN = ".venv"  # a folder of this checkout
BENCHMARKS, FUZZ = "benchmarks", "fuzz"
LAYERS = {BENCHMARKS: "constraints-recommendation.txt", FUZZ: "constraints-fuzz.txt"}  # on top of the shared one
SBOM_PACKAGES = "constraints-sbom.txt"

LAUNCHER = """#!/bin/sh
exec "{python}" "{script}" "$@"
"""


class CannotPrepare(Exception):
    """Says what went wrong and what to do, in one line."""


def say(message: str) -> None:
    # Standard error: the standard output of `make demo JSON=1` belongs to the demo.
    print("headgate environment: " + message, file=sys.stderr, flush=True)


def use_a_supported_python() -> None:
    """Go on under python3.12 or python3.11 if this is another version and one of them is installed."""
    if sys.version_info[:2] in SUPPORTED:
        return
    for major, minor in reversed(SUPPORTED):
        other = shutil.which("python%d.%d" % (major, minor))
        # A pyenv shim may exist for a version that is not active, so try it.
        if other and subprocess.call([other, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(other, [other, "-I", *sys.argv])
    raise CannotPrepare(
        "needs Python 3.11 or 3.12, but %s is %d.%d. Install one of them, or say where it is: "
        "make PYTHON=/path/to/python3.12 ..." % (sys.executable, *sys.version_info[:2])
    )


def read_project() -> Project:
    import tomllib  # new in Python 3.11

    project: Project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return project


def all_dependencies(project: Project) -> list[str]:
    """The project's own and those of every extra."""
    extras = project.get("optional-dependencies", {})
    return sorted({*project.get("dependencies", []), *(name for extra in extras.values() for name in extra)})


def environments_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "headgate" / "environments"


def shared_environment_folder(dependencies: list[str]) -> Path:
    content = (CHECKOUT / "constraints.txt").read_text() + "\n".join(dependencies)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return environments_folder() / ("cp%d%d-%s-%s" % (*sys.version_info[:2], platform.machine(), digest))


def layer_folder(layer: str, base: Path) -> Path:
    """base: the environment that it lies on."""
    digest = hashlib.sha256((CHECKOUT / LAYERS[layer]).read_bytes()).hexdigest()[:16]
    return base.with_name("%s-%s-%s" % (base.name, layer, digest))


def layer_environment(layer: str) -> Path:
    """A folder of this checkout."""
    return CHECKOUT / ("%s-%s" % (OWN, layer))


def sbom_environment_folder() -> Path:
    digest = hashlib.sha256((CHECKOUT / SBOM_PACKAGES).read_bytes()).hexdigest()[:16]
    return environments_folder() / ("cp%d%d-%s-sbom-%s" % (*sys.version_info[:2], platform.machine(), digest))


def site_packages(environment: Path) -> Path:
    return environment / "lib" / ("python%d.%d" % sys.version_info[:2]) / "site-packages"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is preparing it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_usable(environment: Path) -> bool:
    """Built to the end, and the Python that it was built with is still there."""
    python = environment / "bin" / "python"
    return (environment / COMPLETE).exists() and python.exists()


def build_shared_environment(environment: Path, dependencies: list[str]) -> None:
    constraints = ["--constraint", str(CHECKOUT / "constraints.txt")]
    begin_environment(environment, "several gigabytes, some minutes")
    install(environment, [*constraints, *dependencies], "8 GB")


def build_layer(layer: str, environment: Path, base: Path) -> None:
    begin_environment(environment, "for %s; up to half a gigabyte, a minute" % layer)
    (site_packages(environment) / "headgate-base.pth").write_text(add_packages_of(base))
    install(environment, ["--no-deps", "--requirement", str(CHECKOUT / LAYERS[layer])], "1 GB")


def build_sbom_environment(environment: Path) -> None:
    begin_environment(environment, "for the bill of materials; some megabytes, seconds")
    install(environment, ["--no-deps", "--requirement", str(CHECKOUT / SBOM_PACKAGES)], "100 MB")


def begin_environment(environment: Path, cost: str) -> None:
    if environment.exists():
        say("removing a half-built environment")
        shutil.rmtree(environment)
    say("building %s (once; %s)" % (environment, cost))
    make_virtual_environment(environment, "--clear")


def install(environment: Path, arguments: list[str], space: str) -> None:
    """arguments of `pip install`; space: what it needs on disk."""
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    if subprocess.call([*pip, *arguments], stdout=sys.stderr) != 0:
        raise CannotPrepare(
            "pip could not install the dependencies (its own message is above). Check the network, the free disk "
            "space (%s) and the index in your pip settings (`pip config list`), then run make again" % space
        )
    (environment / COMPLETE).touch()
    say("built")


def add_packages_of(environment: Path) -> str:
    """A line of a .pth file."""
    return "import site; site.addsitedir(%r)\n" % str(site_packages(environment))


def make_virtual_environment(folder: Path, *options: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "venv", *options, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        said = " ".join(result.stdout.split())[-300:]
        raise CannotPrepare(
            "python -m venv failed. On Debian or Ubuntu do: apt-get install python3-venv. It said: " + said
        )


def made_from(environment: Path) -> str:
    """What `.venv` depends on; a new checkout path, environment or entry point makes it anew."""
    return "%s\n%s\n%s\n" % (CHECKOUT, environment, (CHECKOUT / "pyproject.toml").read_text())


def make_checkout_environment(folder: Path, environment: Path, project: Project) -> None:
    """folder: of this checkout; environment: what it shares with other checkouts."""
    mark = folder / MADE_FROM
    if folder.exists():
        if not mark.exists():
            raise CannotPrepare("%s is there but not made by Headgate. Move it away, then run make again" % folder)
        if mark.read_text() == made_from(environment) and (folder / "bin" / "python").exists():
            return
        shutil.rmtree(folder)
    folder.mkdir()
    mark.write_text("unfinished\n")
    make_virtual_environment(folder, "--without-pip")
    packages = site_packages(folder)
    (packages / "headgate.pth").write_text("%s\n%s" % (CHECKOUT, add_packages_of(environment)))
    write_metadata(packages, project)
    write_commands(folder / "bin", environment / "bin", project)
    mark.write_text(made_from(environment))


def write_metadata(packages: Path, project: Project) -> None:
    folder = packages / "headgate-{version}.dist-info".format(**project)
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".format(**project))
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    lines: list[str] = []
    for group, entries in groups.items():
        lines += ["[%s]" % group, *("%s = %s" % entry for entry in entries.items()), ""]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def write_commands(bin_folder: Path, shared_bin: Path, project: Project) -> None:
    """The project's commands, and those of the shared environment run by this checkout's Python."""
    python = bin_folder / "python"
    scripts = bin_folder.parent / "headgate-commands"
    scripts.mkdir()
    for name, entry in project.get("scripts", {}).items():
        module, function = entry.split(":")
        script = scripts / name
        script.write_text("import sys\nfrom %s import %s\nsys.exit(%s())\n" % (module, function, function))
        write_launcher(bin_folder / name, python, script)
    for shared in sorted(shared_bin.iterdir()):
        own = bin_folder / shared.name
        if own.exists() or own.is_symlink() or shared.name.startswith(("python", "pip", "activate")):
            continue
        with shared.open("rb") as file:
            # pip writes "#!/bin/sh" and the Python in the second line where the path is long or has spaces.
            beginning = file.read(1000)
        if beginning.startswith(b"#!") and b"python" in beginning:
            write_launcher(own, python, shared)
        else:
            own.symlink_to(shared)


def write_launcher(path: Path, python: Path, script: Path) -> None:
    path.write_text(LAUNCHER.format(python=python, script=script))
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def remove() -> None:
    """All layers, for every Python version and every state of the constraints."""
    for folder in (CHECKOUT / OWN, *map(layer_environment, LAYERS)):
        if (folder / MADE_FROM).exists():
            shutil.rmtree(folder)
    shutil.rmtree(environments_folder(), ignore_errors=True)
    say("removed %s" % environments_folder())


def prepare(layer: Optional[str]) -> None:
    use_a_supported_python()
    project = read_project()
    dependencies = all_dependencies(project)
    environment = shared_environment_folder(dependencies)
    with locked(environment.with_suffix(".lock")):
        if not is_usable(environment):
            build_shared_environment(environment, dependencies)
        make_checkout_environment(CHECKOUT / OWN, environment, project)
        if layer is not None:
            prepare_layer(layer, environment, project)


def prepare_layer(layer: str, base: Path, project: Project) -> None:
    environment = layer_folder(layer, base)
    if not is_usable(environment):
        build_layer(layer, environment, base)
    make_checkout_environment(layer_environment(layer), environment, project)


def prepare_sbom() -> None:
    use_a_supported_python()
    environment = sbom_environment_folder()
    with locked(environment.with_suffix(".lock")):
        if not is_usable(environment):
            build_sbom_environment(environment)


def main() -> int:
    try:
        if sys.argv[1:] == ["--remove"]:
            remove()
        elif sys.argv[1:] == ["--sbom"]:
            prepare_sbom()
        else:
            prepare(next((layer for layer in LAYERS if sys.argv[1:] == ["--%s" % layer]), None))
    except CannotPrepare as problem:
        say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
