"""Builds the answer key and the kits of a reading, in which ids and orders tell nothing.

Every id, order and position is derived from a secret that is in the key alone.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.evaluation.reader_study.key import AnswerKey, Case, Kit, KitItem
from xraysynth.evaluation.reader_study.protocol import build_questions
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.files import write_atomically
from xraysynth.progress import progress_bar

if TYPE_CHECKING:  # the analysis imports names of this module without any image library
    from xraysynth.evaluation.reader_study.kit import ShownItem
    from xraysynth.evaluation.reader_study.sample import Sample, SampledImage, Session


def cases_by_id(sample: "Sample") -> dict[str, "SampledImage"]:
    """Returns the images of a reading by their id in the key, calibration images last."""
    images = [*sample.cases, *sample.calibration]
    return {f"c{number:04d}": image for number, image in enumerate(images, 1)}


def build_key(
    recipe: ReviewRecipe,
    sample: "Sample",
    *,
    classes: Sequence[str],
    pools: Mapping[str, str],
    cohort: str,
    simulated: bool,
    made_by: str,
    secret: str,
) -> AnswerKey:
    """Builds the key of a reading; the same arguments give the same kits.

    Args:
        recipe: The options of the reading.
        sample: The images of the reading.
        classes: The classes of the images.
        pools: The key of each generator's pool.
        cohort: The digest of the real images.
        simulated: Whether the real images are simulated.
        made_by: The key of the job that builds the reading.
        secret: 32 random bytes in hex, which ids and orders are derived from.
    """
    images = cases_by_id(sample)
    return AnswerKey(
        study=_hex_id(secret, "study"),
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        simulated=simulated,
        classes=list(classes),
        questions=build_questions(recipe.questions, recipe.own_questions, classes),
        pools=dict(pools),
        cohort=cohort,
        cases={case_id: image.case for case_id, image in images.items()},
        kits=_build_kits(recipe, sample, list(images), secret),
        made_by=made_by,
        secret=secret,
    )


def build_kit_page(
    key: AnswerKey,
    kit_id: str,
    files: Mapping[str, Path],
    *,
    title: str,
    language: str,
    side_px: int,
) -> str:
    """Renders the file of one reader and session.

    Args:
        key: The key of the reading.
        kit_id: The id of the kit.
        files: The image file of each case.
        title: The heading of the page.
        language: The language of the page.
        side_px: The side in pixels at which images are shown.
    """
    from xraysynth.evaluation.reader_study.encoding import (
        data_uri,
        encode_sheets,
        normalise_image,
        sheet_positions,
    )
    from xraysynth.evaluation.reader_study.kit import KitSpec, render_kit
    from xraysynth.images import read_image

    kit = key.kits[kit_id]
    images, cells = [], []
    for item in kit.items:
        case = key.cases[item.case]
        pixels = read_image(files[item.case], sha256=case.sha256)
        seed = _keyed_seed(key.secret, "noise", item.id)
        images.append(normalise_image(pixels, side_px, seed))
        cells.append(_cell(case))
    positions = sheet_positions(cells, side_px, _keyed_seed(key.secret, "places", kit_id))
    shown_items = []
    for item, position in zip(kit.items, positions, strict=True):
        shown_items.append(_place_item(item, key, position))
    spec = KitSpec(
        study=key.study,
        kit=kit_id,
        title=title,
        reader=kit.reader,
        session=kit.session,
        sessions=kit.sessions,
        language=language,
        side_px=side_px,
        simulated=key.simulated,
        questions=key.questions,
        sheets=list(map(data_uri, encode_sheets(images, positions))),
        items=shown_items,
    )
    return render_kit(spec)


def write_kits(
    key: AnswerKey, files: Mapping[str, Path], folder: Path, *, language: str, side_px: int
) -> dict[Path, int]:
    """Writes every kit of a key into a folder.

    Args:
        key: The key of the reading.
        files: The image file of each case.
        folder: The folder to write to.
        language: The language of the pages.
        side_px: The side in pixels at which images are shown.

    Returns:
        The size of each file in bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    with progress_bar("kits", len(key.kits), unit="kit") as bar:
        for kit_id, kit in key.kits.items():
            page = build_kit_page(
                key, kit_id, files, title=key.name, language=language, side_px=side_px
            )
            html = page.encode()
            write_atomically(folder / kit.file, html)
            sizes[folder / kit.file] = len(html)
            bar.update()
    return sizes


def _place_item(item: KitItem, key: AnswerKey, position: tuple[int, int, int]) -> "ShownItem":
    """Returns an item at its position (sheet, x, y), with the truth of a calibration image alone."""
    from xraysynth.evaluation.reader_study.kit import ShownItem, Truth

    case = key.cases[item.case]
    truth = Truth(case.origin, case.label) if item.calibration else None
    return ShownItem(item.id, *position, calibration=item.calibration, truth=truth)


def _build_kits(
    recipe: ReviewRecipe, sample: "Sample", case_ids: Sequence[str], secret: str
) -> dict[str, Kit]:
    """Builds the kits of all readers, who see the same cases in the same sessions, in other orders.

    Calibration images come at the start of the first session.
    """
    from xraysynth.evaluation.reader_study.sample import split_into_sessions

    sessions = split_into_sessions(
        [_cell(image.case) for image in sample.cases],
        repeat_fraction=recipe.repeat_fraction,
        session_size=recipe.session_size,
        seed=recipe.seed,
    )
    calibration = case_ids[len(sample.cases) :]
    kits = {}
    for reader in recipe.readers:
        for number, session in enumerate(sessions, 1):
            kit_id = _hex_id(secret, "kit", reader, number)
            items = _calibration_items(calibration if number == 1 else [], secret, kit_id)
            items += _session_items(session, case_ids, secret, kit_id, first_number=len(items))
            file = f"{reader}_session{number}.html"
            kits[kit_id] = Kit(reader, number, len(sessions), file, items)
    return kits


def _calibration_items(case_ids: Sequence[str], secret: str, kit: str) -> list[KitItem]:
    """Returns the calibration images of a kit in an order of its own."""
    import numpy as np

    rng = np.random.default_rng(_keyed_seed(secret, "practice", kit))
    items = []
    for number, index in enumerate(rng.permutation(len(case_ids))):
        item_id = _item_id(secret, kit, number)
        items.append(KitItem(item_id, case_ids[index], repeat=False, calibration=True))
    return items


def _session_items(
    session: "Session", case_ids: Sequence[str], secret: str, kit: str, *, first_number: int
) -> list[KitItem]:
    """Returns the showings of a session in an order of the kit's own, numbered from `first_number`."""
    from xraysynth.evaluation.reader_study.sample import order_showings

    showings = order_showings(session, _keyed_seed(secret, "order", kit))
    items = []
    for number, (index, repeat) in enumerate(showings, first_number):
        item_id = _item_id(secret, kit, number)
        items.append(KitItem(item_id, case_ids[index], repeat, calibration=False))
    return items


def _cell(case: Case) -> tuple[str, str, str]:
    return case.origin, case.generator, case.label


def _hmac_token(secret: str, *path: str | int) -> bytes:
    """Returns 32 bytes that depend on every element of `path`, and that need the secret to compute."""
    return hmac.digest(bytes.fromhex(secret), json.dumps(path).encode(), hashlib.sha256)


def _hex_id(secret: str, *path: str | int) -> str:
    """Returns an id of 12 hex digits."""
    return _hmac_token(secret, *path).hex()[:12]


def _keyed_seed(secret: str, *path: str | int) -> int:
    """Returns a seed of 64 bits."""
    return int.from_bytes(_hmac_token(secret, *path)[:8], "big")


def _item_id(secret: str, kit: str, number: int) -> str:
    """Returns the id of an item, 10 characters of base 32."""
    return base64.b32encode(_hmac_token(secret, "item", kit, number)).decode().lower()[:10]
