"""What the approvals store raises; none of it means yes."""

from __future__ import annotations

from approval_mail.approvals.values import Approval
from approval_mail.errors import ApprovalMailError


class ApprovalsUnavailable(ApprovalMailError):
    """Redis cannot be reached, so the approvals store knows of no permission; ask again."""


class UnknownApproval(ApprovalMailError, LookupError):
    """The approvals store has no request of this id, or no longer."""

    @classmethod
    def of(cls, request_id: str) -> UnknownApproval:
        return cls(f"no approval request {request_id[:200]!a} is on record: check the id and REDIS_URL")


class ApprovalExists(ApprovalMailError):
    """A request of this id was made before; an id is used once."""


class NotPending(ApprovalMailError):
    """The request was decided, was cancelled or has expired, and stays so; `approval` tells."""

    def __init__(self, message: str, approval: Approval) -> None:
        super().__init__(message)
        self.approval = approval


class NotApproved(ApprovalMailError, PermissionError):
    """The guarded function was not run; `approval` tells why."""

    def __init__(self, message: str, approval: Approval) -> None:
        super().__init__(message)
        self.approval = approval
