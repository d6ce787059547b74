"""What clients send who mean harm, or do not know what they do: messages of the topics with wrong parts, as hypothesis
draws them. `fuzz_one_input` of a test made of these takes bytes of any other fuzzer, too."""

import json
from typing import Any

from hypothesis import strategies as st

AT = 1_773_489_600_000

#: Topic -> a sound message, its key's field first.
SOUND: dict[str, dict[str, Any]] = {
    "transactions": {
        "account_id": "a1",
        "event_id": "e1",
        "occurred_at": AT,
        "merchant_id": "m1",
        "amount": 12.5,
        "currency": "EUR",
        "channel": "online",
        "country": "DE",
        "category": "fuel",
        "memo": "rent for may",
    },
    "engagements": {
        "user_id": "a1",
        "event_id": "e1",
        "occurred_at": "2026-03-14T12:00:00Z",
        "item_id": "i1",
        "action": "click",
        "value": 2.5,
        "recommendation_id": "r1",
    },
    "items": {
        "item_id": "a1",
        "title": "Winter boots",
        "text": "warm",
        "category": "shoes",
        "price": 99.5,
        "image": "iVBORw0KGgo=",
        "available": True,
    },
    "feedback": {
        "feedback_id": "f1",
        "given_at": AT,
        "kind": "label",
        "event_id": "e1",
        "alert_id": None,
        "recommendation_id": None,
        "label": "fraud",
        "item_id": "i1",
        "value": -1.5,
        "source": "analyst",
    },
}

TEXTS = (
    *("", " ", "\0", "a\0b", "\x1b[2J", "\u202egnp.exe", "\ufeff", "\uffff", "\u0130", "\N{ZERO WIDTH JOINER}" * 99),
    *("x" * 200, "x" * 201, "\U0001f600" * 200, "x" * 10_000, "x" * 10_001, "x" * 70_000),
    *("<script>alert(1)</script>", "javascript:alert(1)", "'; DROP TABLE items; --", "${7*7}{{7*7}}", "%s%n%00"),
    *("NaN", "1e999", "-0", "true", "null", "0" * 400, "2026-02-30T25:61:61Z", "9999-12-31T23:59:59.999-23:59"),
)
#: As JSON has them, or would not.
TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"-0", b"-0.0", b"01", b"0x10", b"1.", b".5", b"+1"),
    *(b"1" * 400, b"0." + b"3" * 400, b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809"),
    *(b"18446744073709551616", b"99999999999", b"100000000000.00001", b"1e11", b"1e12", b"253402300799999", b"true"),
    *(b"null", b"undefined", b"{}", b"[]", b'{"a":1,"a":2}', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\udc00\\ud800"'),
    *(b'"\\u0000"', b'"\\x41"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"' + b"\\u0041" * 300 + b'"', b'"'),
    *(b"[" * 40 + b"]" * 40, b'{"a":' * 33 + b"1" + b"}" * 33, b"[" * 3_000, b'{"":' * 900 + b"1" + b"}" * 900),
    *(b"[" + b"1," * 10_001 + b"1]", b'"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1Pe"', b'"/9j/2Q=="'),
)

texts = st.sampled_from(TEXTS) | st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
tokens = st.sampled_from(TOKENS) | values.map(lambda value: json.dumps(value).encode())
names = st.sampled_from(sorted({name for message in SOUND.values() for name in message})) | texts


@st.composite
def messages(draw: st.DrawFn, topic: str) -> bytes:
    """A sound message with some fields replaced, left out, added or there twice; at times cut or with bytes changed."""
    sound = SOUND[topic]
    fields = [(name, json.dumps(value).encode()) for name, value in sound.items()]
    for _ in range(draw(st.integers(0, 3))):
        change = draw(st.sampled_from(("replace", "remove", "add", "again")))
        place = draw(st.integers(0, max(0, len(fields) - 1)))
        if change == "add":
            fields.append((draw(names), draw(tokens)))
        elif fields and change == "remove":
            del fields[place]
        elif fields and change == "replace":
            fields[place] = fields[place][0], draw(tokens)
        elif fields:
            fields.append((fields[place][0], draw(tokens)))
    whole = b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in fields) + b"}"
    return draw(damaged(whole)) if draw(st.integers(0, 4)) == 0 else whole


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut somewhere, or with other bytes in its midst."""
    place = draw(st.integers(0, len(whole)))
    return whole[:place] + draw(st.binary(max_size=8)) + draw(st.sampled_from((b"", whole[place:], whole[place + 1 :])))


WRONG_KEYS = (None, b"", b"\xff", b"a\0", b"k" * 201, b"k" * 300)
keys = st.sampled_from((*[b"a1"] * 6, *WRONG_KEYS)) | st.binary(max_size=9)
stamps = st.sampled_from((AT, AT, AT, AT, -1, 0, 2**63 - 1, -(2**63), 253_402_300_799_999))
