"""Simulated transactions and labels as messages of the contract: keys and JSON bytes, ready to produce."""

from collections.abc import Iterator, Sequence

import msgspec

from ops.simulate.cards import SimulatedTransactions
from ops.simulate.labels import FRAUD, Labels
from streams import contract

#: Who says so.
SOURCES = {FRAUD: "chargeback"}
OTHER_SOURCE = "customer"


class TransactionMessage(contract.Transaction, frozen=True, omit_defaults=True, gc=False):
    """A transaction without the fields that are not there."""


class LabelMessage(contract.Feedback, frozen=True, omit_defaults=True, gc=False):
    """Feedback without the fields that are not there."""


_encode = msgspec.json.Encoder().encode


def transaction_messages(
    transactions: SimulatedTransactions, memos: Sequence[str | None] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Key and value of each; times are epoch milliseconds. memos: instead of their own."""
    columns = transactions.columns()
    rows = zip(
        columns["event_id"],
        columns["occurred_at"].tolist(),
        columns["account_id"],
        columns["merchant_id"],
        columns["amount"].tolist(),
        columns["currency"],
        columns["channel"],
        columns["country"],
        columns["category"],
        columns["memo"] if memos is None else memos,
        strict=True,
    )
    for row in rows:
        yield row[2], _encode(TransactionMessage(*row))


def label_messages(labels: Labels) -> Iterator[tuple[str, bytes]]:
    """Key and value of each; feedback_id follows from the event, so that a repeat is recognisable."""
    rows = zip(labels.event_ids(), labels.account_ids(), labels.label_names(), labels.given_at.tolist(), strict=True)
    for event_id, account_id, label, given_at in rows:
        message = LabelMessage(
            feedback_id=f"label-{event_id}",
            given_at=given_at,
            kind="label",
            event_id=event_id,
            label=label,
            source=SOURCES.get(label, OTHER_SOURCE),
        )
        yield account_id, _encode(message)
