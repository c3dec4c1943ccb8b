"""The exceptions that users see without a traceback."""


class UserError(Exception):
    """Something that the user can fix: the message says what is wrong, where, and what to do. No `ValueError`, which
    readers of what others wrote catch: nothing may swallow the advice.

    Entry points print it as one line and exit with status 2 (`launch` wraps them in `run_main`).
    """


class ResourceError(UserError):
    """The machine has too little of something: no other input would fare better, so none is left out for it."""


class LostRankError(RuntimeError):
    """Another rank has left or does not answer: names the step, this rank, and what it was waiting for.

    Rarely the root cause. Entry points print it as one line, beside the message of the rank that failed first; not
    where torchrun has told this rank to end meanwhile (`is_told`), since it reports the other one.
    """

    is_told = False
