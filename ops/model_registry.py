"""The registry of models as the settings say: where its files are, who signs, and whose signatures are asked for."""

from collections.abc import Callable

from ops.settings import Settings
from storage.database import Database
from storage.model_trust import ModelTrust, signing_key_of, verify_keys_of
from storage.registry import ModelRegistry


def open_registry(
    settings: Settings,
    database: Database,
    *,
    registers: bool = False,
    on_untrusted: Callable[[str], None] = lambda name: None,
) -> ModelRegistry:
    """registers: models are made and registered with it, so that a missing key is said before the work is done, not
    after it. on_untrusted: as in ModelRegistry. Raises CannotSign."""
    trust = trust_of(settings)
    if registers:
        trust.refuse_unsigned_registration()
    return ModelRegistry(database, settings.models, trust, on_untrusted)


def trust_of(settings: Settings) -> ModelTrust:
    key = settings.model_signing_key.get_secret_value()
    return ModelTrust(signing_key_of(key) if key else None, verify_keys_of(settings.model_verify_keys))
