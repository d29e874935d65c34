"""Run a bundle: `load(bundle_dir).generate(image, prompt)`. Needs neither torch nor the exporter."""

from .generate import Answer, Timings
from .session import Session, load

__all__ = ["Answer", "Session", "Timings", "load"]
