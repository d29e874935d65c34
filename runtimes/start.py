"""Where the programs begin that need a bundle only."""

from vlmp.runtimes.console.begin import begin


def start_profile() -> None:
    """`vlmp-profile`."""
    begin("vlmp-profile", "vlmp.runtimes.profile.cli", "main")


def start_run() -> None:
    """`vlmp-run`."""
    begin("vlmp-run", "vlmp.runtimes.cli", "run")


def start_verify() -> None:
    """`vlmp-verify`."""
    begin("vlmp-verify", "vlmp.runtimes.cli", "verify")
