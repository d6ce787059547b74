"""Pictures of made-up items, drawn from a seed: a pattern in a colour, and much that says nothing (where, how large,
how bright, turned how far, and noise)."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]

PATTERNS = ("plain", "stripes", "checks", "dots", "rings", "cross")
#: In RGB.
COLOURS = {
    "red": (200, 45, 40),
    "orange": (235, 150, 40),
    "green": (50, 150, 70),
    "blue": (50, 90, 200),
    "violet": (140, 60, 170),
    "grey": (120, 120, 120),
}
#: Pixels of a picture's side.
SIDE = 64
GROUND = 235.0
NOISE = 14.0


def draw(rng: np.random.Generator, pattern: int, colour: int) -> bytes:
    """A PNG. pattern: a place in PATTERNS; colour: one in COLOURS."""
    paint = np.array(list(COLOURS.values())[colour], np.float64) * rng.uniform(0.75, 1.2)
    ground = GROUND * rng.uniform(0.8, 1.05) + rng.uniform(-12, 12, 3)
    covered = _covered(rng, PATTERNS[pattern])[:, :, None]
    pixels = covered * paint + (1 - covered) * ground + rng.normal(0, NOISE, (SIDE, SIDE, 3))
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def _covered(rng: np.random.Generator, pattern: str) -> Floats:
    """float64[SIDE, SIDE]: how much of each pixel the paint covers, within a disc somewhere in the picture."""
    place = np.arange(SIDE) - SIDE / 2
    across, down = np.meshgrid(place - rng.uniform(-8, 8), place - rng.uniform(-8, 8))
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(8, 14), rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * across + np.sin(angle) * down
    aside = -np.sin(angle) * across + np.cos(angle) * down
    waves, others = np.sin(2 * np.pi * along / period + phase), np.sin(2 * np.pi * aside / period + phase)
    distance = np.hypot(across, down)
    painted = {
        "plain": np.ones_like(along, np.bool_),
        "stripes": waves > 0,
        "checks": waves * others > 0,
        "dots": waves + others > 0.9,
        "rings": np.sin(2 * np.pi * distance / period + phase) > 0,
        "cross": (np.abs(along) < period / 2) | (np.abs(aside) < period / 2),
    }[pattern]
    return np.asarray(painted & (distance < rng.uniform(22, 30)), np.float64)
