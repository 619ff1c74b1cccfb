"""Requests made from the server's own OpenAPI description, valid and invalid: never a 5xx."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from serving import KEY, Live

schemathesis = pytest.importorskip("schemathesis")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_of_the_description_fails_the_server(server: Live, mode: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json", headers=headers)
    mode_of = schemathesis.GenerationMode(mode)
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode == "negative" and not operation.body:
            continue  # nothing of it can be wrong

        @settings(max_examples=100, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode_of))
        def check(case: Any) -> None:
            if isinstance(case.body, dict):  # long answers are tested elsewhere
                case.body = {**case.body, **{name: 2 for name in ("max_tokens",) if name in case.body}}
            answer = case.call(base_url=server.url, headers=headers, timeout=30)
            assert answer.status_code < 500, (case.body, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

        check()
