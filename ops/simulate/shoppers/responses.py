"""How likely a shopper clicks, likes, dislikes, skips or buys, given how an item looks and how it pleases.

Two quantities decide. Attraction is what one sees before the click: taste, price, title, how often the item and its
category were seen of late. Enjoyment is what one finds after it: taste, price and quality. Bait has much of the first
and little of the second, so a policy that earns clicks only is not the best one. Pure functions; shapes are broadcast.
"""

import numpy as np

from models.engagements import LONGEST_DWELL, REWARDS
from ops.simulate.payments import Floats

#: Logits of an action at attraction or enjoyment 0.
CLICK, FOUND_CLICK, LIKE, DISLIKE, PURCHASE, SKIP, DISMISS = -2.8, -1.0, -3.8, -2.4, -5.0, -1.5, -5.0
#: How much enjoyment differs between two looks at the same item.
ENJOYMENT_SPREAD = 0.5
#: Dwell: median seconds at enjoyment 0, growth of the logarithm by enjoyment, spread of the logarithm.
DWELL_SECONDS, DWELL_GROWTH, DWELL_SPREAD = 10.0, 0.6, 0.5
LEAST_DWELL, MOST_DWELL = 1.0, 600.0


def logistic(value: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-value))
    return result


def click_chance(attraction: Floats) -> Floats:
    """Of an item that was put before the shopper."""
    return logistic(attraction + CLICK)


def found_click_chance(attraction: Floats) -> Floats:
    """Of an item that the shopper found by searching."""
    return logistic(attraction + FOUND_CLICK)


def dwell_seconds(enjoyment: Floats, normal: Floats) -> Floats:
    """normal: standard normal draws."""
    logarithm = np.log(DWELL_SECONDS) + DWELL_GROWTH * enjoyment + DWELL_SPREAD * normal
    seconds: Floats = np.clip(np.exp(logarithm), LEAST_DWELL, MOST_DWELL)
    return seconds


def like_chance(enjoyment: Floats) -> Floats:
    """After a click, as the next two."""
    return logistic(1.2 * enjoyment + LIKE)


def dislike_chance(enjoyment: Floats) -> Floats:
    return logistic(-1.2 * enjoyment + DISLIKE)


def purchase_chance(enjoyment: Floats, satiation: Floats) -> Floats:
    return logistic(enjoyment + PURCHASE - satiation)


def skip_chance(attraction: Floats) -> Floats:
    """Without a click, as the next one."""
    return logistic(-0.5 * attraction + SKIP)


def dismiss_chance(affinity: Floats) -> Floats:
    """A dislike without a click: one sees at once that it is nothing for oneself."""
    return logistic(-1.2 * affinity + DISMISS)


def expected_reward(attraction: Floats, affinity: Floats, enjoyment: Floats, satiation: Floats) -> Floats:
    """About what one look at an item in stock earns."""
    clicked = click_chance(attraction)
    dwell = np.minimum(dwell_seconds(enjoyment, np.zeros_like(enjoyment)), LONGEST_DWELL)
    after_click = (
        REWARDS["click"]
        + REWARDS["dwell"] * dwell
        + REWARDS["like"] * like_chance(enjoyment)
        + REWARDS["dislike"] * dislike_chance(enjoyment)
        + REWARDS["purchase"] * purchase_chance(enjoyment, satiation)
    )
    otherwise = REWARDS["skip"] * skip_chance(attraction) + REWARDS["dislike"] * dismiss_chance(affinity)
    return clicked * after_click + (1.0 - clicked) * otherwise
