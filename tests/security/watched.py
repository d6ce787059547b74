"""Parts of Headgate, and attacks, in a process of their own whose Python refuses to unpickle.

`python -m tests.security.watched NAME FOLDER` runs the function of that name; with `unwatched:` before it, without the
watch. `python -m tests.security.watched headgate ...` is the command line, watched.

Unpickling is seen where a pickle names the first class or function (the audit event `pickle.find_class`): without one a
pickle can hold plain values, and do nothing. That torch.load is never called is watched on its own, as one of its ways
reads pickles with a machine of its own.
"""

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

refused: list[str] = []


def watch() -> None:
    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            refuse(".".join(map(str, arguments)))

    sys.addaudithook(look)
    import torch

    for module, name in ((torch, "load"), (torch, "save"), (torch.jit, "load"), (torch.hub, "load")):
        setattr(module, name, lambda *_, name=name, **__: refuse(f"torch {name}"))


def refuse(what: str) -> None:
    refused.append(what)
    print(f"refused to unpickle: {what}", file=sys.stderr, flush=True)  # a library may swallow the error
    raise RuntimeError(f"refused to unpickle: {what}")


class Executed:
    """Its pickle makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.file,)


def attack_of(folder: Path) -> bytes:
    return pickle.dumps(Executed(folder / "executed"))


def unpickle_a_model(folder: Path) -> None:
    pickle.loads(attack_of(folder))


def unpickle_a_model_with_torch(folder: Path) -> None:
    import io

    import torch

    file = io.BytesIO()
    torch.serialization.save({"weights": Executed(folder / "executed")}, file)
    file.seek(0)
    torch.load(file, weights_only=False)


def unpickle_an_array(folder: Path) -> None:
    import numpy as np

    path = folder / "arrays.npy"
    np.save(path, np.array([Executed(folder / "executed")], dtype=object), allow_pickle=True)
    np.load(path, allow_pickle=True)


def load_a_pickle_as_a_model(folder: Path) -> dict[str, Any]:
    """What each reader of ours raises."""
    from models.artifact import TrainedDetector
    from models.policy import TrainedPolicy
    from storage.array_files import arrays_of_file

    readers = {"detector": TrainedDetector.from_bytes, "policy": TrainedPolicy.from_bytes, "arrays": arrays_of_file}
    return {name: raised_by(read, attack_of(folder)) for name, read in readers.items()}


def raised_by(read: Callable[[bytes], object], data: bytes) -> str:
    try:
        read(data)
    except ValueError as error:
        return type(error).__name__
    return "nothing"


def whole_way(folder: Path) -> dict[str, Any]:
    """Trains with a checkpoint, registers with a signature, loads, scores as a worker does, keeps a snapshot."""
    from models.artifact import TrainedDetector
    from models.feature_schema import FEATURE_SCHEMA
    from models.scoring import Scorer
    from models.sequences import TrainingConfig
    from models.train_detector import train
    from storage.checkpoints import CheckpointFile
    from storage.database import open_database, upgrade
    from storage.model_trust import ModelTrust, checkpoint_key, new_signing_key, public_text, signing_key_of
    from storage.model_trust import verify_keys_of as keys_of
    from storage.registry import ModelRegistry
    from storage.snapshots import SnapshotFiles, segment_name
    from streams.state_codec import ActiveFrom, changes_of, cold_states, packed_of, segment_arrays
    from tests.models.logs import busy_log
    from tests.models.synthetic import history
    from tests.storage.rows import NOON

    key = signing_key_of(new_signing_key())
    url = f"sqlite:///{folder / 'headgate.sqlite'}"
    upgrade(url)
    registry = ModelRegistry(open_database(url), str(folder), ModelTrust(key, keys_of(public_text(key))))
    checkpoint = CheckpointFile(str(folder), "run", checkpoint_key(key))
    past = history(2_000, accounts=60, days=20, seed=1, frauds=0.03).labelled
    config = TrainingConfig(hidden=8, epochs=1, alerts_per_day=5)
    train(past, config, lambda stage, share: None, checkpoints=checkpoint)
    model = train(past, config, lambda stage, share: None, checkpoints=checkpoint).model
    record = registry.register(
        "fraud", "detector", model.to_bytes(), feature_schema=FEATURE_SCHEMA, metrics={}, clock=lambda: NOON
    )
    scorer = Scorer(TrainedDetector.from_bytes(registry.load(record)))
    events = busy_log()
    scored = scorer.score(events)
    files, active = SnapshotFiles(str(folder)), ActiveFrom("fraud:1", 0)
    changes = scorer.kept.take_changes(0)
    segment = files.write_segment(1, 0, segment_name(1, 1, "base"), segment_arrays(changes, active), rows=len(changes))
    kinds = {kind: residents.row_type for kind, residents in scorer.kept.kinds.items()}
    found, _ = changes_of(files.read_segment(1, 0, segment), kinds)
    accounts = found.entities["accounts"]
    packed_of(accounts.ids, accounts.touched, cold_states(accounts, active), kinds["accounts"], active, 8)
    return {
        "refused": refused,
        "events": len(scored.score),
        "checkpoint": checkpoint.exists(),
        "snapshot": len(changes) == len(found),
    }


PARTS: dict[str, Callable[[Path], Any]] = {
    part.__name__: part
    for part in (
        unpickle_a_model,
        unpickle_a_model_with_torch,
        unpickle_an_array,
        load_a_pickle_as_a_model,
        whole_way,
    )
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    if not name.startswith("unwatched:"):
        watch()
    if name == "headgate":
        from ops.cli import main as headgate

        sys.argv = ["headgate", *sys.argv[2:]]
        headgate()
        return
    print(json.dumps(PARTS[name.removeprefix("unwatched:")](folder)))


if __name__ == "__main__":
    main()
