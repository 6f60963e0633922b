"""How much may be asked at once? Every bound of the service, in one place. Knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The bounds of a service. What goes beyond is answered with a 4xx or a 503, never with a wait without end.

    Raises: ValueError for a bound that is not above 0.
    """

    query_characters: int = 500
    hits: int = 200
    batch: int = 64
    candidates: int = 200
    """Products that are scored anew."""
    body_bytes: int = 256 * 1024
    photo_bytes: int = 20 * 2**20
    requests_at_once: int = 64
    """Requests being answered or waiting for the engine."""
    engine_threads: int = 2
    seconds: float = 5.0
    """From a request's first byte to the answer's first byte."""
    send_seconds: float = 30.0
    """For a client to take the answer."""
    retry_after_seconds: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
