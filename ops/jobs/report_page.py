"""What reports in HTML are made of: one page that needs no network and runs no script, with its pictures inside.

Texts are escaped here; what begins with a tag comes from these functions.
"""

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #f5f7fa; margin: 0; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { margin: 0; } h2 { margin: 2.2rem 0 .5rem; font-size: 1.2rem; } .quiet { color: #616e7c; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { background: #fff; border: 1px solid #e4e7eb; border-radius: 6px; padding: .7rem 1rem; min-width: 8.5rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.2; } .tile span { color: #616e7c; font-size: .85rem; }
figure { background: #fff; border: 1px solid #e4e7eb; border-radius: 6px; margin: 1rem 0; padding: 1rem; }
figure img { max-width: 100%; height: auto; } figcaption { color: #616e7c; font-size: .9rem; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid #e4e7eb; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
th { color: #616e7c; font-weight: 600; } .text { text-align: left; } tr:last-child td { border-bottom: 0; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body><main>{''.join(parts)}</main></body></html>\n"


def tiles(shown: Iterable[tuple[str, str]]) -> str:
    """Values, each with what it is."""
    each = (f"<div class=tile><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in shown)
    return f"<div class=tiles>{''.join(each)}</div>"


def picture_part(name: str, picture: bytes, caption: str) -> str:
    """A PNG."""
    data = b64encode(picture).decode()
    image = f'<img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]], texts: Sequence[int]) -> str:
    def line(kind: str, cells: Sequence[str]) -> str:
        marked = (
            f"<{kind}{' class=text' if place in texts else ''}>{escape(cell)}</{kind}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<div class=scroll><table><thead>{line('th', heading)}</thead><tbody>{body}</tbody></table></div>"


def number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def percent(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "-"
