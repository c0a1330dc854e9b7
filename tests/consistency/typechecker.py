"""What jaxtyping's import hook puts around every function of a room: beartype, except for methods that return Self.

beartype knows Self in classes alone, and the hook decorates methods one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

_STRICT = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return _STRICT(function)
    except BeartypeDecorHintPep673Exception:
        return function
