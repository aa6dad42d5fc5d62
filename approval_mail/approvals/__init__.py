"""Approval requests that keep their own time, on top of the pipeline: asked here, decided anywhere, announced by mail.

Whatever goes wrong, nothing is approved: an `Approval` is true only if a person said yes.
"""

from approval_mail.approvals.errors import (
    ApprovalExists,
    ApprovalsUnavailable,
    NotApproved,
    NotPending,
    UnknownApproval,
)
from approval_mail.approvals.guard import requires_approval
from approval_mail.approvals.handle import Handle, require, resume
from approval_mail.approvals.untold import on_untold
from approval_mail.approvals.values import Approval, Page, Stats, Status

__all__ = [
    "Approval",
    "ApprovalExists",
    "ApprovalsUnavailable",
    "Handle",
    "NotApproved",
    "NotPending",
    "Page",
    "Stats",
    "Status",
    "UnknownApproval",
    "on_untold",
    "require",
    "requires_approval",
    "resume",
]
