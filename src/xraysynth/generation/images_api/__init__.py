"""Calls to an images API: within a budget and rate limits, with a known outcome and price of each.

`catalogue` holds dated facts and prices of models, and `estimate` says what a run would cost before
any call is made. `client` makes many calls at once, held back by `limits`, in a thread that
`background` runs; `batch` uses the Batch API, which takes longer and costs half. `outcomes` says what
an error means, `moderation` recognises refusals, `responses` takes successful answers apart, `pixels`
decodes their images, `redaction` removes the key from texts, and `results` turns all of them into
what a pool stores. `response_cache` keeps answers on disk that must survive a killed process, as
`batch_notes` keeps batches; `unsettled` knows what both may have cost. `pricing` computes what calls
cost, and `endpoint` names the server and its key.

    >>> from xraysynth.generation.images_api.catalogue import find_model
    >>> find_model("dall-e-3").retired.isoformat(), find_model("dall-e-3").successor
    ('2026-05-12', 'gpt-image-2.5-sunburst')
"""

__all__ = [
    "answer_limits",
    "background",
    "batch",
    "batch_notes",
    "catalogue",
    "client",
    "endpoint",
    "estimate",
    "limits",
    "moderation",
    "outcomes",
    "pixels",
    "pricing",
    "redaction",
    "response_cache",
    "responses",
    "results",
    "unsettled",
]
