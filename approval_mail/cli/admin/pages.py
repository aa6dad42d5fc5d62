"""Requests out of the store's list, page by page."""

from __future__ import annotations

from approval_mail.approvals.desk import Desk
from approval_mail.approvals.values import Approval, Status

#: Requests that are asked for at a time.
_PAGE = 100


def newest(
    desk: Desk, limit: int, *, status: Status | None = None, user: str | None = None, tool: str | None = None
) -> tuple[list[Approval], bool]:
    """So many requests at the most, newest first, and whether there are more."""
    found: list[Approval] = []
    cursor = None
    while True:
        page = desk.page(
            status=status, user_id=user, tool_name=tool, limit=min(_PAGE, limit - len(found)), cursor=cursor
        )
        found += page.approvals
        cursor = page.cursor
        if cursor is None or len(found) >= limit:
            return found, cursor is not None
