"""The dead letters of a folder, for whoever looks after it while no worker holds it."""

from __future__ import annotations

__all__ = ["open_letter_box"]

from headrace.errors import StoreError, StoreLocked
from headrace_adapters.embedded.adapter import STORE, url_folder
from headrace_adapters.local.dead_letters import LocalLetterBox
from headrace_adapters.rocks import RocksStore


def open_letter_box(url: str) -> LocalLetterBox:
    """The dead letters of ``embedded:FOLDER``. Raises :class:`StoreError` where a worker holds it, and where it is none."""
    folder = url_folder(url)
    if not (folder / STORE).is_dir():
        raise StoreError(f"there is no store in {folder}: give the URL with which its worker was started")
    try:
        return LocalLetterBox(RocksStore(folder / STORE))
    except StoreLocked:
        raise StoreLocked(
            f"a worker, or another command, holds {folder}: dead letters of a folder are for whoever holds it; stop the "
            "worker, then try again"
        ) from None
