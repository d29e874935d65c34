"""Where the programs begin: this file imports little, so that Ctrl-C ends them in one line from the first moment."""

import signal

from .leave import Leave


def start_eval() -> None:
    """`vlmp-eval`."""
    _start("vlmp-eval", "vlmp.evaluation.cli", "main")


def start_export() -> None:
    """`vlmp-export`."""
    _start("vlmp-export", "vlmp.export.cli", "main")


def start_profile() -> None:
    """`vlmp-profile`."""
    _start("vlmp-profile", "vlmp.runtimes.profile.cli", "main")


def start_run() -> None:
    """`vlmp-run`."""
    _start("vlmp-run", "vlmp.runtimes.cli", "run")


def start_verify() -> None:
    """`vlmp-verify`."""
    _start("vlmp-verify", "vlmp.runtimes.cli", "verify")


def _start(program: str, module: str, function: str) -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a background job ignores it
        signal.signal(signal.SIGINT, Leave(program))

    from importlib import import_module

    getattr(import_module(module), function)()
