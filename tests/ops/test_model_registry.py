"""Whoever opens the registry by the settings asks for the signatures that they name; ops opens it in no other way."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.documentation import DOCS
from ops.model_registry import open_registry
from ops.settings import Settings, SettingsError, read_settings
from storage.database import open_database
from storage.model_trust import CannotSign, new_signing_key, public_text, signing_key_of

PRIVATE = new_signing_key()
PUBLIC = public_text(signing_key_of(PRIVATE))
#: Benchmarks and the deployment of tests make models of their own, in places of their own.
OWN_MODELS = "ops/bench/"


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]


def test_the_registry_trusts_what_the_settings_say(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'headgate.sqlite'}")
    trusting = settings(model_verify_keys=f"{PUBLIC}, ", model_signing_key=SecretStr(PRIVATE))
    assert len(open_registry(trusting, database, registers=True).trust.keys) == 1
    assert open_registry(settings(), database, registers=True).trust.signer is None
    with pytest.raises(CannotSign):
        open_registry(settings(model_verify_keys=PUBLIC), database, registers=True)
    open_registry(settings(model_verify_keys=PUBLIC), database)


def test_nothing_in_ops_opens_the_registry_without_the_settings_trust() -> None:
    root = DOCS.parent
    named = {
        str(path.relative_to(root))
        for folder in ("ops", "streams", "models")
        for path in (root / folder).rglob("*.py")
        if "ModelRegistry(" in path.read_text()
    }
    assert {name for name in named if not name.startswith(OWN_MODELS)} == {"ops/model_registry.py"}


@pytest.mark.parametrize("name", ["MODEL_SIGNING_KEY", "MODEL_VERIFY_KEYS"])
def test_a_key_that_is_none_is_one_line_that_names_the_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HEADGATE_{name}", "c2hvcnQ=")
    with pytest.raises(SettingsError, match=f"^HEADGATE_{name}: must be .* Ed25519 keys in base64") as refusal:
        read_settings(env_file=None)
    assert name == "MODEL_VERIFY_KEYS" or "c2hvcnQ=" not in str(refusal.value)


def test_the_signing_key_does_not_show() -> None:
    assert PRIVATE not in repr(settings(model_signing_key=SecretStr(PRIVATE)))
