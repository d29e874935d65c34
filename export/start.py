"""Where `vlmp-export` begins."""

from vlmp.runtimes.console.begin import begin


def start_export() -> None:
    """`vlmp-export`."""
    begin("vlmp-export", "vlmp.export.cli", "main")
