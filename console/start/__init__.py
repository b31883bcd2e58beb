"""`make run`: everything on one machine, with all state in one folder."""


class StartError(Exception):
    """The installation cannot start; the message says what to do."""
