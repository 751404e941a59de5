"""Kits and key of a reading: who sees which image where, under ids that nobody can work out."""

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

if TYPE_CHECKING:  # `analyse` reads this file's names without any image library
    import numpy as np

    from xraysynth.evaluation.reader_study.kit import ShownItem
    from xraysynth.evaluation.reader_study.sample import Sample, SampledImage, Session


def cases_by_id(sample: "Sample") -> dict[str, "SampledImage"]:
    """The images of a reading by their id in the key, those for calibration last."""
    drawn = [*sample.cases, *sample.calibration]
    return {f"c{number:04d}": one for number, one in enumerate(drawn, 1)}


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
    """The key of a reading; the same arguments give the same kits."""
    ids = cases_by_id(sample)
    return AnswerKey(
        study=_hex_id(secret, "study"),
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        simulated=simulated,
        classes=list(classes),
        questions=build_questions(recipe.questions, recipe.own_questions, classes),
        pools=dict(pools),
        cohort=cohort,
        cases={name: one.case for name, one in ids.items()},
        kits=_build_kits(recipe, sample, list(ids), secret),
        made_by=made_by,
        secret=secret,
    )


def build_kit_page(
    key: AnswerKey, kit: str, files: Mapping[str, Path], *, title: str, language: str, side_px: int
) -> str:
    """One reader's file of one session, from the image files of the cases."""
    from xraysynth.evaluation.reader_study.encoding import data_uri, encode_sheets, sheet_positions
    from xraysynth.evaluation.reader_study.kit import KitSpec, render_kit

    held = key.kits[kit]
    images = [_read_pixels(files[item.case], side_px, key.secret, item.id) for item in held.items]
    cells = [_cell(key.cases[item.case]) for item in held.items]
    where = sheet_positions(cells, side_px, _keyed_seed(key.secret, "places", kit))
    spec = KitSpec(
        study=key.study,
        kit=kit,
        title=title,
        reader=held.reader,
        session=held.session,
        sessions=held.sessions,
        language=language,
        side_px=side_px,
        simulated=key.simulated,
        questions=key.questions,
        sheets=[data_uri(jpeg) for jpeg in encode_sheets(images, where)],
        items=[
            _place_item(item, key, place) for item, place in zip(held.items, where, strict=True)
        ],
    )
    return render_kit(spec)


def write_kits(
    key: AnswerKey, files: Mapping[str, Path], folder: Path, *, language: str, side_px: int
) -> dict[Path, int]:
    """Write every kit of a key into a folder; path -> size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    with progress_bar("kits", len(key.kits), unit="kit") as bar:
        for name, kit in key.kits.items():
            html = build_kit_page(
                key, name, files, title=key.name, language=language, side_px=side_px
            ).encode()
            write_atomically(folder / kit.file, html)
            sizes[folder / kit.file] = len(html)
            bar.update()
    return sizes


def _read_pixels(path: Path, side_px: int, secret: str, item: str) -> "np.ndarray":
    from xraysynth.evaluation.reader_study.encoding import normalise_image
    from xraysynth.images import read_image

    return normalise_image(read_image(path), side_px, _keyed_seed(secret, "noise", item))


def _place_item(item: KitItem, key: AnswerKey, position: tuple[int, int, int]) -> "ShownItem":
    """An item at its place, with the truth only where readers practise on it."""
    from xraysynth.evaluation.reader_study.kit import ShownItem, Truth

    case = key.cases[item.case]
    truth = Truth(case.origin, case.label) if item.calibration else None
    return ShownItem(item.id, *position, calibration=item.calibration, truth=truth)


def _build_kits(
    recipe: ReviewRecipe, sample: "Sample", ids: Sequence[str], secret: str
) -> dict[str, Kit]:
    """All readers see the same cases in the same sessions, each in an order of their own."""
    from xraysynth.evaluation.reader_study.sample import split_into_sessions

    cells = [_cell(one.case) for one in sample.cases]
    parts = split_into_sessions(
        cells, repeats=recipe.repeat_fraction, size=recipe.session_size, seed=recipe.seed
    )
    practice = ids[len(sample.cases) :]
    found = {}
    for reader in recipe.readers:
        for number, part in enumerate(parts, 1):
            name = _hex_id(secret, "kit", reader, number)
            shown = _order_items(part, practice if number == 1 else [], ids, secret, name)
            items = [
                KitItem(_item_id(secret, name, n), case, repeat, calibration)
                for n, (case, repeat, calibration) in enumerate(shown)
            ]
            file = f"{reader}_session{number}.html"
            found[name] = Kit(reader, number, len(parts), file, items)
    return found


def _order_items(
    session: "Session", calibration: Sequence[str], ids: Sequence[str], secret: str, kit: str
) -> list[tuple[str, bool, bool]]:
    """(case, repeat, calibration) of a kit's items, those for calibration first."""
    import numpy as np

    from xraysynth.evaluation.reader_study.sample import order_showings

    first = np.random.default_rng(_keyed_seed(secret, "practice", kit)).permutation(
        len(calibration)
    )
    shown = order_showings(session, _keyed_seed(secret, "order", kit))
    return [(calibration[n], False, True) for n in first] + [
        (ids[n], repeat, False) for n, repeat in shown
    ]


def _cell(case: Case) -> tuple[str, str, str]:
    return case.origin, case.generator, case.label


def _hmac_token(secret: str, *path: str | int) -> bytes:
    """32 bytes that depend on every element of the path, and that only the secret's owner can make."""
    return hmac.digest(bytes.fromhex(secret), json.dumps(path).encode(), hashlib.sha256)


def _hex_id(secret: str, *path: str | int) -> str:
    return _hmac_token(secret, *path).hex()[:12]


def _keyed_seed(secret: str, *path: str | int) -> int:
    return int.from_bytes(_hmac_token(secret, *path)[:8], "big")


def _item_id(secret: str, kit: str, number: int) -> str:
    return base64.b32encode(_hmac_token(secret, "item", kit, number)).decode().lower()[:10]
