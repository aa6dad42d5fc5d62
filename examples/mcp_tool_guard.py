"""An MCP server whose git_commit waits for a person's permission; silence means no.

    pip install . mcp
    python examples/mcp_tool_guard.py

An MCP client starts it so in the repository, where .env is read too. The person answers by the link in the mail, or
with `approval-admin approve REQUEST_ID`. Keep the agent away from both: from Redis, the mails, that command.
"""

from anyio import run_process
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from approval_mail import approvals

server = MCPServer("git")


async def ask_permission(tool: str, arguments: str) -> None:
    """Return if a person approves in time; else raise. Asking holds up the event loop for half a second at worst."""
    if len(arguments.expandtabs(4)) > 4_000:  # All that a mail shows, tabs as spaces.
        raise ToolError("Not permitted: a mail shows 4,000 characters, and a person has to see it all; ask for less")
    handle = approvals.require(user_id="agent", tool_name=tool, arguments=arguments)
    try:
        approval = await handle.wait_async()
    except BaseException:
        handle.cancel("the caller has gone")
        raise
    if approval.status is not approvals.Status.APPROVED:
        raise ToolError(f"Not permitted: {approval.status} {approval.reason}")


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
