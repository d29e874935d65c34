"""Run a bundle: `Chat(load(folder)).ask(image, prompt)`. Needs neither torch nor the exporter."""

TYPE_CHECKING = False  # typing's own would have to be imported, and the command lines below begin at once
if TYPE_CHECKING:
    from typing import Any

    from vlmp.runtimes.chat import Answer, Chat
    from vlmp.runtimes.session import Session, load
    from vlmp.runtimes.turn import Timings
else:
    _PLACES = {"Answer": "chat", "Chat": "chat", "Session": "session", "Timings": "turn", "load": "session"}

    def __getattr__(name: str) -> "Any":
        """Imported when it is first asked for: the command lines below begin without numpy and pydantic."""
        if name in _PLACES:
            from importlib import import_module

            return getattr(import_module(f"vlmp.runtimes.{_PLACES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Answer", "Chat", "Session", "Timings", "load"]
