"""One picture under two labels: at most one of them is right, and nothing in the files says which."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from xraysynth.data.duplicates import Pairs, pair_indices
from xraysynth.data.recipe import Screening, TwoLabels
from xraysynth.errors import ManifestError
from xraysynth.quoting import quote_override

MAX_LISTED_PICTURES = 10
"""Number of pictures that an error lists."""


@dataclass(frozen=True)
class TwoLabelPicture:
    """A picture that is there under several labels.

    Attributes:
        rows: Row numbers of its images in the table.
        labels: The label of each of these images.
    """

    rows: Sequence[int]
    labels: Sequence[str]


def find_two_labels(
    table: pd.DataFrame, *, ignored_ids: Iterable[str] = ()
) -> list[TwoLabelPicture]:
    """Find the pictures with the same pixels and different labels.

    Args:
        table: One row per image with `image_id`, `sha256` and `label`.
        ignored_ids: Ids of images that are not compared.

    >>> table = pd.DataFrame({"image_id": list("abc"), "sha256": list("xxy"), "label": list("uvu")})
    >>> find_two_labels(table)
    [TwoLabelPicture(rows=[0, 1], labels=['u', 'v'])]
    """
    rows = table[["image_id", "sha256", "label"]].reset_index(drop=True)
    rows = rows[~rows["image_id"].isin(set(ignored_ids))]
    n_labels = rows.groupby("sha256")["label"].transform("nunique")
    pictures = []
    for _, images in rows[n_labels > 1].groupby("sha256", sort=False):
        pictures.append(TwoLabelPicture(images.index.tolist(), images["label"].tolist()))
    return pictures


def choose_rows_to_leave_out(
    pictures: Sequence[TwoLabelPicture], policy: Screening
) -> dict[int, str]:
    """Choose the images that are left out, by the rule that says which label holds.

    Of a picture with a label of `policy.label_precedence`, the images with the first such label are
    used. Of any other picture, all images are left out.

    Returns:
        Row number -> why the image is left out.
    """
    reasons = {}
    for picture in pictures:
        holding = _holding_label(picture, policy)
        for row, label in zip(picture.rows, picture.labels, strict=True):
            if not holding:
                labels = " and ".join(sorted(set(picture.labels)))
                reasons[row] = f"one picture under two labels: {labels}"
            elif label != holding:
                reasons[row] = f"one picture under two labels, of which {holding} holds"
    return reasons


def _holding_label(picture: TwoLabelPicture, policy: Screening) -> str:
    """The label of a picture that holds; "" if no rule says which."""
    for label in policy.label_precedence:
        if label in picture.labels:
            return label
    return ""


def require_rule_for_two_labels(
    pictures: Iterable[TwoLabelPicture],
    table: pd.DataFrame,
    files: Mapping[str, str],
    policy: Screening,
) -> None:
    """Require a rule on which label holds, for each picture that is there under several.

    Args:
        pictures: The pictures (`find_two_labels`).
        table: The table in which they were found.
        files: Image id -> file.
        policy: Holds the rule.

    Raises:
        ManifestError: There is no rule for some pictures; the message names them and the options.
    """
    undecided = [picture for picture in pictures if not _holding_label(picture, policy)]
    if policy.two_labels is TwoLabels.leave_out or not undecided:
        return
    ids = table["image_id"].tolist()
    lines, labels = [], set(policy.label_precedence)
    for picture in undecided:
        names = [files[ids[row]] for row in picture.rows]
        lines.append(" = ".join(map("{} ({})".format, names, picture.labels)))
        labels.update(picture.labels)
    if len(lines) > MAX_LISTED_PICTURES:
        lines[MAX_LISTED_PICTURES:] = [f"and {len(lines) - MAX_LISTED_PICTURES} more"]
    listing = "\n  ".join(lines)
    order = [*policy.label_precedence, *sorted(labels - set(policy.label_precedence))]
    raise ManifestError(
        f"{len(undecided)} of the pictures are there under two labels, of which at most one is right. "
        "Remove the wrong files, or leave out every image of these pictures with "
        "screening.two_labels=leave_out, or let the first label of a list hold, for example "
        f"{quote_override('screening.label_precedence', order)}:\n  {listing}"
    )


def pairs_with_two_labels(labels: pd.Series, pairs: Pairs) -> list[tuple[int, int]]:
    """Return the pairs of near-duplicates with different labels, as row numbers.

    They may be one film, or two films of one patient, of whom the diagnosis changed.

    Args:
        labels: Label per image.
        pairs: Near-duplicates as row numbers.
    """
    values = labels.to_numpy()
    first, second = pair_indices(pairs)
    differs = values[first] != values[second]
    return list(zip(first[differs].tolist(), second[differs].tolist(), strict=True))
