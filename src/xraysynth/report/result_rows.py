"""The rows of results.csv."""

from dataclasses import dataclass, fields

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One score of an arm: the mean over seeds with its interval, or that of one seed.

    The fields are the columns of results.csv, in order.

    Attributes:
        share: The former name of `synthetic_fraction`, which the next version will not have.
        seed: The training seed; None in the rows of means.
        metric: Key of the score, as in `metrics.classification`.
        value: The score; `low` and `high` are the ends of its interval in the rows of means.
        n_test: Number of test images.
        n_seeds: Number of finished seeds.
        difference: The arm minus real only, with its interval in the next two columns.
        simulated: Whether the images called real are computed.
        left_out: The data source that was left out of training; empty for none.
        test_set: Name of an external test set; empty for the study's own test images.
        p_holm: p-value of `difference`, adjusted after Holm over the arms of all generators.
        over_duplicates: The arm minus its duplicate control, with interval and adjusted p-value.
        over_permuted: The arm minus its permuted control, with interval and adjusted p-value.
        verdict: What is shown of `difference`; empty where nothing is claimed of it.
        detectable: The true difference that would have been found with a probability of 80 %.
        p_equivalent: p-value of "the difference is as large as `equivalence_margin`", adjusted as
            `p_holm`; the next columns are the same of the differences to the controls.
        equivalence_margin: The largest difference that does not matter.
    """

    generator: str
    share: float
    mode: str
    seed: int | None = None
    metric: str = ""
    value: float = NAN
    low: float = NAN
    high: float = NAN
    n_test: int = 0
    n_seeds: int
    real_images: int
    synthetic_images: int
    difference: float = NAN
    difference_low: float = NAN
    difference_high: float = NAN
    simulated: bool = False
    control: str
    real_fraction: float
    left_out: str
    test_set: str = ""
    p_holm: float | None = None
    over_duplicates: float = NAN
    over_duplicates_low: float = NAN
    over_duplicates_high: float = NAN
    over_duplicates_p_holm: float | None = None
    over_permuted: float = NAN
    over_permuted_low: float = NAN
    over_permuted_high: float = NAN
    over_permuted_p_holm: float | None = None
    synthetic_fraction: float
    verdict: str = ""
    detectable: float | None = None
    p_equivalent: float | None = None
    over_duplicates_verdict: str = ""
    over_duplicates_detectable: float | None = None
    over_duplicates_p_equivalent: float | None = None
    over_permuted_verdict: str = ""
    over_permuted_detectable: float | None = None
    over_permuted_p_equivalent: float | None = None
    equivalence_margin: float | None = None


RESULT_COLUMNS = [item.name for item in fields(ResultRow)]

RESULT_TEXTS = (
    *("generator", "mode", "metric", "control", "left_out", "test_set", "simulated"),
    *("verdict", "over_duplicates_verdict", "over_permuted_verdict"),
)
"""The columns that hold words or truth values."""
