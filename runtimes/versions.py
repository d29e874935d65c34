"""Versions of the packages that make and run bundles."""

from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str:
    """Installed version of a package, "unknown" when it runs from a source tree that is not installed."""
    try:
        return release(version(name))
    except PackageNotFoundError:
        return "unknown"


def release(version: str) -> str:
    """A version without what a build adds for itself (2.13.0+cu130 -> 2.13.0): the same release is the same tool."""
    return version.partition("+")[0]
