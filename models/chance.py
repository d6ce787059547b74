"""Numbers by chance that depend on nothing but a seed, so that every draw can be repeated anywhere."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Of uint64 to floats in [0, 1): the upper 53 bits.
_UNIT = 2.0**-53
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def gumbel(uniform: Floats) -> Floats:
    """Of numbers in [0, 1). Log-weights plus these rank items as a Plackett-Luce draw does."""
    return np.asarray(-np.log(-np.log(np.clip(uniform, 2.0**-54, 1 - 2.0**-53))), np.float64)


def uniforms(seed: npt.NDArray[np.uint64], count: int) -> Floats:
    """float64[m, count] in [0, 1): the same numbers for the same seed, anywhere (splitmix64: Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        mixed = seed[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * _UNIT, np.float64)
