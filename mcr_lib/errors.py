"""The one class for a user's mistake."""


class UserError(Exception):
    """A mistake of the user (path, parameter, file format, missing data), in one sentence.

    The sentence names the thing, what was expected, what was given and what to do. The command line prints it
    and exits with 2; any other exception is a bug, keeps its traceback and exits with 1.
    """
