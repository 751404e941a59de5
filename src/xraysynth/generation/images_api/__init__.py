"""An images API: calls under a budget and limits, what each answer means, and what it cost.

`load_catalogue` holds dated facts and prices of models, `estimate` says what a run would cost before any
call. `client` makes many calls at once, held back by `limits`, in the thread of `background`; `batch`
asks for half the price and waits. `outcomes` judges answers, `pixels` decodes them, `results` turns
them into what a pool takes, and `response_cache` keeps what must outlive a killed process.
`endpoint` says where all of it happens.

    >>> from xraysynth.generation.images_api.catalogue import find_model
    >>> find_model("dall-e-3").retired.isoformat(), find_model("dall-e-3").successor
    ('2026-05-12', 'gpt-image-2.5-sunburst')
"""

__all__ = [
    "background",
    "batch",
    "client",
    "endpoint",
    "estimate",
    "limits",
    "load_catalogue",
    "outcomes",
    "pixels",
    "response_cache",
    "results",
]
