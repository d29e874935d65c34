"""Where `vlmp-eval` begins."""

from vlmp.runtimes.console.begin import begin


def start_eval() -> None:
    """`vlmp-eval`."""
    begin("vlmp-eval", "vlmp.evaluation.cli", "main")
