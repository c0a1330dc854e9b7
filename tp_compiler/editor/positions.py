"""Places of a text as editors count them: lines and columns from 0, columns in the units that the editor asks for."""

from __future__ import annotations

import re
from bisect import bisect_right


class TextLines:
    """The lines of a text. `encoding` is utf-8, utf-16 or utf-32: one unit is a byte, two, or a character."""

    def __init__(self, text: str, encoding: str = "utf-16"):
        self.text = text
        self.encoding = encoding
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset."""
        line = bisect_right(self._starts, offset) - 1
        return line, self._units(self.text[self._starts[line] : offset])

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and column; of what lies outside the text, the nearest place in it."""
        if line >= len(self._starts):
            return len(self.text)
        start = self._starts[line]
        end = self._starts[line + 1] - 1 if line + 1 < len(self._starts) else len(self.text)
        part = self.text[start:end]
        if part.isascii():
            return start + min(column, len(part))
        units = 0
        for k, char in enumerate(part):
            if units >= column:
                return start + k
            units += self._units(char)
        return end

    def _units(self, text: str) -> int:
        if text.isascii() or self.encoding == "utf-32":
            return len(text)
        if self.encoding == "utf-8":
            return len(text.encode("utf-8", "surrogatepass"))
        return sum(1 + (char > "\uffff") for char in text)
