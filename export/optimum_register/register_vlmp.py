"""`optimum-cli export vlmp`: found by Optimum in its plug-in namespace `optimum.commands.register`."""

from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class VlmpExportCommand(BaseOptimumCLICommand):
    """Export a vision-language model with visual-token pruning inside the graph."""

    COMMAND = CommandInfo(name="vlmp", help="Export a vision-language model with visual-token pruning in its graph.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """The options of `vlmp-export`, and those that Optimum's users are used to."""
        from vlmp.export.cli import add_arguments
        from vlmp.export.optimum_options import add_optimum_arguments

        add_arguments(parser)
        add_optimum_arguments(parser)

    def run(self) -> None:
        """Check the model type with Optimum's TasksManager, then export."""
        from vlmp.runtimes.console.command import exit_with_one_line

        def act() -> None:
            from vlmp.export.optimum_options import as_ours

            arguments = as_ours(self.args)

            from vlmp.export.optimum_tasks import run_checked

            run_checked(arguments)

        exit_with_one_line("optimum-cli export vlmp", act, debug=self.args.debug)


REGISTER_COMMANDS = [(VlmpExportCommand, ExportCommand)]
