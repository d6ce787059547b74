"""The 15 features of the Fraud Detection Handbook's published models, as its chapter 3 describes them.

Windows end with the transaction itself and are open at their beginning: a window of a day holds what happened less
than a day before. What is said of a terminal ends seven days before, since frauds are known only then.
"""

import numpy as np
import numpy.typing as npt

from ops.simulate.handbook import FIRST_DAY, HandbookTransactions

DAY_SECONDS = 86_400
WINDOW_DAYS = (1, 7, 30)
DELAY_SECONDS = 7 * DAY_SECONDS
#: 1 January 1970 was a Thursday, 3 days after a Monday.
FIRST_WEEKDAY = (FIRST_DAY // 86_400_000 + 3) % 7
LAST_NIGHT_HOUR = 6

FEATURES = (
    "amount", "during_weekend", "during_night",
    "customer_count_1", "customer_mean_1", "customer_count_7", "customer_mean_7", "customer_count_30",
    "customer_mean_30",
    "terminal_count_1", "terminal_risk_1", "terminal_count_7", "terminal_risk_7", "terminal_count_30",
    "terminal_risk_30",
)  # fmt: skip
#: Those that say something of known frauds.
LABEL_FEATURES = tuple(name for name in FEATURES if name.startswith("terminal_risk"))

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def published_features(data: HandbookTransactions) -> Floats:
    """float64 [n, 15], columns as FEATURES names them: amounts in the data's currency, counts of transactions, risk as
    the share of frauds among a terminal's transactions."""
    result = np.empty((len(FEATURES), len(data)))
    result[0] = data.amount
    result[1] = (data.day + FIRST_WEEKDAY) % 7 >= 5
    result[2] = data.seconds // 3600 % 24 <= LAST_NIGHT_HOUR
    for place, days in enumerate(WINDOW_DAYS):
        count, spent = window_sums(data.seconds, data.customer, data.amount, days * DAY_SECONDS, delay=0)
        result[3 + 2 * place], result[4 + 2 * place] = count, spent / count
        count, frauds = window_sums(
            data.seconds, data.terminal, data.fraud.astype(np.float64), days * DAY_SECONDS, delay=DELAY_SECONDS
        )
        result[9 + 2 * place], result[10 + 2 * place] = count, frauds / np.maximum(count, 1)
    return np.ascontiguousarray(result.T)


def window_sums(seconds: Ints, entity: Ints, values: Floats, span: int, delay: int) -> tuple[Ints, Floats]:
    """For each row, how many rows of the same entity there are in (its time - delay - span, its time - delay], and the
    sum of their values; of rows at the row's very time, only those up to itself count. Rows in the order of time."""
    order = np.argsort(entity, kind="stable")
    # One number line for all: each entity's times lie further apart from the next one's than any window is long.
    line = entity[order] * (int(seconds[-1]) + span + delay + 1) + seconds[order]
    total = np.concatenate([[0.0], np.cumsum(values[order])])
    after = np.arange(1, len(line) + 1) if delay == 0 else np.searchsorted(line, line - delay, side="right")
    before = np.searchsorted(line, line - delay - span, side="right")
    count, summed = np.empty(len(line), np.int64), np.empty(len(line))
    count[order], summed[order] = after - before, total[after] - total[before]
    return count, summed
