"""Pictures of the recorded graph: graph -> fold -> DOT -> SVG or PNG."""

from .picture import Drawing, draw

__all__ = ["Drawing", "draw"]
