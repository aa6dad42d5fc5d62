"""Approval mail: a person whose permission is asked hears of it by mail, in time, once.

Hosts import :mod:`approval_mail.hooks`; operators run ``celery -A approval_mail worker``.
"""

__version__ = "0.1.0"
