"""Errors that end a run of an images API before all requests were made."""

from xraysynth.generation.images_api.limits import Budget
from xraysynth.generation.images_api.outcomes import ApiError, BudgetError, remedy


def budget_error(option_prefix: str, budget: Budget, not_sent: int) -> BudgetError:
    """Return the error for a budget that does not allow the next call.

    Args:
        option_prefix: Prefix of the generator's options, such as `generator.dalle`.
        budget: Budget of the run.
        not_sent: Number of requests that were not made.
    """
    return BudgetError(
        f"{option_prefix}.budget_usd={budget.limit_usd} does not allow the next call: "
        f"${budget.paid_usd:.4f} of it are spent or may be; {not_sent} requests were not made. "
        "All results so far are kept; raise the budget and run it again"
    )


def stop_error(
    option_prefix: str, reason: str, not_sent: int, *, api_key_env: str, served_by: str, model: str
) -> ApiError:
    """Return the error for a server that would answer no further call.

    Args:
        option_prefix: Prefix of the generator's options, such as `generator.dalle`.
        reason: Why the last call failed.
        not_sent: Number of requests that were not made.
        api_key_env: Environment variable of the key.
        served_by: Name of the server.
        model: Name of the model.
    """
    option = f"{option_prefix}.model"
    advice = remedy(reason, key=api_key_env, served_by=served_by, model=model, option=option)
    return ApiError(
        f"{option_prefix} ({served_by}) stopped: {reason}. {advice}, and run it again: all results "
        f"so far are kept, {not_sent} requests were not made"
    )
