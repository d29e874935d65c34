"""Where the programs begin: this file imports little, so that Ctrl-C ends them in one line from the first moment."""

import signal

from vlmp.runtimes.console.leave import Leave


def begin(program: str, module: str, function: str) -> None:
    """Import `module` and run its `function` as the command `program`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a background job ignores it
        signal.signal(signal.SIGINT, Leave(program))

    from importlib import import_module

    getattr(import_module(module), function)()
