"""What steers a session from inside a cell."""


class Control(BaseException):
    """Raised by `dbutils`; it is not an error and shows no traceback."""
