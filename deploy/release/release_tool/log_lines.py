"""Log lines for a person."""

import json

# How much of a log line is shown.
LINE_LENGTH = 300


def last_lines(name: str, log: str, count: int) -> str:
    """Return the last lines of a log, readable and indented, after a name; without entries of the access log."""
    lines = [line for line in log.splitlines() if '"logger":"access"' not in line]
    return "\n".join(f"  {name}  {readable(line)}" for line in lines[-count:])


def readable(line: str) -> str:
    """Return a log line for a person: of a JSON line the level, the message, and the last line of a traceback."""
    try:
        entry = json.loads(line)
        words = [entry["level"], entry["message"], *str(entry.get("traceback", "")).strip().splitlines()[-1:]]
    except (ValueError, KeyError, TypeError):
        return line[:LINE_LENGTH]
    return "  ".join(map(str, words))[:LINE_LENGTH]
