"""Secrets from files, as Docker and Kubernetes mount them: HEADGATE_REDIS_FILE names a file that holds what
HEADGATE_REDIS would. Which settings are secret is not known here, nor what they mean.
"""

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE_SUFFIX = "_FILE"
#: No secret is as large; a wrong path may be.
MOST_BYTES = 65_536


class SecretFileRefused(ValueError):
    """A secret's file that cannot be used: which one, and why. Never its content."""


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that was read, and what it said then, without the line's end behind it."""

    path: Path
    content: str
    #: Every user of this machine may read it.
    exposed: bool

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"


def read_secret_files(variables: Iterable[str], environment: Mapping[str, str]) -> dict[str, SecretFile]:
    """The variables that a file speaks for, and what it says. A variable that is empty counts as one that is not set.
    Raises SecretFileRefused, with a line for each mistake."""
    found, problems = {}, []
    for name in variables:
        path = environment.get(name + FILE_SUFFIX)
        if not path:
            continue
        if environment.get(name):
            problems.append(f"{name}: is set, and {name}{FILE_SUFFIX} too; unset one of them")
            continue
        try:
            found[name] = read_secret_file(Path(path).absolute())
        except SecretFileRefused as problem:
            problems.append(f"{name}{FILE_SUFFIX}: {problem}")
    if problems:
        raise SecretFileRefused("\n".join(problems))
    return found


def read_secret_file(path: Path) -> SecretFile:
    """Raises SecretFileRefused, also where others than its owner and group could have written it."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise SecretFileRefused(f"{path} is no file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SecretFileRefused(f"{path} cannot be read: {error.strerror}") from None
    if mode & stat.S_IWOTH:
        raise SecretFileRefused(f"every user of this machine may write {path}; do: chmod o-rwx {path}")
    if len(content) > MOST_BYTES:
        raise SecretFileRefused(f"{path} has more than {MOST_BYTES} bytes, which no secret has")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretFileRefused(f"{path} is no text in UTF-8") from None
    if not text.strip():
        raise SecretFileRefused(f"{path} is empty")
    return SecretFile(path, text, exposed=bool(mode & stat.S_IROTH))
