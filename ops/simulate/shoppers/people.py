"""Who shops, and what they like: tastes over categories and styles, drawn once from a seed.

Everybody has some categories they love and some they cannot stand, prefers some styles, minds prices more or less,
looks further or less far down a page, and comes more or less often.
"""

from dataclasses import dataclass

import numpy as np

from ops.simulate.payments import Floats
from ops.simulate.shoppers.words import CATEGORIES, STYLES

LOVED, DISLIKED = 2, 2
LOVE, DISLIKE = 1.7, -1.7
CATEGORY_SPREAD, STYLE_SPREAD = 0.5, 0.6
#: Visits a day of the median shopper.
VISITS_A_DAY, VISITS_SPREAD = 3.0, 0.5


@dataclass(frozen=True, slots=True)
class People:
    """U shoppers. category_taste float64[U, CATEGORIES] and style_taste float64[U, STYLES]: at the beginning; they
    change. price_sensitivity: loss of interest at e times the usual price; patience: the chance to look at one item
    more; activity: relative frequency of visits."""

    user_ids: tuple[str, ...]
    category_taste: Floats
    style_taste: Floats
    price_sensitivity: Floats
    patience: Floats
    activity: Floats

    def __len__(self) -> int:
        return len(self.user_ids)


def draw_people(count: int, seed: int) -> People:
    generator = np.random.default_rng([seed, 6])
    category_taste = generator.normal(0.0, CATEGORY_SPREAD, (count, len(CATEGORIES)))
    order = generator.permuted(np.tile(np.arange(len(CATEGORIES)), (count, 1)), axis=1)
    every = np.arange(count)[:, None]
    category_taste[every, order[:, :LOVED]] += LOVE
    category_taste[every, order[:, LOVED : LOVED + DISLIKED]] += DISLIKE
    return People(
        user_ids=tuple(f"user-{number:07d}" for number in range(count)),
        category_taste=category_taste,
        style_taste=generator.normal(0.0, STYLE_SPREAD, (count, len(STYLES))),
        price_sensitivity=generator.gamma(2.0, 0.4, count),
        patience=generator.beta(14.0, 2.0, count),
        activity=generator.lognormal(0.0, VISITS_SPREAD, count),
    )
