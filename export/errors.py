"""The one error that command lines show to a person."""


class UserError(Exception):
    """Input that cannot be served. Its text is one line: what, where, and what would be right."""
