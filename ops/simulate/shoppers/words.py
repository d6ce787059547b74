"""What simulated items are called: categories and styles with words of their own, so that a text tells what it is of.

No word has a comma, a quote or a line break: files hold the texts as they are.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Category:
    """median: a usual price; nouns: what the items are; words: what their texts speak of."""

    name: str
    median: float
    nouns: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """first: the word in the title."""

    first: str
    words: tuple[str, ...]


def _category(name: str, median: float, nouns: str, words: str) -> Category:
    return Category(name, median, tuple(nouns.split()), tuple(words.split()))


def _style(first: str, words: str) -> Style:
    return Style(first, tuple(words.split()))


CATEGORIES = (
    _category("running", 90.0, "shoe jersey watch belt cap", "trail marathon sole stride pace lightweight laces socks"),
    _category("audio", 120.0, "headphones speaker turntable amplifier radio", "sound bass stereo noise battery treble"),
    _category("coffee", 25.0, "grinder beans kettle press filter", "espresso roast crema aroma barista brewing milk"),
    _category("games", 35.0, "puzzle dice cards boardgame chess", "players evening strategy rules family turns rounds"),
    _category("garden", 30.0, "spade seeds trowel shears hose", "soil flowers lawn compost roses watering herbs"),
    _category("skincare", 20.0, "cream serum soap mask oil", "skin gentle moisture aloe fragrance sensitive daily"),
    _category("cookware", 55.0, "pan knife pot board wok", "steel oven recipe chopping kitchen simmer handle"),
    _category("cycling", 80.0, "helmet saddle lamp pump gloves", "bike road gravel chain brakes pedal commute"),
    _category(
        "novels", 14.0, "thriller romance saga mystery novel", "pages chapter plot author reading bestseller story"
    ),
    _category(
        "stationery", 12.0, "notebook pen planner stickers pencil", "paper ink desk writing lines letters sketch"
    ),
    _category(
        "camping", 110.0, "tent stove lantern hammock rucksack", "mountain night waterproof fire forest hiking sleep"
    ),
    _category("toys", 28.0, "blocks train doll robot kite", "children play colours nursery build birthday safe"),
)
CATEGORY_NAMES = tuple(category.name for category in CATEGORIES)

STYLES = (
    _style("Vintage", "retro patina classic nostalgia seventies"),
    _style("Minimal", "plain clean reduced simple white"),
    _style("Eco", "recycled organic sustainable fair bamboo"),
    _style("Luxury", "premium gold exclusive elegant silk"),
    _style("Smart", "app sensor bluetooth connected automatic"),
    _style("Handmade", "artisan workshop craft unique wood"),
    _style("Rugged", "tough durable outdoor robust reinforced"),
    _style("Playful", "bright funny bold colourful cheerful"),
)

#: Titles that promise too much; the items behind them disappoint.
BAIT_TITLES = (
    "Unbelievable {noun} everybody wants",
    "Shocking secret of this {noun}",
    "Last chance: miracle {noun}",
    "You must see this {noun} now",
)
FILLERS = ("with", "for", "every", "day", "new", "made", "designed", "great", "choice", "ready")
