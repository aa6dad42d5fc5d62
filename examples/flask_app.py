"""A Flask application in which a second person has to agree to a payout.

    pip install . flask
    flask --app examples/flask_app.py run

Settings: the environment or .env, see .env.example. The mails are sent by `celery -A approval_mail worker`.
Callers name themselves in X-User here: take that from your login, where nobody has two names.
"""

import os
from uuid import uuid4

from flask import Flask, abort, request

from approval_mail import hooks

app = Flask(__name__)
#: The application's own store of payouts that wait, by their id: a dict here, a database in yours.
waiting: dict[str, dict[str, str]] = {}
#: Addresses, comma separated, that hear of payouts in place of EMAIL_TO.
APPROVERS = os.environ.get("PAYOUT_APPROVERS")


@app.post("/payouts")
def ask() -> tuple[dict[str, str], int]:
    user = request.headers.get("X-User", "").strip() or abort(401)
    payout_id, payout = str(uuid4()), {"amount": request.form["amount"], "to": request.form["to"]}
    try:  # Without expires_at: a payout waits until someone decides.
        hooks.approval_requested(
            request_id=payout_id, user_id=user, tool_name="payout", arguments=payout, email_to=APPROVERS
        )
    except hooks.InvalidEvent as error:  # No address in PAYOUT_APPROVERS, say; nothing else is raised.
        abort(422, str(error))
    waiting[payout_id] = {**payout, "user": user}
    return {"payout_id": payout_id, "status": "waiting"}, 202


@app.post("/payouts/<payout_id>/<any(approve, reject):answer>")
def decide(payout_id: str, answer: str) -> dict[str, str]:
    payout = waiting.get(payout_id) or abort(404)
    responder = request.headers.get("X-User", "").strip() or abort(401)
    if responder == payout["user"]:
        abort(403, "someone else has to decide")
    if waiting.pop(payout_id, None) is None:  # Of two answers at the same moment one counts.
        abort(409, "decided already")
    tell = hooks.approval_approved if answer == "approve" else hooks.approval_rejected
    tell(
        request_id=payout_id,
        user_id=payout["user"],
        tool_name="payout",
        responder_id=responder,
        reason=request.form.get("reason", ""),
        email_to=APPROVERS,
    )
    return {"payout_id": payout_id, "status": "paid" if answer == "approve" else "refused"}
