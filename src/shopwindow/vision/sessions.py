"""How does an ONNX graph run? By onnxruntime, one thread a session: photos beside each other, not inside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shopwindow.files import DataError, check_ordinary

INSTALL = "pip install 'shopwindow[photos]'"


def missing(package: str) -> DataError:
    """Says that a package of the extra `photos` is not installed."""
    return DataError(f"{package} is not installed: {INSTALL}; `--backbone plain` needs nothing")


def open_session(graph: bytes | Path) -> Any:
    """An onnxruntime session on the CPU with one thread; several threads may call its `run` at once.

    Raises: DataError without onnxruntime, or for a graph that it cannot run.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime") from error
    if not isinstance(graph, bytes):
        check_ordinary(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no common class of their own
        where = None if isinstance(graph, bytes) else graph
        raise DataError(f"onnxruntime cannot run it: {str(error).splitlines()[0]}", path=where) from error
