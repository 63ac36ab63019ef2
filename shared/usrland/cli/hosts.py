"""The MCP hosts we can write to: one row of data each.

Paths are templates (see `host.Places.fill`). Where a host's documentation does not say how long it waits, the
figure is a minute.
"""

from __future__ import annotations

from usrland.cli.host import (
    ARGUMENTS,
    COMMAND,
    COMMAND_LINE,
    ENVIRONMENT,
    NAME,
    TOKEN,
    URL,
    Host,
    Paths,
)
from usrland.cli.jsontext import JsonText
from usrland.cli.tomltext import TomlText
from usrland.cli.yamltext import YamlText
from usrland.errors import InvalidInput

__all__ = ["HOSTS", "find_host"]

JSON = JsonText()
JSON_WITH_COMMENTS = JsonText(comments=True)
JSON_LENIENT = JsonText(comments=True, last_commas=True)

PLAIN = {"command": COMMAND, "args": ARGUMENTS, "env": ENVIRONMENT}
TYPED = {"type": "stdio", **PLAIN}
HTTP = {"type": "http", "url": URL}


def _everywhere(*templates: str) -> Paths:
    return {"linux": templates, "darwin": templates, "win32": templates}


def _each(linux: str, darwin: str, win32: str) -> Paths:
    return {"linux": (linux,), "darwin": (darwin,), "win32": (win32,)}


def _application(path: str) -> Paths:
    """A file of a desktop program, below the folder each system has for that."""
    return _each(f"{{config}}/{path}", f"{{home}}/Library/Application Support/{path}", f"{{appdata}}/{path}")


def _bearer(reference: str) -> tuple[str, str]:
    return ("headers", f"Bearer {reference}")


HOSTS: tuple[Host, ...] = (
    Host(
        name="claude-desktop",
        title="Claude Desktop",
        files={"user": _application("Claude/claude_desktop_config.json")},
        format=JSON,
        container="mcpServers",
        entry=PLAIN,
        remote=None,
        headers=None,
        traces=("{config}/Claude", "{home}/Library/Application Support/Claude", "{appdata}/Claude"),
        start_seconds=60,
        logs=_each("{config}/Claude/logs", "{home}/Library/Logs/Claude", "{appdata}/Claude/logs"),
        then="Quit Claude Desktop completely and open it again.",
    ),
    Host(
        name="claude-code",
        title="Claude Code",
        files={"user": _everywhere("{claude}/.claude.json"), "project": _everywhere("{project}/.mcp.json")},
        format=JSON,
        container="mcpServers",
        entry=TYPED,
        remote=HTTP,
        headers=_bearer(f"${{{TOKEN}}}"),
        traces=("claude", "{claude}/.claude.json"),
        start_seconds=30,
        logs=_each(
            "{home}/.cache/claude-cli-nodejs",
            "{home}/Library/Caches/claude-cli-nodejs",
            "{localappdata}/claude-cli-nodejs/Cache",
        ),
        then="Start a new session of Claude Code; `/mcp` shows the servers.",
    ),
    Host(
        name="vscode",
        title="VS Code",
        files={"user": _application("Code/User/mcp.json"), "project": _everywhere("{project}/.vscode/mcp.json")},
        format=JSON_LENIENT,
        container="servers",
        entry=TYPED,
        remote=HTTP,
        headers=_bearer(f"${{env:{TOKEN}}}"),
        traces=("code", "{config}/Code", "{home}/Library/Application Support/Code", "{appdata}/Code"),
        start_seconds=60,
        logs=_application("Code/logs"),
        then="Run `MCP: List Servers` in VS Code and start them there.",
    ),
    Host(
        name="cursor",
        title="Cursor",
        files={
            "user": _everywhere("{home}/.cursor/mcp.json"),
            "project": _everywhere("{project}/.cursor/mcp.json"),
        },
        format=JSON_LENIENT,
        container="mcpServers",
        entry=PLAIN,
        remote={"url": URL},
        headers=_bearer(f"${{env:{TOKEN}}}"),
        traces=("cursor", "{home}/.cursor"),
        start_seconds=60,
        logs=_application("Cursor/logs"),
        then="Turn the servers on under Settings, MCP in Cursor.",
    ),
    Host(
        name="windsurf",
        title="Windsurf",
        files={"user": _everywhere("{home}/.codeium/windsurf/mcp_config.json")},
        format=JSON,
        container="mcpServers",
        entry=PLAIN,
        remote={"serverUrl": URL},
        headers=_bearer(f"${{env:{TOKEN}}}"),
        traces=("windsurf", "{home}/.codeium/windsurf"),
        start_seconds=60,
        logs=_application("Windsurf/logs"),
        then="Refresh the list of servers in Windsurf's Cascade panel.",
    ),
    Host(
        name="zed",
        title="Zed",
        files={
            "user": _each(
                "{config}/zed/settings.json", "{home}/.config/zed/settings.json", "{appdata}/Zed/settings.json"
            ),
            "project": _everywhere("{project}/.zed/settings.json"),
        },
        format=JSON_LENIENT,
        container="context_servers",
        entry={"source": "custom", **PLAIN},
        remote={"source": "custom", "url": URL},
        headers=None,
        traces=("zed", "{config}/zed", "{appdata}/Zed"),
        start_seconds=60,
        logs=_each("{data}/zed/logs", "{home}/Library/Logs/Zed", "{localappdata}/Zed/logs"),
        then="Zed starts them when the file is saved; the Agent Panel's settings show them.",
    ),
    Host(
        name="gemini-cli",
        title="Gemini CLI",
        files={
            "user": _everywhere("{home}/.gemini/settings.json"),
            "project": _everywhere("{project}/.gemini/settings.json"),
        },
        format=JSON_WITH_COMMENTS,
        container="mcpServers",
        entry=PLAIN,
        remote=HTTP,
        headers=_bearer(f"${{{TOKEN}}}"),
        traces=("gemini", "{home}/.gemini"),
        start_seconds=600,
        logs=_everywhere("{home}/.gemini/tmp"),
        then="Start Gemini CLI again; `/mcp` shows the servers.",
    ),
    Host(
        name="qwen-code",
        title="Qwen Code",
        files={
            "user": _everywhere("{home}/.qwen/settings.json"),
            "project": _everywhere("{project}/.qwen/settings.json"),
        },
        format=JSON_WITH_COMMENTS,
        container="mcpServers",
        entry=PLAIN,
        remote={"httpUrl": URL},
        headers=_bearer(f"${{{TOKEN}}}"),
        traces=("qwen", "{home}/.qwen"),
        start_seconds=600,
        logs=_everywhere("{home}/.qwen/debug"),
        then="Start Qwen Code again; `/mcp` shows the servers.",
    ),
    Host(
        name="codex",
        title="Codex",
        files={
            "user": _everywhere("{codex}/config.toml"),
            "project": _everywhere("{project}/.codex/config.toml"),
        },
        format=TomlText(),
        container="mcp_servers",
        entry={**PLAIN, "startup_timeout_sec": 60},
        remote={"url": URL},
        headers=("bearer_token_env_var", TOKEN),
        traces=("codex", "{codex}"),
        start_seconds=60,
        logs=_everywhere("{codex}/log"),
        then="Start Codex again; `/mcp` shows the servers.",
    ),
    Host(
        name="goose",
        title="Goose",
        files={
            "user": _each(
                "{config}/goose/config.yaml",
                "{home}/.config/goose/config.yaml",
                "{appdata}/Block/goose/config/config.yaml",
            )
        },
        format=YamlText(),
        container="extensions",
        entry={
            "enabled": True,
            "type": "stdio",
            "name": NAME,
            "description": "",
            "cmd": COMMAND,
            "args": ARGUMENTS,
            "envs": ENVIRONMENT,
            "timeout": 300,
        },
        remote={
            "enabled": True,
            "type": "streamable_http",
            "name": NAME,
            "description": "",
            "uri": URL,
            "timeout": 300,
        },
        headers=_bearer(f"${{{TOKEN}}}"),
        traces=("goose", "{config}/goose", "{appdata}/Block/goose"),
        start_seconds=300,
        logs=_each("{state}/goose/logs", "{state}/goose/logs", "{appdata}/Block/goose/data/logs"),
        then="Start a new Goose session.",
    ),
    Host(
        name="opencode",
        title="opencode",
        files={
            "user": _everywhere("{config}/opencode/opencode.jsonc", "{config}/opencode/opencode.json"),
            "project": _everywhere("{project}/opencode.jsonc", "{project}/opencode.json"),
        },
        format=JSON_LENIENT,
        container="mcp",
        entry={
            "type": "local",
            "command": COMMAND_LINE,
            "environment": ENVIRONMENT,
            "enabled": True,
            "timeout": 60_000,
        },
        remote={"type": "remote", "url": URL, "enabled": True, "timeout": 60_000},
        headers=_bearer(f"{{env:{TOKEN}}}"),
        traces=("opencode", "{config}/opencode"),
        start_seconds=60,
        logs=_everywhere("{data}/opencode/log"),
        then="Start opencode again.",
    ),
    Host(
        name="copilot-cli",
        title="Copilot CLI",
        files={
            "user": _everywhere("{home}/.copilot/mcp-config.json"),
            "project": _everywhere("{project}/.github/mcp.json"),
        },
        format=JSON,
        container="mcpServers",
        entry={"type": "local", **PLAIN, "tools": ["*"]},
        remote={**HTTP, "tools": ["*"]},
        headers=None,
        traces=("copilot", "{home}/.copilot"),
        start_seconds=60,
        logs=_everywhere("{home}/.copilot/logs"),
        then="Start Copilot CLI again; `/mcp show` lists the servers.",
    ),
    Host(
        name="cline",
        title="Cline",
        files={
            "user": _application("Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json")
        },
        format=JSON,
        container="mcpServers",
        entry={**TYPED, "disabled": False},
        remote={"type": "streamableHttp", "url": URL, "disabled": False},
        headers=None,
        traces=(
            "{config}/Code/User/globalStorage/saoudrizwan.claude-dev",
            "{home}/Library/Application Support/Code/User/globalStorage/saoudrizwan.claude-dev",
            "{appdata}/Code/User/globalStorage/saoudrizwan.claude-dev",
        ),
        start_seconds=60,
        logs=_application("Code/logs"),
        then="Cline starts them when the file is saved; its MCP panel shows them.",
    ),
    Host(
        name="continue",
        title="Continue",
        files={"user": _everywhere("{continue_dev}/config.yaml")},
        format=YamlText(listed=True),
        container="mcpServers",
        entry={"name": NAME, **TYPED},
        remote={"name": NAME, "type": "streamable-http", "url": URL},
        headers=("requestOptions", f"Bearer ${{{{ secrets.{TOKEN} }}}}"),
        traces=("cn", "{continue_dev}"),
        start_seconds=60,
        logs=_everywhere("{continue_dev}/logs"),
        then="Reload Continue, or start `cn` again.",
        new_file="name: My assistant\nversion: 1.0.0\nschema: v1\n",
    ),
)


def find_host(name: str) -> Host:
    """Raises `InvalidInput` with the names there are."""
    for host in HOSTS:
        if host.name == name:
            return host
    raise InvalidInput(f"there is no host {name!r}.", fix=f"Known: {', '.join(host.name for host in HOSTS)}.")
