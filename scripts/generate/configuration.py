"""docs/configuration.md, from the settings themselves."""

from __future__ import annotations

from samplerd_server.config import ServerConfig
from samplerd_server.config.sources import all_settings, render

__all__ = ["page"]

_HEAD = """\
# Configuration

Every setting can be a flag, an environment variable or a key of the TOML file named by `--config`. A flag goes before a
variable, a variable before the file, the file before the default. An unknown name or a value that is not allowed is an
error that says so; nothing is silently ignored. `samplerd --check-config` prints the outcome as a file.

Where a setting was renamed, its table row gives the former name. For one release the former name still works as a flag,
a variable and a key, and the server logs a warning that names the new one. Giving one source both names is an error.

Durations are written `250us`, `10ms`, `1.5s`, `2m`; sizes `65536`, `64KiB`, `256MiB`, `1GiB`.

This page is generated from the settings by `make generate`.
"""


def page() -> str:
    """Give the page as text."""
    lines = [_HEAD]
    before = ""
    for section, _, setting, default in all_settings():
        if section != before:
            lines += [f"\n## [{section}]\n", "| flag | variable | default | |", "|---|---|---|---|"]
            before = section
        shown = " ".join(str(setting.show(item)) for item in default) if setting.is_list else setting.show(default)
        if isinstance(default, bool):
            shown = str(default).lower()
        text = setting.help.replace("|", "\\|")
        if setting.deprecated:
            former = ", ".join(f"`--{flag}`" for flag in setting.deprecated)
            text += f" (formerly {former}: deprecated, accepted for one release)"
        lines.append(
            f"| `--{setting.flag}` | `{setting.variable}` | {f'`{shown}`' if shown != '' else 'none'} | {text} |"
        )
    lines += ["\n## The defaults as a file\n", "```toml", render(ServerConfig()).rstrip(), "```"]
    return "\n".join(lines) + "\n"
