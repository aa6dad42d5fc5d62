"""A FastAPI application whose tools wait for a person's permission.

    pip install . fastapi uvicorn
    uvicorn examples.fastapi_app:app

Settings: the environment or .env, see .env.example. The mails are sent by `celery -A approval_mail worker`.
Callers name themselves here: take user and responder from your login, where nobody has two names.
"""

import os
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import Body, FastAPI, HTTPException

from approval_mail import hooks

app = FastAPI()
#: The application's own store, by request id: a dict here, a database in yours.
requests: dict[str, dict[str, Any]] = {}
PATIENCE = timedelta(seconds=float(os.environ.get("PERMISSION_SECONDS", "300")))
Text = Annotated[str, Body()]


# Plain `def` runs in a thread: in `async def` a hook's half second, its worst case, would hold up every other caller.
@app.post("/tools/{tool}", status_code=202)
def ask(tool: str, user: Text, arguments: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
    now = datetime.now(timezone.utc)
    told = {"request_id": str(uuid4()), "user_id": user, "tool_name": tool, "requested_at": now}
    try:
        hooks.approval_requested(**told, expires_at=now + PATIENCE, arguments=arguments)
    except hooks.InvalidEvent as error:  # No user, say, or too many arguments for a mail; nothing else is raised.
        raise HTTPException(422, str(error)) from error
    requests[told["request_id"]] = {"status": "pending", "expires_at": now + PATIENCE, "told": told, "user": user}
    return {"request_id": told["request_id"]}


@app.post("/requests/{request_id}/{answer}")
def decide(request_id: str, answer: Literal["approve", "reject"], responder: Text, reason: Text) -> dict[str, str]:
    status = look(request_id)["status"]
    if responder.strip() in ("", requests[request_id]["user"].strip()):
        raise HTTPException(403, "someone else has to decide")
    if (told := requests[request_id].pop("told", None)) is None:  # Of two answers at once one gets it, and counts.
        raise HTTPException(409, status)
    requests[request_id]["status"] = "approved" if answer == "approve" else "rejected"
    tell = hooks.approval_approved if answer == "approve" else hooks.approval_rejected
    tell(**told, responder_id=responder, reason=reason)
    return look(request_id)


@app.get("/requests/{request_id}")
def look(request_id: str) -> dict[str, str]:
    if (request := requests.get(request_id)) is None:
        raise HTTPException(404, "unknown request")
    if datetime.now(timezone.utc) >= request["expires_at"] and (told := request.pop("told", None)):
        request["status"] = "expired"
        hooks.approval_timeout(**told)  # By the first who looks after the deadline.
    return {"status": request["status"]}
