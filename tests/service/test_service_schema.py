"""The service does what its own OpenAPI says: schemathesis asks it, with good values and bad ones."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.service.conftest import ServerProcess

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value
)
def test_answers_are_as_described(toy_server: ServerProcess, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{toy_server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == 12
    for operation in operations:
        takes_nothing = not (operation.query or operation.path_parameters or operation.body)
        if takes_nothing and mode is GenerationMode.NEGATIVE:
            continue

        @settings(
            max_examples=1 if takes_nothing else 20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance] if _index_decides(case) else [])

        check()


def _index_decides(case: schemathesis.Case[Any]) -> bool:
    """Whether a question well formed may be refused: a condition or an operator that fits nothing here, a photo that is
    none."""
    if case.operation.path == "/search/photo":
        return True
    asked = {**(case.query or {}), **(case.body if isinstance(case.body, dict) else {})}
    return bool({"where", "rerank"} & set(asked))


def test_the_description_has_examples_and_no_shape_of_the_framework(toy_server: ServerProcess) -> None:
    text = httpx.get(f"{toy_server.url}/openapi.json", trust_env=False).text
    assert "red striped dress" in text
    assert "price<=20" in text
    assert "HTTPValidationError" not in text
