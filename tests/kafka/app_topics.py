"""The topics of an app that a test is done with: they cost a broker, which everybody shares, files and memory."""

from __future__ import annotations

__all__ = ["delete_topics"]

from typing import Any

WAIT_S = 30.0


def delete_topics(admin: Any, app: str) -> None:
    """Delete them all, where there are any."""
    topics = [name for name in admin.list_topics(timeout=WAIT_S).topics if name.startswith(f"{app}.")]
    for future in (admin.delete_topics(topics) if topics else {}).values():
        future.result(WAIT_S)
