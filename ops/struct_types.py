"""Every struct type's decoding is prepared while there is one thread, before a service starts others.

msgspec works out a struct's fields when the type is first decoded or converted to. Where two threads do that at once,
the second may read what the first has not finished, and the process dies of a segmentation fault (msgspec 0.22).
Afterwards types are only read. It knows nothing of what the types are for.
"""

from collections.abc import Iterator

import msgspec


def prepare_struct_types() -> None:
    """Those of all modules that are loaded."""
    for kind in _subclasses(msgspec.Struct):
        msgspec.json.Decoder(kind)


def _subclasses(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)
