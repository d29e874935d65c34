"""Figures that the terminal's tables and the HTML report have in common."""

from .schema import BundleProfile, Condition, Operator


def share_of_method(bundle: BundleProfile, operator: Operator) -> float | None:
    """What an operator takes of its whole method, dispatch and the profiler's own work included; None: unknown."""
    whole_ms = bundle.operators_ms.get(operator.method)
    return operator.ms / whole_ms if whole_ms else None


def hottest_c(moment: Condition) -> float | None:
    """°C of the hottest sensor; None where the device tells none."""
    return max(moment.temperatures_c.values(), default=None)
