"""What the model sees of an event: the names of its features and how they follow from sums, rings and the event.

Anything that changes a column's meaning or place raises FEATURE_SCHEMA: models and rings of another schema are
refused. Nothing here remembers anything; models/features.py does.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.text_reading import CHARACTERS_A_PART

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FEATURE_SCHEMA = 2

#: Natural logarithms of amounts (1 + amount in base currency), counts and seconds; `..._to_...` are differences of
#: such logarithms, so ratios; novelties are 0 or 1.
FEATURES = (
    "amount", "amount_to_median", "amount_deviation", "gap",
    "hour_sin", "hour_cos", "weekday_sin", "weekday_cos",
    "account_count_hour", "account_count_day", "account_count_week", "account_count_month",
    "amount_to_day_mean", "amount_to_week_mean", "amount_to_month_mean",
    "merchant_count_day", "merchant_count_week", "merchant_count_month",
    "amount_to_merchant_week", "amount_to_merchant_month",
    "new_merchant", "new_country", "history",
    "below_limit", "below_limit_count", "account_amount_day",
)  # fmt: skip
#: Sines and cosines: they vary between -1 and 1 whatever a sample shows of them.
CYCLIC = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")
#: Hashed texts with an embedding each. Bucket 0 is "not given".
CATEGORIES = ("merchant", "category", "channel", "country")
CATEGORY_BUCKETS = (2048, 256, 64, 512)
#: Of memos: buckets of their parts, and how many parts of one are read (text_encoder.py).
MEMO_BUCKETS, MEMO_PARTS = 8192, 48
MEMO_CHARACTERS = CHARACTERS_A_PART * MEMO_PARTS

HOUR, DAY = 3_600_000.0, 86_400_000.0
WEEK, MONTH = 7 * DAY, 30 * DAY
#: Time constants, in milliseconds, over which account and merchant sums decay, and which of them each sum uses.
ACCOUNT_TAUS = np.array((HOUR, DAY, WEEK, MONTH))
#: Counts (4), amounts (3), log-amount, its square, amounts just below the limit.
ACCOUNT_SUM_TAUS = np.array((0, 1, 2, 3, 1, 2, 3, 3, 3, 2))
MERCHANT_TAUS = np.array((DAY, WEEK, MONTH))
#: Counts (3), amounts (3).
MERCHANT_SUM_TAUS = np.array((0, 1, 2, 0, 1, 2))

#: Structuring hides between this share of the reporting limit and the limit.
NEAR_LIMIT = 0.8
#: No feature is larger, in either direction.
LARGEST = 20.0
#: An account's first event has no gap; it counts as this long.
FIRST_GAP = MONTH
#: Keeps the deviation of an account whose amounts hardly vary from making every cent remarkable.
LEAST_DEVIATION = 0.25
#: Sums decay together, so their ratio keeps its meaning down to the smallest number; below this they are nothing.
NOTHING = 1e-280


@dataclass(frozen=True, slots=True)
class Known:
    """n events with what was known just before each. Sums as ACCOUNT_SUM_TAUS and MERCHANT_SUM_TAUS order them.

    occurred_at in epoch milliseconds; gap in milliseconds since the account's event before; age: the account's events
    before; median: of the account's last log-amounts, 0 without any.
    """

    occurred_at: Rows
    log_amount: Floats
    near_limit: Flags
    gap: Floats
    age: Rows
    median: npt.NDArray[np.float32]
    sums: Floats
    merchant_sums: Floats
    new_merchant: Flags
    new_country: Flags


def is_near_limit(amount: Floats, limit: float) -> Flags:
    return (amount >= NEAR_LIMIT * limit) & (amount < limit)


def account_additions(amount: Floats, log_amount: Floats, near_limit: Flags) -> Floats:
    """What an event adds to its account's sums, [n, 10]."""
    added = np.empty((len(amount), len(ACCOUNT_SUM_TAUS)))
    added[:, :4] = 1.0
    added[:, 4:7] = amount[:, None]
    added[:, 7] = log_amount
    added[:, 8] = log_amount * log_amount
    added[:, 9] = near_limit
    return added


def merchant_additions(amount: Floats) -> Floats:
    """What an event adds to its merchant's sums, [n, 6]."""
    added = np.ones((len(amount), len(MERCHANT_SUM_TAUS)))
    added[:, 3:] = amount[:, None]
    return added


def feature_matrix(known: Known) -> npt.NDArray[np.float32]:
    """float32 [n, F], columns as FEATURES names them."""
    result = np.empty((len(FEATURES), len(known.age)), np.float32)
    log_amount, has_history = known.log_amount, known.age > 0
    counts, amounts = known.sums[:, :4].T, known.sums[:, 4:7].T
    hour = known.occurred_at % int(DAY) * (2 * np.pi / DAY)
    weekday = (known.occurred_at // int(DAY) + 4) % 7 * (2 * np.pi / 7)  # 1 January 1970 was a Thursday
    result[0] = log_amount
    result[1] = np.where(has_history, log_amount - known.median, 0.0)
    result[2] = np.where(has_history, _deviation(log_amount, known.sums), 0.0)
    result[3] = np.log1p(known.gap / 1000)
    result[4], result[5] = np.sin(hour), np.cos(hour)
    result[6], result[7] = np.sin(weekday), np.cos(weekday)
    result[8:12] = np.log1p(counts)
    result[12:15] = log_amount - _log_mean(counts[1:], amounts, log_amount)
    merchant_counts, merchant_amounts = known.merchant_sums[:, :3].T, known.merchant_sums[:, 3:].T
    result[15:18] = np.log1p(merchant_counts)
    result[18:20] = log_amount - _log_mean(merchant_counts[1:], merchant_amounts[1:], log_amount)
    result[20], result[21] = known.new_merchant, known.new_country
    result[22] = np.log1p(known.age)
    result[23] = known.near_limit
    result[24] = np.log1p(known.sums[:, 9])
    result[25] = np.log1p(amounts[0])
    np.clip(result, -LARGEST, LARGEST, out=result)
    return np.ascontiguousarray(result.T)


def _deviation(log_amount: Floats, sums: Floats) -> Floats:
    """How many standard deviations the amount is away from the account's mean over about a month."""
    weight = np.maximum(sums[:, 3], NOTHING)
    mean = sums[:, 7] / weight
    variance = np.maximum(sums[:, 8] / weight - mean * mean, 0.0)
    return (log_amount - mean) / (np.sqrt(variance) + LEAST_DEVIATION)


def _log_mean(counts: Floats, amounts: Floats, otherwise: Floats) -> Floats:
    """The logarithm of the mean amount over each span, [spans, n]; `otherwise` where nothing is remembered."""
    return np.where(counts > NOTHING, np.log1p(amounts / np.maximum(counts, NOTHING)), otherwise)
