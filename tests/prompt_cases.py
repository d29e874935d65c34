"""A template with the user's words in it, as text: what the parts of a turn's token ids are compared with."""

from __future__ import annotations

from vlmp.runtimes.prompt import MARK


def filled(template: str, words: str) -> str:
    return template.replace(MARK, words)
