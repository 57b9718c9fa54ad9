"""From words on the command line to one command's module, and from its outcome to an exit code.

Both programs are a table: the words of a command, the module that holds it, one line of help. A module is imported only
when its command runs, so `--help` costs no more than starting Python. A command module has two functions:
`configure(parser)` declares its options, `run(args)` does the work and returns the exit code.

Exit codes: 0 done, 1 it failed (one line on stderr says why), 2 the words were wrong, 130 interrupted with Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True)
class Command:
    """One row of a program's table. `words` is what is typed after the program's name: `enable vmruntime`."""

    words: str
    module: str
    summary: str


class CommandError(Exception):
    """What a command could not do, in one line for a person: what is wrong and, where there is one, the remedy."""


class Interrupted(Exception):
    """Ctrl-C at a point where the command has something to say about what goes on without it."""


def main(program: str, about: str, commands: Sequence[Command], argv: Sequence[str]) -> int:
    """Run the command that `argv` names; the return value is the process's exit code."""
    _fill_closed_streams()
    try:
        code = _dispatch(program, about, commands, argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        pass  # The reader (head, less) has gone.
    except OSError as error:
        print(f"error: {_describe(error)}", file=sys.stderr)
    finally:
        # The outcome stands: a Ctrl-C while Python takes itself apart must not replace the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _drop_output()
    return EXIT_FAILED


def _fill_closed_streams() -> None:
    """A stream that whoever started us had closed reads as empty and swallows what is written. Left open, its number
    would go to the next file or connection."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _drop_output() -> None:
    """What could not be written stays unwritten: Python would try, and complain, once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _dispatch(program: str, about: str, commands: Sequence[Command], argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(program, about, commands))
        return 0
    if argv[0] in ("--version", "version"):
        from importlib.metadata import version  # costs as much as the rest of this program's start

        print(f"{program} {version('vmruntime')}")
        return 0
    command = find(commands, argv)
    if command is None:
        return _unknown(program, commands, argv)
    return _run(program, command, argv[len(command.words.split()) :])


def find(commands: Sequence[Command], argv: Sequence[str]) -> Command | None:
    """The command that `argv` begins with."""
    matching = [c for c in commands if list(argv[: len(c.words.split())]) == c.words.split()]
    return max(matching, key=lambda c: len(c.words), default=None)


def _help(program: str, about: str, commands: Sequence[Command]) -> str:
    width = max(len(c.words) for c in commands)
    rows = "\n".join(f"  {c.words:<{width}}  {c.summary}" for c in commands)
    usage = f"Usage: {program} COMMAND [options]"
    return f"{about}\n\n{usage}\n\nCommands:\n{rows}\n\n`{program} COMMAND --help` has the options."


def _unknown(program: str, commands: Sequence[Command], argv: Sequence[str]) -> int:
    """An incomplete command lists how it can go on; a wrong one is named."""
    continuations = [c.words for c in commands if c.words.split()[0] == argv[0]]
    wants_help = argv[-1] in ("-h", "--help")
    if continuations:
        text = f"`{program} {argv[0]}` goes on with one of: " + ", ".join(w.partition(" ")[2] for w in continuations)
        print(text, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else EXIT_USAGE
    print(f'error: unknown command "{argv[0]}"; `{program} --help` lists the commands', file=sys.stderr)
    return EXIT_USAGE


def _run(program: str, command: Command, argv: Sequence[str]) -> int:
    # Imported here, as every command module is: the help above needs neither.
    import argparse

    from kube.client.config import KubeConfigError
    from kube.client.sync import ConnectionFailed
    from kube.machinery.errors import StatusError

    module = import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"{program} {command.words}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    args = parser.parse_args(list(argv))
    try:
        return int(module.run(args))
    except (CommandError, KubeConfigError, ConnectionFailed) as error:
        print(f"error: {error}", file=sys.stderr)
    except StatusError as error:
        print(f"error: {error.message}", file=sys.stderr)
    except Interrupted as notice:
        print(f"\n{notice}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FAILED
