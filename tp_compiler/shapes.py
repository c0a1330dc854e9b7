"""Shapes of arrays in annotations: `Float[Array, "samples k"]` is an `Array` of two dimensions, and other arguments that
name a dimension alike share its size.

Nothing reads annotations at run time, so jaxtyping is neither needed nor imported. Where its import hook is on, in a test,
its own `Float` stands here, and every call is checked (tests/consistency/test_shapes.py).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

#: Whether the import hook of jaxtyping is on.
CHECKED = any(type(finder).__module__.startswith("jaxtyping") for finder in sys.meta_path)

if TYPE_CHECKING:
    from typing import Annotated as Float
elif CHECKED:
    Float = sys.modules["jaxtyping"].Float
else:

    class Float:
        """Any shape will do."""

        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]


__all__ = ["CHECKED", "Float"]
