"""A server of the Model Context Protocol over stdio, whose tools count their calls in the file that it is given."""

from __future__ import annotations

import sys

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError:  # the SDK's first version, which older versions of Pydantic AI need
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.server.fastmcp.exceptions import ToolError

server = MCPServer("shelf")


def count(event):
    with open(sys.argv[1], "a", encoding="utf-8") as file:
        file.write(f"{event}\n")


@server.tool()
def look(word: str) -> str:
    """Look a word up."""
    count(f"look {word}")
    return f"look({word})"


@server.tool()
def measure(word: str) -> dict[str, int]:
    """Measure a word."""
    count(f"measure {word}")
    return {"letters": len(word)}


@server.tool()
def refuse(word: str) -> str:
    """Refuse a word."""
    count(f"refuse {word}")
    raise ToolError(f"not {word}")


if __name__ == "__main__":
    server.run("stdio")
