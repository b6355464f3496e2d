"""Folders of generated data: named by what they depend on, written once, never read half-written."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pseudolabel.types import DataError

FINGERPRINT = "generator.json"
"""File with the options, written into every folder."""


def folder_name(fingerprint: dict[str, Any]) -> str:
    """Return a short hash of all options."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:10]


def write_once(root: Path | str, fingerprint: dict[str, Any], write: Callable[[Path], None], *, what: str) -> Path:
    """Write the folder of these options, unless it is there already.

    It is written beside its final name and renamed when whole, so several processes may ask for the same one at once.

    Args:
        root: where the folder is made.
        fingerprint: the options, as they come back from JSON.
        write: fills an empty folder.
        what: what is written, for the error.

    Returns:
        The folder ``<root>/<hash>``.

    Raises:
        DataError: the folder holds something else.
    """
    final = Path(root) / folder_name(fingerprint)
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            write(partial)
            content = json.dumps(fingerprint, indent=2) + "\n"
            (partial / FINGERPRINT).write_text(content, encoding="utf-8")
            partial.chmod(0o755)
            if not final.exists():
                partial.rename(final)
        except OSError:
            if not final.exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _check(final, fingerprint, what)
    return final


def _check(folder: Path, fingerprint: dict[str, Any], what: str) -> None:
    """Raise unless the folder was written whole with these options."""
    try:
        found = json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != fingerprint:
        raise DataError(
            f"{folder} holds no {what} of these options: expected {FINGERPRINT} with {fingerprint}, got {found}. "
            "Delete the folder, and it is written anew."
        )
