"""Accuracy: questions put to a model or a bundle, and what pruning does to the answers."""
