"""A script's arguments: its own ``sys.argv``, while the service's stays as it is."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["give_arguments"]


class _Sys(ModuleType):
    """Python's ``sys``, but for ``argv``."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__("sys", sys.__doc__)
        super().__setattr__("argv", list(arguments))

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "argv":
            super().__setattr__(name, value)
        else:
            setattr(sys, name, value)

    def __dir__(self) -> list[str]:
        return dir(sys)


def give_arguments(namespace: dict[str, Any], arguments: Sequence[str]) -> None:
    """Let source that runs in a namespace find ``sys.argv``, when it imports ``sys``.

    ``sys`` is the whole process's, so it is the import that differs, for that source alone: what
    the script calls (`argparse`, say) sees the service's arguments, as ever.

    Args:
        namespace: Of an `Interpreter`; its ``__builtins__`` are its own.
        arguments: The list to be found, beginning with ``-``.
    """
    own = _Sys(arguments)

    def import_(name: str, *args: Any, **kwargs: Any) -> Any:
        module = builtins.__import__(name, *args, **kwargs)
        return own if name == "sys" else module

    namespace["__builtins__"]["__import__"] = import_
