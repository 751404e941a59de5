"""Whatever a server says, an answer has a meaning and never an exception."""

import json

from hypothesis import given
from hypothesis import strategies as st

from xraysynth.generation.images_api.outcomes import classify_status
from xraysynth.generation.images_api.pricing import Pricing
from xraysynth.generation.images_api.redaction import redact_secrets
from xraysynth.generation.images_api.responses import parse_response
from xraysynth.generation.images_api.results import CallSettings, Exchange, result_from_response
from xraysynth.records import Request

NAMES = [
    *("error", "code", "message", "moderation_details", "categories", "innererror", "data"),
    *(
        "content_filter_results",
        "violence",
        "filtered",
        "b64_json",
        "url",
        "usage",
        "output_tokens",
    ),
    *("input_tokens", "input_tokens_details", "image_tokens", "moderation_stage", "type"),
]
WORDS = ["moderation_blocked", "safety_violations=[a, b]", "insufficient_quota", "QUJD", "", "x"]
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS))
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
PRICING = Pricing(
    declared_usd=None, prices={"text_in": 5, "image_in": 8, "image_out": 30}, output_tokens=196
)
CALL = CallSettings(
    make_client=lambda: None,
    build_body=lambda request: {"prompt": request.prompt},
    served_by="x",
    pricing=PRICING,
    secret=None,
    attempts=1,
    give_up_after=1,
)


@given(JSON, st.sampled_from([301, 400, 401, 403, 404, 408, 429, 500, 504, 599]))
def test_an_error_of_any_form_has_a_verdict(body, status):
    verdict = classify_status(status, {}, body)
    assert verdict.outcome in ("failed", "refused", "possibly_billed")
    assert not (verdict.retry and verdict.stop)
    assert all(isinstance(name, str) for name in verdict.categories)


@given(st.one_of(JSON.map(lambda body: json.dumps(body).encode()), st.binary(max_size=40)))
def test_an_answer_of_any_form_has_an_outcome_and_a_cost(content):
    request = Request("normal", 0, "p", "", 0)
    result = result_from_response(CALL, request, content, Exchange(served_by="x", lost_usd=0.25))
    assert result.outcome in ("empty", "failed", "refused", "possibly_billed")
    assert result.facts["cost_usd"] >= 0
    assert result.facts["cost_possible_usd"] >= 0.25
    assert json.loads(result.archive["json"])


def test_an_image_is_left_out_of_what_is_kept():
    content = json.dumps({"data": [{"b64_json": "QUJD", "index": 0}], "model": "m"}).encode()
    answer = parse_response(content)
    assert answer.base64 == "QUJD"
    assert answer.body_without_image == {"data": [{"index": 0}], "model": "m"}


def test_keys_are_scrubbed_whether_or_not_they_are_known():
    assert redact_secrets("a my-key b sk-proj-abc*** c", "my-key") == "a *** b *** c"
    assert redact_secrets("risk-assessment", None) == "risk-assessment"
