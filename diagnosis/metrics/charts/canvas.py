"""What charts are drawn with: four shapes in pixels, as SVG. The PNG painter draws the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol
from xml.sax.saxutils import escape, quoteattr

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


class Canvas(Protocol):
    """Coordinates are pixels from the upper left, colours `#rrggbb`; `tip` is shown to a pointer over the shape."""

    def rect(self, x: float, y: float, width: float, height: float, fill: str, *, tip: str = "") -> None: ...

    def line(self, points: Sequence[Point], colour: str, *, width: float = 1, dashed: bool = False) -> None: ...

    def polygon(self, points: Sequence[Point], fill: str, *, tip: str = "") -> None: ...

    def text(
        self, x: float, y: float, text: str, *, size: int = 12, colour: str = "#111827", anchor: Anchor = "start",
        bold: bool = False,
    ) -> None: ...  # fmt: skip


class SvgCanvas:
    """An SVG document. Everything that is written is escaped; it has no script, no style sheet and no link."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" role="img">',
            f"<title>{_plain(title)}</title>",
        ]

    def rect(self, x: float, y: float, width: float, height: float, fill: str, *, tip: str = "") -> None:
        at = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self._add(f'<rect {at} fill="{fill}"', tip, "rect")

    def line(self, points: Sequence[Point], colour: str, *, width: float = 1, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash} '
            'stroke-linejoin="round"/>'
        )

    def polygon(self, points: Sequence[Point], fill: str, *, tip: str = "") -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add(f'<polygon points="{path}" fill="{fill}"', tip, "polygon")

    def text(
        self, x: float, y: float, text: str, *, size: int = 12, colour: str = "#111827", anchor: Anchor = "start",
        bold: bool = False,
    ) -> None:  # fmt: skip
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor={quoteattr(anchor)}{weight}>'
            f"{_plain(text)}</text>"
        )

    def document(self) -> str:
        return "\n".join([*self._parts, "</svg>\n"])

    def _add(self, begun: str, tip: str, name: str) -> None:
        self._parts.append(f"{begun}><title>{_plain(tip)}</title></{name}>" if tip else f"{begun}/>")


def _plain(text: str) -> str:
    """Escaped, without characters that XML has no place for."""
    return escape("".join(char if char.isprintable() else " " for char in text))
