"""The image: what its Dockerfile copies is there, and makes a whole wheel; nothing in it is loose."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.ops.deploy.artefacts import DOCKERFILE, ROOT, check_command, known_settings

TEXT = DOCKERFILE.read_text()
#: Instructions with their continuation lines joined, comments left out.
INSTRUCTIONS = [
    line.strip()
    for line in re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
    if line.strip()
]
STAGES = "\n".join(INSTRUCTIONS).split("\nFROM ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def copied() -> list[str]:
    """Sources from the checkout, in order."""
    lines = [line.split()[1:] for line in INSTRUCTIONS if line.startswith("COPY ") and "--from" not in line]
    return [source for line in lines for source in line[:-1]]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    dropped = [line for line in patterns if line and not line.startswith(("#", "!"))]

    assert {source for source in copied() if not (ROOT / source).exists()} == set()
    assert set(copied()) == kept
    assert dropped[0] == "*"
    assert not any(fnmatch.fnmatch(source, pattern) for source in copied() for pattern in dropped[1:])


def test_the_wheel_of_what_is_copied_has_all_of_the_code_and_what_it_reads(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in copied():
        target = source / name
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "docker", "grafana", "k8s", "prometheus")
            shutil.copytree(ROOT / name, target, ignore=ignored)
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, target)
    build = "import setuptools.build_meta as backend, sys; print(backend.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    code = {
        str(path.relative_to(source))
        for folder in ("models", "ops", "storage", "streams")
        for suffix in ("py", "sql", "mako", "html", "css", "js")
        for path in (source / folder).rglob(f"*.{suffix}")
    }
    assert code - inside == set()
    assert f"headgate-{PROJECT['version']}.dist-info/entry_points.txt" in inside


def test_the_base_image_and_the_packages_are_pinned() -> None:
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", TEXT, re.MULTILINE)
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-bookworm", base)
    assert version is not None
    assert version[1] in ("3.11", "3.12")
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert {name for name in re.findall(r"grep '\^([\w-]+)=='", TEXT) if name not in pins} == set()
    installs = [line for line in INSTRUCTIONS if re.search(r"\bpip (?:--python \S+ )?install ", line)]
    assert len(installs) >= 4
    assert all(
        "grep '^" in line or "--constraint constraints.txt" in line or "--no-deps /wheels/" in line for line in installs
    )


def test_the_last_stage_has_no_tools_to_build_with_and_is_not_root() -> None:
    last = STAGES[-1]
    assert "pip uninstall" in last
    assert not re.search(r"apt-get|pip install|pip wheel", last)
    assert "\nUSER 10001:10001\n" in last
    assert "HEALTHCHECK" in last


def test_every_variable_of_the_image_is_a_setting_and_its_command_exists() -> None:
    assert set(re.findall(r"\bHEADGATE_[A-Z_]+", TEXT)) <= known_settings()
    assert INSTRUCTIONS[-2:] == ['ENTRYPOINT ["headgate"]', 'CMD ["worker"]']
    check_command(["worker"])


def test_the_tag_is_the_version_everywhere() -> None:
    places = [DOCKERFILE, ROOT / "docker-compose.yml", ROOT / "docs" / "deployment.md"]
    tags = {tag for place in places for tag in re.findall(r"\bheadgate:(\d[\w.]*)", place.read_text())}

    assert tags == {PROJECT["version"]}
