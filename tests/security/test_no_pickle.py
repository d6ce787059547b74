"""No bytes that come from outside are executed: our code never calls what would, and while a model is trained, kept,
loaded and used nothing is unpickled.

What other packages can do is another matter: torch, Faust and others contain code that unpickles, and import pickle.
What is shown here is that no way of ours leads there: the source names none of it (this is complete, for our source),
and a process in which Python itself reports every look-up of a pickle runs through training, registry, checkpoint,
snapshot and scoring without one (this is complete for what it runs).
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("models", "ops", "storage", "streams")
#: Modules whose formats can run code when read.
MODULES = {
    *("pickle", "_pickle", "cPickle", "pickletools", "shelve", "marshal", "dbm", "copyreg", "code", "codeop"),
    *("dill", "cloudpickle", "joblib", "jsonpickle", "yaml", "ruamel", "pandas", "runpy", "imp", "h5py", "skops"),
}
#: Functions of others by the end of their dotted names, that read such a format or make code of text.
CALLS = {
    *("torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package", "torch.export.load"),
    *("np.load", "numpy.load", "np.save", "numpy.save", "np.savez", "numpy.savez", "np.fromfile", "numpy.fromfile"),
    *("broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list", "send_object_list"),
    *("to_pickle", "read_pickle", "os.system", "os.popen", "logging.config.listen", "importlib.reload"),
}
#: Named alike, and a format of numbers alone.
SAFE = "safetensors."
BUILTINS = {"eval", "exec", "compile", "__import__"}
#: The one way to import by name: benchmarks, of packages that are not always there; the names are in the source.
IMPORTS_BY_NAME = {
    "ops/bench/packages.py",
    "ops/bench/recommendation/part.py",
    "ops/bench/recommendation/simulators.py",
}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((CHECKOUT / package).rglob("*.py"))]


def dotted(node: ast.AST) -> str:
    """`torch.load` of an expression; a question mark for what is neither name nor attribute."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def named_modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def faults_of(source: str, where: str) -> list[str]:
    """What of a source could execute what it reads, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        line = f"{where}:{getattr(node, 'lineno', 0)}"
        for module in named_modules(node):
            if module.partition(".")[0] in MODULES or any(module.endswith(call) for call in CALLS):
                found.append(f"{line}: imports {module}")
        if isinstance(node, ast.Name | ast.Attribute):
            name = dotted(node)
            if name in BUILTINS or name.removeprefix("builtins.") in BUILTINS:
                found.append(f"{line}: {name}")
            if not name.startswith(SAFE) and any(name == call or name.endswith(f".{call}") for call in CALLS):
                found.append(f"{line}: {name}")
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell") and not is_false(node.value):
            found.append(f"{line}: {node.arg}")
        if isinstance(node, ast.Call) and dotted(node.func).endswith("import_module") and where not in IMPORTS_BY_NAME:
            found.append(f"{line}: imports a module by its name")
    return found


def test_no_source_of_ours_can_execute_what_it_reads() -> None:
    assert len(sources()) > 300
    found = [fault for path in sources() for fault in faults_of(path.read_text(), str(path.relative_to(CHECKOUT)))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as harmless",
        "from multiprocessing import reduction; import marshal",
        "import yaml",
        "import torch; torch.load('x')",
        "from torch import load",
        "import torch; read = torch.load",
        "import numpy as np; np.load('x')",
        "import numpy as np; f(np.x, allow_pickle=True)",
        "eval('1')",
        "run = exec",
        "import builtins; builtins.eval('1')",
        "compile('1', 'x', 'exec')",
        "import importlib; importlib.import_module(name)",
        "import torch.distributed as d; d.all_gather_object(a, b)",
        "import subprocess; subprocess.run('x', shell=True)",
    ],
)
def test_what_could_execute_what_it_reads_is_seen(source: str) -> None:
    assert faults_of(source, "models/somewhere.py") != []


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()",
        "import re; re.compile('x')",
        "import torch; registry.load(record)",
        "json.load(file)",
        "x().eval()",
    ],
)
def test_what_only_has_such_a_name_is_not(source: str) -> None:
    assert faults_of(source, "models/somewhere.py") == []


def in_watched_process(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.security.watched", script, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_nothing_is_unpickled_while_a_model_is_trained_kept_loaded_and_used(tmp_path: Path) -> None:
    done = in_watched_process("whole_way", tmp_path)
    assert done.returncode == 0, done.stderr[-4_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"refused": [], "events": 360, "checkpoint": True, "snapshot": True}


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["unpickle_a_model", "unpickle_a_model_with_torch", "unpickle_an_array"])
def test_an_unpickling_would_be_seen_and_stopped(tmp_path: Path, attack: str) -> None:
    done = in_watched_process(attack, tmp_path)
    assert done.returncode != 0
    assert "refused to unpickle" in done.stderr
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["unpickle_a_model", "unpickle_a_model_with_torch", "unpickle_an_array"])
def test_without_the_watch_an_unpickling_executes_what_it_reads(tmp_path: Path, attack: str) -> None:
    done = in_watched_process(f"unwatched:{attack}", tmp_path)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert (tmp_path / "executed").exists()


@pytest.mark.slow
def test_a_pickle_in_the_place_of_a_model_is_refused_and_not_executed(tmp_path: Path) -> None:
    done = in_watched_process("load_a_pickle_as_a_model", tmp_path)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "detector": "BadModel",
        "policy": "BadModel",
        "arrays": "BadArrayFile",
    }
    assert not (tmp_path / "executed").exists()
