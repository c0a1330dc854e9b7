"""Functions that a user names on the command line, as `package.module:function`: imported, and called."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tp_compiler.arguments import UsageError
from tp_compiler.diagnostics import ProgramError


def imported(module: str, function: str) -> Callable[..., Any]:
    """A function that the user names, from the working directory or from what is installed."""
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as problem:
        raise UsageError(f"cannot import {module}:{function}: {problem}") from None


def called(name: str, function: Callable[..., Any], widths: tuple[int, ...]) -> Any:
    """What the function returns. An error that the user's code raises is theirs, not one of this package."""
    try:
        return function(widths=widths)
    except ProgramError:
        raise
    except Exception as problem:
        frames = traceback.extract_tb(problem.__traceback__)[1:]
        here = os.path.dirname(__file__)
        if any(frame.filename.startswith(here + os.sep) for frame in frames):
            raise
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise UsageError(f"{name}(widths=...) failed: {type(problem).__name__}: {problem}{place}") from None
