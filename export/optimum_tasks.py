"""What we export, told to Optimum's TasksManager: backend `vlmp`, task `image-text-to-text`."""

from argparse import Namespace
from typing import Any

from optimum.exporters.tasks import TasksManager
from optimum.utils.normalized_config import NormalizedTextConfigWithGQA
from vlmp.export import cli
from vlmp.export.checkpoint import read_config
from vlmp.export.models import FAMILIES, model_entry
from vlmp.export.optimum_options import TASK
from vlmp.runtimes.bundle.errors import UserError

BACKEND = "vlmp"


class VlmpConfig:
    """A model type as Optimum sees it: its task, and its text config under Optimum's normalised names."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA

    def __init__(self, config: Any, task: str = TASK) -> None:
        self.task = task
        self.normalized_config = self.NORMALIZED_CONFIG_CLASS(getattr(config, "text_config", config))


def register() -> None:
    """Register every family; Optimum ignores what is already there."""
    decorate = TasksManager.create_register(BACKEND)
    for family in FAMILIES:
        decorate(family, TASK, library_name="transformers")(VlmpConfig)


def run_checked(arguments: Namespace) -> None:
    """Export after Optimum has confirmed that the checkpoint's model type has our task. Raises UserError."""
    register()
    if arguments.model and not arguments.list:
        own = arguments.checkpoint
        family = str(read_config(own).get("model_type")) if own else model_entry(cli.model_of(arguments)).family
        try:
            tasks = TasksManager.get_supported_tasks_for_model_type(family, BACKEND, library_name="transformers")
        except (KeyError, ValueError):
            tasks = {}
        if TASK not in tasks:
            raise UserError(f"model type {family!r} has no task {TASK}: it must be one of {', '.join(FAMILIES)}")
    cli.run(arguments)
