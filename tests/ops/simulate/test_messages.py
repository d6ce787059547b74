"""Messages: keys and bytes that the stream decodes to the contract's structs."""

import msgspec

from ops.simulate.cards import SimulationConfig, simulate
from ops.simulate.labels import LabelDelay, labels_of
from ops.simulate.messages import label_messages, transaction_messages
from streams import contract

HISTORY = simulate(SimulationConfig(accounts=100, merchants=40, events=1_000, fraud_share=0.1))
LABELS = labels_of(HISTORY, LabelDelay(0, 9_000))


def test_a_transaction_decodes_to_the_contracts_struct() -> None:
    columns = HISTORY.columns()
    rows = zip(*(list(column) for column in columns.values()), strict=True)

    for (key, value), row in zip(transaction_messages(HISTORY), rows, strict=True):
        decoded = msgspec.json.decode(value, type=contract.Transaction)
        assert msgspec.structs.astuple(decoded) == row
        assert key == decoded.account_id


def test_what_a_transaction_does_not_have_is_left_out() -> None:
    fields = [msgspec.json.decode(value) for _, value in transaction_messages(HISTORY)]

    assert not any("currency" in each for each in fields)
    assert {"memo" in each for each in fields if each["channel"] == "transfer"} == {True}
    assert {"memo" in each for each in fields if each["channel"] != "transfer"} == {False}


def test_a_label_decodes_to_the_contracts_struct() -> None:
    accounts = dict(zip(HISTORY.event_ids(), HISTORY.columns()["account_id"], strict=True))
    fraud = dict(zip(HISTORY.event_ids(), HISTORY.fraud.tolist(), strict=True))
    decoded = [(key, msgspec.json.decode(value, type=contract.Feedback)) for key, value in label_messages(LABELS)]

    assert len(decoded) == len(HISTORY)
    for key, label in decoded:
        assert label.event_id is not None
        assert key == accounts[label.event_id]
        assert label.kind == "label"
        assert label.label == ("fraud" if fraud[label.event_id] else "legitimate")
        assert label.source == ("chargeback" if fraud[label.event_id] else "customer")
        assert label.feedback_id == f"label-{label.event_id}"
    assert [label.given_at for _, label in decoded] == LABELS.given_at.tolist()
