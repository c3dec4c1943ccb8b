"""The one exception that users see without a traceback."""


class UserError(ValueError):
    """Something that the user can mend: the message says what is wrong, where, and what to do.

    Entry points print it as one line and exit with status 2 (`launch` wraps them in `run_main`).
    """
