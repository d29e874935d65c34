"""The one error that a person sees."""


class UserError(Exception):
    """Input that cannot be served. Its text is one line: what, where, and what would be right."""


def one_line(error: BaseException) -> str:
    """What another library's error says, as one line; its kind when it says nothing."""
    from textwrap import shorten

    return shorten(str(error), 300, placeholder=" ...") or type(error).__name__


def check_text(what: str, text: str) -> None:
    """Raises UserError when a text from a terminal was not UTF-8: no tokenizer takes it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} is not valid UTF-8: {text[error.start : error.end]!r} in it") from None
