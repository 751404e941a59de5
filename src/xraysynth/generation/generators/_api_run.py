"""Runs the requests of an images API, many calls at once or by the Batch API, within a budget."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xraysynth.generation.images_api import background, batch, client
from xraysynth.generation.images_api.limits import Budget
from xraysynth.generation.images_api.outcomes import ApiError, BudgetError, remedy
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.records import GenerationResult, Request

if TYPE_CHECKING:
    from xraysynth.generation.generators.dalle import Dalle


def generate_concurrently(
    generator: "Dalle", requests: Sequence[Request]
) -> Iterator[GenerationResult]:
    """Yield results of concurrent calls as they are received, in any order.

    Args:
        generator: Generator with limits, budget and server.
        requests: Requests to send.

    Raises:
        BudgetError: After the last result, if the budget did not suffice for all requests.
        ApiError: After the last result, if the server would answer no further call.
    """
    budget = Budget(generator.budget_usd, generator.spent_usd)
    rate_limiter = client.build_rate_limiter(generator.concurrency, generator.rate_limits)
    response_cache = ResponseCache(generator.state_folder)
    run = client.ApiRun(generator.call_settings, rate_limiter, budget, response_cache)
    yield from background.stream_results(run, requests, in_flight=generator.concurrency)
    if run.out_of_budget:
        raise _budget_error(generator, budget, run.not_sent)
    if run.stop_reason:
        raise _stop_error(generator, run.stop_reason, run.not_sent)


def generate_in_batches(
    generator: "Dalle", requests: Sequence[Request]
) -> Iterator[GenerationResult]:
    """Yield results of the Batch API when their batches are complete.

    Args:
        generator: Generator with budget, server and batch size.
        requests: Requests to send.

    Raises:
        BudgetError: After the last result, if the budget did not suffice for all requests.
    """
    budget = Budget(generator.budget_usd, generator.spent_usd)
    runner = batch.BatchRunner(
        settings=generator.call_settings,
        client=generator.endpoint.build_client(asynchronous=False),
        budget=budget,
        folder=generator.state_folder,
        lines_per_batch=generator.batch_lines,
        poll_seconds=generator.poll_seconds,
    )
    yield from runner.stream_results(requests)
    if runner.not_sent:
        raise _budget_error(generator, budget, runner.not_sent)


def _budget_error(generator: "Dalle", budget: Budget, not_sent: int) -> BudgetError:
    return BudgetError(
        f"{generator.option_prefix}.budget_usd={generator.budget_usd} does not allow the next call: "
        f"${budget.paid_usd:.4f} of it are spent or may be; {not_sent} requests were not made. "
        "All results so far are kept; raise the budget and run it again"
    )


def _stop_error(generator: "Dalle", reason: str, not_sent: int) -> ApiError:
    advice = remedy(
        reason,
        key=generator.api_key_env,
        served_by=generator.served_by,
        model=generator.model,
        option=f"{generator.option_prefix}.model",
    )
    return ApiError(
        f"{generator.option_prefix} ({generator.served_by}) stopped: {reason}. {advice}, and run it "
        f"again: all results so far are kept, {not_sent} requests were not made"
    )
