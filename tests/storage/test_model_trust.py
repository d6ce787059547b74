"""What is signed of a model is the same wherever its row was, and changes with whatever of it is changed."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database import Database
from storage.model_trust import (
    BadModelKey,
    CannotSign,
    ModelTrust,
    NotTrusted,
    Signature,
    canonical_json,
    checkpoint_key,
    key_id,
    new_signing_key,
    public_text,
    signed_bytes,
    signing_key_of,
    verify_keys_of,
)
from storage.registry import ModelRegistry

KEY, OTHER = signing_key_of(new_signing_key()), signing_key_of(new_signing_key())
NOON = datetime(2026, 11, 26, 12, 0, 0, 123_000, tzinfo=UTC)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Row:
    name: str = "fraud"
    version: int = 3
    kind: str = "detector"
    created_at: datetime = NOON
    sha256: str = "ab" * 32
    size_bytes: int = 1_000
    feature_schema: int = 4
    metrics: Any = None


def trusting(*keys: Any) -> ModelTrust:
    return ModelTrust(KEY, verify_keys_of(",".join(map(public_text, keys))))


@given(json_values)
def test_json_is_the_same_after_a_database_had_it(value: Any) -> None:
    assert canonical_json(json.loads(json.dumps(value))) == canonical_json(value)


def test_json_does_not_depend_on_the_order_of_keys_or_on_how_a_number_is_written() -> None:
    assert (
        canonical_json({"b": 1e16, "a": 2.0})
        == canonical_json({"a": 2, "b": 10**16})
        == b'{"a":2,"b":10000000000000000}'
    )
    assert canonical_json([0.1]) != canonical_json([0.1000000001])


def test_metrics_of_any_numbers_are_signed_and_come_back_trusted(database: Database, tmp_path: Any) -> None:
    """PostgreSQL's JSONB keeps decimals, and neither exponents nor the order of keys."""
    registry = ModelRegistry(database, str(tmp_path), trusting(KEY))
    metrics = {
        "z": 1e22,
        "tiny": 1e-7,
        "odd": 0.1 + 0.2,
        "whole": 3.0,
        "none": -0.0,
        "a": {"b": [1.5e300, 5e-324, True, None]},
    }
    at = datetime(2026, 11, 26, 12, 0, 0, 123_987, tzinfo=timezone(timedelta(hours=5)))
    registry.register("fraud", "detector", b"weights", feature_schema=4, metrics=metrics, clock=lambda: at)
    assert registry.load(registry.get("fraud", 1)) == b"weights"


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "recommender"},
        {"version": 4},
        {"kind": "policy"},
        {"created_at": NOON + timedelta(milliseconds=1)},
        {"sha256": "cd" * 32},
        {"size_bytes": 1_001},
        {"feature_schema": 5},
        {"metrics": {"alerts_per_day": 100}},
    ],
)
def test_a_signature_is_of_all_that_stays_of_a_row(changed: dict[str, Any]) -> None:
    trust, row = trusting(KEY), Row(metrics={"alerts_per_day": 10})
    signature = trust.sign(row)
    trust.check(row, signature)
    with pytest.raises(NotTrusted, match=r"is not what key \w{16} signed"):
        trust.check(replace(row, **changed), signature)


def test_any_of_several_keys_is_trusted_while_one_takes_over_from_another() -> None:
    row = Row()
    old, new = ModelTrust(KEY).sign(row), ModelTrust(OTHER).sign(row)
    both = trusting(KEY, OTHER)
    both.check(row, old)
    both.check(row, new)
    with pytest.raises(NotTrusted, match=f"signed with key '{key_id(KEY.public_key())}', which is not among"):
        trusting(OTHER).check(row, old)


def test_without_keys_no_signature_is_asked_for_and_with_keys_every_model_needs_one() -> None:
    ModelTrust().check(Row(), None)
    assert ModelTrust().sign(Row()) is None
    with pytest.raises(NotTrusted, match="fraud:3 is not signed"):
        trusting(KEY).check(Row(), None)


@pytest.mark.parametrize("value", ["", "no base64!", "AAAA", "A" * 86 + "==", "é"])
def test_what_is_no_signature_is_not_trusted(value: str) -> None:
    with pytest.raises(NotTrusted):
        trusting(KEY).check(Row(), Signature(value, key_id(KEY.public_key())))


def test_a_signature_of_something_else_is_none_of_a_model() -> None:
    row = Row()
    bare = signed_bytes(row).partition(b"\n")[2]
    from base64 import b64encode

    with pytest.raises(NotTrusted):
        trusting(KEY).check(row, Signature(b64encode(KEY.sign(bare)).decode(), key_id(KEY.public_key())))


def test_who_trusts_keys_and_cannot_sign_for_one_of_them_registers_nothing() -> None:
    ModelTrust(KEY).refuse_unsigned_registration()
    trusting(KEY).refuse_unsigned_registration()
    with pytest.raises(CannotSign, match="no key to sign with: set HEADGATE_MODEL_SIGNING_KEY"):
        ModelTrust(None, verify_keys_of(public_text(KEY))).refuse_unsigned_registration()
    with pytest.raises(CannotSign, match="which is not among HEADGATE_MODEL_VERIFY_KEYS"):
        trusting(OTHER).refuse_unsigned_registration()


@pytest.mark.parametrize("text", ["secret-but-wrong", "QUJD", "é", "A" * 100])
def test_a_key_that_is_none_is_refused_without_being_shown(text: str) -> None:
    for read in (signing_key_of, verify_keys_of):
        with pytest.raises(BadModelKey) as refusal:
            read(text)
        assert text not in str(refusal.value)


def test_keys_show_nowhere() -> None:
    private = new_signing_key()
    assert private not in repr(ModelTrust(signing_key_of(private), verify_keys_of(public_text(KEY))))


def test_the_key_of_checkpoints_is_another_for_each_signer_and_none_without() -> None:
    assert checkpoint_key(None) == b""
    assert checkpoint_key(KEY) == checkpoint_key(KEY) != checkpoint_key(OTHER)
