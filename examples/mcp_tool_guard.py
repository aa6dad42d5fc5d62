"""An MCP server whose git_commit waits for a person's permission; silence means no.

    pip install . mcp
    DECISIONS=/srv/decisions APPROVERS=lee python examples/mcp_tool_guard.py

An MCP client starts it so, over stdio, in the repository, where it also reads .env. The person answers by a file, the
application's own way to decide: `echo approve fine > /srv/decisions/REQUEST_ID`. It is no tool of this server, for an
agent must not approve itself: keep it out of that folder and of the accounts APPROVERS, whose files alone count.
"""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

from anyio import move_on_after, run_process, sleep
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from approval_mail import hooks

DECISIONS, APPROVERS = Path(os.environ["DECISIONS"]), os.environ["APPROVERS"].split(",")
PATIENCE = float(os.environ.get("PERMISSION_SECONDS", "300"))
server = MCPServer("git")


async def ask_permission(tool: str, **arguments: str) -> None:
    """Return if a person approves in time; else raise. A hook holds up the event loop for half a second at worst."""
    now, word, reason = datetime.now(timezone.utc), "", "nobody decided in time"
    told = {"request_id": str(uuid4()), "user_id": "agent", "tool_name": tool, "requested_at": now}
    hooks.approval_requested(**told, expires_at=now + timedelta(seconds=PATIENCE), arguments=arguments)
    try:
        with move_on_after(PATIENCE):
            while not word:
                await sleep(0.2)
                if (file := DECISIONS / told["request_id"]).exists() and (responder := file.owner()) in APPROVERS:
                    word, _, reason = file.read_text().strip().partition(" ")
    finally:
        if word:  # Anything but "approve" is a no.
            tell = hooks.approval_approved if word == "approve" else hooks.approval_rejected
            tell(**told, responder_id=responder, reason=reason)
        else:  # Time is up, or the caller has gone.
            hooks.approval_timeout(**told)
    if word != "approve":
        raise ToolError(f"Not permitted: {reason}")


@server.tool()
async def git_commit(message: str) -> str:
    """Commit what is staged, once a person has approved."""
    staged = (await run_process(["git", "diff", "--cached"])).stdout.decode(errors="replace")
    await ask_permission("git_commit", message=message, staged=staged)
    if (await run_process(["git", "diff", "--cached"])).stdout.decode(errors="replace") != staged:
        raise ToolError("Not permitted: what is staged has changed since a person was asked")
    return (await run_process(["git", "commit", f"--message={message}"])).stdout.decode()


if __name__ == "__main__":
    server.run()
