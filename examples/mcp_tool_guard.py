"""An MCP server whose git_commit waits for a person's permission; silence means no.

    pip install . mcp
    DECISIONS=/srv/decisions APPROVERS=lee python examples/mcp_tool_guard.py

An MCP client starts it so in the repository, where .env is read too. The person answers by a file of their own:
`echo approve fine > /srv/decisions/REQUEST_ID`. Keep the agent out of that folder and of the accounts APPROVERS.
"""

import os
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pwd import getpwnam
from uuid import uuid4

from anyio import run_process, sleep
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from approval_mail import hooks

DECISIONS, PATIENCE = os.environ["DECISIONS"], timedelta(seconds=float(os.environ.get("PERMISSION_SECONDS", "300")))
APPROVERS = {getpwnam(name).pw_uid: name for name in os.environ["APPROVERS"].split(",")}
server = MCPServer("git")


async def ask_permission(tool: str, arguments: str) -> None:
    """Return if a person approves in time; else raise. A hook holds up the event loop for half a second at worst."""
    if len(arguments.expandtabs(4)) > 4_000:  # All that a mail shows, tabs as spaces.
        raise ToolError("Not permitted: a mail shows 4,000 characters, and a person has to see it all; ask for less")
    now, tell, responder, reason = datetime.now(timezone.utc), hooks.approval_timeout, "", "nobody decided in time"
    told = {"request_id": str(uuid4()), "user_id": "agent", "tool_name": tool, "requested_at": now}
    answer = f"{DECISIONS}/{told['request_id']}"  # A file, no tool of this server: an agent must not approve itself.
    hooks.approval_requested(**told, expires_at=now + PATIENCE, arguments=arguments)
    try:
        while tell is hooks.approval_timeout and datetime.now(timezone.utc) < now + PATIENCE:
            await sleep(0.2)
            with suppress(OSError), open(os.open(answer, os.O_NOFOLLOW | os.O_NONBLOCK), errors="replace") as file:
                if (responder := APPROVERS.get(os.fstat(file.fileno()).st_uid)) and (words := file.read().strip()):
                    word, _, reason = words.partition(" ")
                    tell = hooks.approval_approved if word == "approve" else hooks.approval_rejected  # Else a no.
    finally:  # Also if the caller has gone.
        tell(**told, responder_id=responder, reason=reason)
    if tell is not hooks.approval_approved:
        raise ToolError(f"Not permitted: {reason}")


@server.tool()
async def git_commit(message: str) -> str:
    """Commit what is staged, once a person has approved."""
    staged = (await run_process(["git", "diff", "--cached"])).stdout.decode(errors="replace")
    await ask_permission("git_commit", f"{message}\n\n{staged}")
    if (await run_process(["git", "diff", "--cached"])).stdout.decode(errors="replace") != staged:
        raise ToolError("Not permitted: what is staged has changed since a person was asked")
    return (await run_process(["git", "commit", f"--message={message}"])).stdout.decode()


if __name__ == "__main__":
    server.run()
