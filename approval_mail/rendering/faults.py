"""What goes wrong in a template, in words that an operator can act on."""

from __future__ import annotations

import traceback

from jinja2 import TemplateError, TemplateSyntaxError

#: What comes out of a faulty template. Not Exception: Celery's time limit, an Exception, has to pass. A MemoryError
#: that reached Celery would end the whole worker.
TEMPLATE_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TemplateError,
    TypeError,
    ValueError,
)


def describe(error: BaseException) -> str:
    """File, line and what is wrong there, without an event's data, which other errors' messages may hold."""
    what = type(error).__name__
    if isinstance(error, TemplateError):
        what = f"{what}: {error.message}"
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename}:{error.lineno}: {what}"
    if isinstance(error, SyntaxError):
        # Python's own, of what Jinja made of the template: the line is none of the template's.
        return f"{error.filename}: {what}: {error.msg}"
    if isinstance(error, OSError) and not isinstance(error, TemplateError):
        return f"{error.filename}: {what}: {error.strerror}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.endswith(".py")]
    if not frames:
        return what
    return f'{frames[-1].filename}:{frames[-1].lineno}: {what} in "{frames[-1].line}"'
