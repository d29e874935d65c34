"""A selection step, repeated: to its end in eager mode, and in an exported graph as its runtime can."""

from collections.abc import Callable

import torch
from torch import Tensor
from vlmp.pruner.interface import Loop

State = tuple[Tensor, ...]
"""What a step turns into the next. The last tensor, int64 [1], is greater than 0 while further steps are needed."""


def repeat(step: Callable[[State], State], state: State, loop: Loop, steps: int) -> State:
    """Step until no more is needed.

    steps: how many an unrolled graph and a scan do, whatever the input; steps that are not needed must change nothing.
    Eager calls and `while` graphs end by the state alone.
    """
    if not torch.compiler.is_exporting():
        while int(state[-1]) > 0:
            state = step(state)
        return state
    if steps == 0:
        return state
    if loop == "unroll":
        for _ in range(steps):
            state = step(state)
        return state
    if loop == "scan":
        from torch._higher_order_ops.scan import scan

        def scanned(carry: State, _: Tensor) -> tuple[State, Tensor]:
            after = tuple(step(carry))
            return after, after[-1].clone()  # a scan must put something out at every step

        return scan(scanned, state, torch.arange(steps))[0]
    from torch._higher_order_ops.while_loop import while_loop

    return while_loop(lambda *carry: (carry[-1] > 0).squeeze(0), lambda *carry: tuple(step(carry)), state)
