"""An application with a Celery app of its own, whose releases wait for a person's permission.

    pip install .
    celery -A examples.own_celery_app worker

Ask: `celery -A examples.own_celery_app call releases.ask --args '["web-1.2", "kim"]'` prints the request's id.
Settings: the environment or .env, see .env.example. The mails are sent by `celery -A approval_mail worker`, another
process: approval_mail has an app, a queue and a configuration of its own, and leaves the application's as they are.
"""

import os
from datetime import datetime, timezone

from celery import Celery, Task, shared_task

from approval_mail import hooks

#: A Redis database of its own. CELERY_BROKER_URL in the environment would be both apps' broker; their queues differ.
app = Celery("releases", broker=os.environ.get("RELEASES_BROKER_URL", "redis://localhost:6379/1"))
app.conf.task_default_queue = "releases"


# `shared_task` uses the default app, and that is the one above: approval_mail's never is.
@shared_task(name="releases.ask", bind=True, acks_late=True)
def ask(self: Task, release: str, user: str) -> None:
    """Ask, and end: a worker that waited for the answer could do nothing else."""
    hooks.approval_requested(
        request_id=self.request.id,  # The same if the task runs again after a crash: one event, one mail.
        user_id=user,
        tool_name="release",
        arguments={"release": release},
        requested_at=datetime.now(timezone.utc),
    )


@shared_task(name="releases.decide")
def decide(request_id: str, user: str, responder: str, approved: bool, reason: str = "") -> None:
    """Called by whoever decides, once the application's own store has taken the answer."""
    tell = hooks.approval_approved if approved else hooks.approval_rejected
    tell(request_id=request_id, user_id=user, tool_name="release", responder_id=responder, reason=reason)
    # If approved, the release begins here.
