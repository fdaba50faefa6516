"""Another Python program in this process: found as a shell or Python would, begun as if alone.

Nothing is kept of what ran before but loaded modules: the program has a ``__main__`` of its own,
its own ``sys.argv`` and ``sys.path[0]``, and ends as it would: what it raises goes on to Python.
"""

from __future__ import annotations

import builtins
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import zipfile
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, Literal, TypeAlias

from attrs import frozen

from txwatchdog.errors import ProgramError

__all__ = ["Program", "begin", "find"]

Kind: TypeAlias = Literal["script", "module", "archive"]

_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*t?d?")
_HEAD_BYTES = 1024  # for the first two lines of a script
_BIN_SH = "'''exec'"  # how pip and uv begin a script whose interpreter has too long a path


@frozen
class Program:
    """What is to run.

    Attributes:
        kind: `script`, a file; `module`, as by ``python -m``; `archive`, a directory or zip file
            with a ``__main__.py``.
        name: the file's path as it was given or found; a module's name.
        arguments: what it is given.
        safe_path: whether its first line keeps its directory out of ``sys.path``.
    """

    kind: Kind
    name: str
    arguments: tuple[str, ...] = ()
    safe_path: bool = False


@frozen
class _Shebang:
    interpreter: str
    flags: str

    @property
    def is_python(self) -> bool:
        return _PYTHON.fullmatch(Path(self.interpreter).name) is not None


def find(words: Sequence[str], path: str | None = None) -> Program:
    """Find a program.

    Args:
        words: ``-m MODULE``, or a script's path, or a command's name, and its arguments. What has
            a slash or ends in ``.py`` is a path; what else is not found on `path` may be one, too.
        path: where commands are looked for; None: as the environment says.

    Raises:
        ProgramError: there is none, or it is not written in Python.
    """
    if not words or (words[0] == "-m" and len(words) < 2):
        raise ProgramError(
            "no program: write it behind --, as in txwatchdog run -- twist web, "
            "-- server.py or -- -m package"
        )
    first, arguments = words[0], tuple(words[1:])
    if first == "-m":
        return Program("module", arguments[0], arguments[1:])
    if "/" in first or first.endswith((".py", ".pyc")):
        return _checked(first, arguments, is_command=False)
    # PATH need not name the virtual environment that we run in.
    ours = shutil.which(first, path=str(Path(sys.executable).parent))
    if (command := shutil.which(first, path=path) or ours) is not None:
        try:
            return _checked(command, arguments, is_command=True)
        except ProgramError:
            if ours is None or ours == command:
                raise
            return _checked(ours, arguments, is_command=True)
    if Path(first).exists():
        return _checked(first, arguments, is_command=False)
    raise ProgramError(
        f"{first!r} is neither a command on PATH nor a file here: "
        "give a script, a command written in Python, or -m MODULE"
    )


def begin(program: Program) -> None:
    """Run `program` to its end, in this thread, which must be the main one.

    Raises:
        BaseException: whatever it raises. A traceback that Python writes of it shows no frame of
            ours.
    """
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    # In place: `from sys import argv` may have been done.
    sys.argv[:] = ["-m" if program.kind == "module" else program.name, *program.arguments]
    _set_first_path(program)
    try:
        if program.kind == "script":
            _run_script(program.name, main)
        else:  # what Python itself calls for -m and for archives, so errors are the same too
            run: Any = runpy
            is_module = program.kind == "module"
            run._run_module_as_main(program.name if is_module else "__main__", is_module)
    except SystemExit:
        raise
    except BaseException:
        _hide_our_frames()
        raise


def _run_script(path: str, main: ModuleType) -> None:
    file = str(Path(path).absolute())
    loader: Any = SourceFileLoader("__main__", file)
    if file.endswith(".pyc"):
        loader = SourcelessFileLoader("__main__", file)
        code: CodeType = loader.get_code("__main__")
    else:
        with io.open_code(file) as source:
            code = compile(source.read(), file, "exec", dont_inherit=True)
    vars(main).update(__file__=file, __cached__=None, __loader__=loader)
    exec(code, vars(main))  # noqa: S102 - that is what running a script is


def _set_first_path(program: Program) -> None:
    """Set ``sys.path[0]``, which is our own script's directory, as Python would have."""
    if getattr(sys.flags, "safe_path", False):  # from Python 3.11; then there is none of ours
        return
    if program.kind == "module":
        first = str(Path.cwd())
    elif program.kind == "archive":
        first = str(Path(program.name).absolute())
    else:
        first = str(Path(program.name).resolve().parent)
    sys.path[:1] = [] if program.safe_path else [first]


def _hide_our_frames() -> None:
    """Have the traceback of what the program raised begin in the program."""
    hook = sys.excepthook

    def without_ours(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        inner = trace
        while inner is not None and inner.tb_frame.f_code is not begin.__code__:
            inner = inner.tb_next
        while inner is not None and inner.tb_frame.f_code.co_filename == __file__:
            inner = inner.tb_next
        hook(kind, error.with_traceback(inner), inner)

    sys.excepthook = without_ours


def _checked(path: str, arguments: tuple[str, ...], *, is_command: bool) -> Program:
    """The program in the file `path`.

    Raises:
        ProgramError: it can't be read, or is not written in Python, or for another Python.
    """
    try:
        if Path(path).is_dir():
            if not (Path(path) / "__main__.py").exists():
                raise ProgramError(f"{path!r} is a directory without a __main__.py: give a script")
            return Program("archive", path, arguments)
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ProgramError(f"can't open {path!r}: {error.strerror or error}") from error
    shebang = _shebang(head)
    is_archive = zipfile.is_zipfile(path)
    if shebang is not None:
        is_python = shebang.is_python
    elif is_command:  # which a shell would read
        is_python = is_archive or path.endswith(".py")
    else:
        is_python = is_archive or path.endswith(".pyc") or b"\0" not in head
    if not is_python:
        raise ProgramError(_not_python(path))
    if is_command and shebang is not None:
        _check_environment(path, shebang.interpreter)
    kind: Kind = "archive" if is_archive else "script"
    safe_path = is_command and shebang is not None and not {"P", "I"}.isdisjoint(shebang.flags)
    return Program(kind, path, arguments, safe_path)


def _not_python(path: str) -> str:
    if _PYTHON.fullmatch(Path(path).name):
        return (
            f"{path!r} is Python itself: leave it out, as in txwatchdog run -- server.py "
            "(txwatchdog runs programs on its own Python)"
        )
    return f"{path!r} is not written in Python, so there is no reactor to watch: run it without"


def _shebang(head: bytes) -> _Shebang | None:
    """What the first lines of a file name as its interpreter; None if they name none."""
    if not head.startswith(b"#!"):
        return None
    first, _, rest = head[2:].decode("utf-8", "replace").partition("\n")
    second = rest.partition("\n")[0]
    try:
        if first.split()[:1] in (["/bin/sh"], ["/usr/bin/sh"]) and second.startswith(_BIN_SH):
            if "$(" in second:  # uv's, which finds the interpreter that lies beside the script
                words = _PYTHON.findall(second)[:1]
            else:
                words = shlex.split(second.removeprefix(_BIN_SH))
        else:
            words = first.split()
            if words and Path(words[0]).name == "env":
                words = [word for word in words[1:] if word != "-S" and "=" not in word]
    except ValueError:  # quotes that do not match
        words = []
    if not words:
        return _Shebang("", "")
    flags = "".join(word[1:] for word in words[1:] if re.fullmatch("-[A-Za-z]+", word))
    return _Shebang(words[0], flags)


def _check_environment(path: str, interpreter: str) -> None:
    """Refuse a command whose packages are another Python's.

    Raises:
        ProgramError: it is one.
    """
    if not os.path.isabs(interpreter) or not sys.executable:  # noqa: PTH117 - a str
        return
    theirs, ours = Path(interpreter), Path(sys.executable)
    if theirs.exists() and theirs.parent.resolve() != ours.parent.resolve():
        raise ProgramError(
            f"{path!r} runs on {interpreter}, but this txwatchdog on {sys.executable}: install "
            f"txwatchdog there, too ({interpreter} -m pip install txwatchdog), and use that one"
        )
