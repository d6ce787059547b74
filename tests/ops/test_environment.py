"""The environment: built once, shared by clones, mended when half-built, and clear about what is wrong.

The script is copied into small checkouts whose dependencies are wheels made here, so that no index is asked.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "ops" / "environment.py"
PROJECT = """
[project]
name = "headgate"
version = "0.1.0"
dependencies = ["tiny-dependency"]

[project.optional-dependencies]
test = []

[project.scripts]
headgate = "ops.cli:main"

[project.entry-points."faust.transports"]
headgate = "ops.cli:main"
"""
IMPORTS_ALL = "import ops.cli, tiny_dependency, tiny_benchmark; print(tiny_dependency.ANSWER, tiny_benchmark.ANSWER)"
COMMAND = """
import tiny_dependency
from importlib.metadata import entry_points

def main():
    transports = [entry.name for entry in entry_points(group="faust.transports")]
    print(__file__, tiny_dependency.ANSWER, transports)
"""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheels of `tiny-dependency`, which has a module and a command, and of `tiny-benchmark`, which
    depends on a package that there is not."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "tiny_dependency", "")
    make_wheel(folder, "tiny_benchmark", "Requires-Dist: no-longer-there\n")
    return folder


def make_wheel(folder: Path, name: str, requirements: str) -> None:
    information, hyphenated = f"{name}-1.0.dist-info", name.replace("_", "-")
    files = {
        f"{name}.py": "ANSWER = 42\ndef main():\n    import ops\n    print(ops.__path__[0])\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {hyphenated}\nVersion: 1.0\n{requirements}",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": f"[console_scripts]\n{hyphenated.split('-')[0]} = {name}:main\n",
    }
    record = "".join(f"{name},,\n" for name in files) + f"{information}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{information}/RECORD", record)


def make_checkout(folder: Path) -> Path:
    (folder / "ops").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "ops" / "environment.py")
    (folder / "ops" / "cli.py").write_text(COMMAND)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "constraints.txt").write_text("tiny-dependency==1.0\n")
    (folder / "constraints-recommendation.txt").write_text("tiny-benchmark==1.0\n")
    (folder / "constraints-sbom.txt").write_text("tiny-benchmark==1.0\n")
    return folder


def prepare(checkout: Path, wheels: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, str(checkout / "ops" / "environment.py"), *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


def run_command(checkout: Path, name: str, working_folder: Path) -> str:
    command = [str(checkout / ".venv" / "bin" / name)]
    return subprocess.run(command, cwd=working_folder, capture_output=True, text=True, check=True).stdout.strip()


def test_clones_share_one_environment_and_each_runs_its_own_code(tmp_path: Path, wheels: Path) -> None:
    cache = tmp_path / "cache"
    first = make_checkout(tmp_path / "a clone with spaces")
    second = make_checkout(tmp_path / "second")

    built = prepare(first, wheels, cache)
    shared = prepare(second, wheels, cache)
    again = prepare(first, wheels, cache)

    assert built.returncode == shared.returncode == again.returncode == 0, built.stderr
    assert built.stdout == ""
    assert "built" in built.stderr
    assert shared.stderr == again.stderr == ""
    for checkout in (first, second):
        code = checkout / "ops" / "cli.py"
        assert run_command(checkout, "headgate", tmp_path) == f"{code} 42 ['headgate']"
        assert run_command(checkout, "tiny", tmp_path) == str(checkout / "ops")


def test_a_half_built_environment_is_built_again(tmp_path: Path, wheels: Path) -> None:
    cache = tmp_path / "cache"
    checkout = make_checkout(tmp_path / "clone")
    without_wheels = tmp_path / "empty"
    without_wheels.mkdir()

    failed = prepare(checkout, without_wheels, cache)
    mended = prepare(checkout, wheels, cache)

    assert failed.returncode == 1
    assert "pip could not install the dependencies" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    assert "removing a half-built environment" in mended.stderr
    assert run_command(checkout, "headgate", tmp_path).endswith("42 ['headgate']")


def test_benchmarks_get_a_layer_of_their_own_on_top_that_the_main_environment_does_not_see(
    tmp_path: Path, wheels: Path
) -> None:
    cache = tmp_path / "cache"
    checkout = make_checkout(tmp_path / "clone")

    built = prepare(checkout, wheels, cache, "--benchmarks")
    again = prepare(make_checkout(tmp_path / "second"), wheels, cache, "--benchmarks")

    assert built.returncode == again.returncode == 0, built.stderr
    assert built.stderr.count("building") == 2
    assert again.stderr == ""
    own, benchmarks = (checkout / folder / "bin" / "python" for folder in (".venv", ".venv-benchmarks"))
    assert subprocess.check_output([benchmarks, "-c", IMPORTS_ALL], cwd=tmp_path, text=True) == "42 42\n"
    assert subprocess.run([own, "-c", "import tiny_benchmark"], cwd=tmp_path, capture_output=True).returncode == 1

    prepare(checkout, wheels, cache, "--remove")
    assert not benchmarks.parents[1].exists()


def test_what_writes_the_bill_of_materials_has_an_environment_without_anything_of_the_products(
    tmp_path: Path, wheels: Path
) -> None:
    cache = tmp_path / "cache"
    checkout = make_checkout(tmp_path / "clone")

    built = prepare(checkout, wheels, cache, "--sbom")
    again = prepare(make_checkout(tmp_path / "second"), wheels, cache, "--sbom")

    assert built.returncode == again.returncode == 0, built.stderr
    assert "for the bill of materials" in built.stderr
    assert again.stderr == ""
    assert not (checkout / ".venv").exists()
    (environment,) = (path for path in (cache / "headgate" / "environments").iterdir() if path.is_dir())
    python = environment / "bin" / "python"
    assert subprocess.run([python, "-c", "import tiny_benchmark"], cwd=tmp_path).returncode == 0
    assert subprocess.run([python, "-c", "import tiny_dependency"], cwd=tmp_path, capture_output=True).returncode == 1


def test_changed_constraints_get_an_environment_of_their_own(tmp_path: Path, wheels: Path) -> None:
    cache = tmp_path / "cache"
    checkout = make_checkout(tmp_path / "clone")
    prepare(checkout, wheels, cache)
    (checkout / "constraints.txt").write_text("# changed\ntiny-dependency==1.0\n")

    result = prepare(checkout, wheels, cache)

    assert "building" in result.stderr
    environments = [path for path in (cache / "headgate" / "environments").iterdir() if path.is_dir()]
    assert len(environments) == 2

    prepare(checkout, wheels, cache, "--remove")
    assert not (cache / "headgate" / "environments").exists()
    assert not (checkout / ".venv").exists()


def test_a_virtual_environment_of_the_users_is_left_alone(tmp_path: Path, wheels: Path) -> None:
    checkout = make_checkout(tmp_path / "clone")
    (checkout / ".venv").mkdir()

    result = prepare(checkout, wheels, tmp_path / "cache")

    assert result.returncode == 1
    assert "not made by Headgate. Move it away" in result.stderr.splitlines()[-1]
    assert list((checkout / ".venv").iterdir()) == []


def test_a_wrong_python_is_named_with_what_to_do(tmp_path: Path, wheels: Path) -> None:
    checkout = make_checkout(tmp_path / "clone")
    script = checkout / "ops" / "environment.py"
    # No version is supported, as if this one were too new and no other were installed.
    script.write_text(script.read_text().replace("SUPPORTED = ((3, 11), (3, 12))", "SUPPORTED = ((3, 1),)"))

    result = prepare(checkout, wheels, tmp_path / "cache")

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "needs Python 3.11 or 3.12" in line
    assert "make PYTHON=" in line
