"""Seeded scenes with questions: handwritten digits and coloured shapes over photographs, 336 x 336 pixels.

The splits share no seeds, no digits and no photographs.
"""

from vlmp.evaluation.scenes.layout import SIDE, Item, Scene, make_scene
from vlmp.evaluation.scenes.questions import KINDS, Question, ask, sample

__all__ = ["KINDS", "SIDE", "Item", "Question", "Scene", "ask", "make_scene", "sample"]
