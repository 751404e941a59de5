"""Kits and key of a reading: who sees which image where, under ids that nobody can work out."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from xraysynth.evaluation.reader_study.key import Case, Key, Kit, KitItem
from xraysynth.evaluation.reader_study.protocol import questions
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.files import write_atomically
from xraysynth.progress import progress

if TYPE_CHECKING:  # `analyse` reads this file's names without any image library
    import numpy as np

    from xraysynth.evaluation.reader_study.kit import ShownItem
    from xraysynth.evaluation.reader_study.sample import Drawn, Sample, Session


def case_ids(sample: "Sample") -> dict[str, "Drawn"]:
    """The images of a reading by their id in the key, those for calibration last."""
    drawn = [*sample.cases, *sample.calibration]
    return {f"c{number:04d}": one for number, one in enumerate(drawn, 1)}


def key_of(
    recipe: ReviewRecipe,
    sample: "Sample",
    *,
    classes: Sequence[str],
    pools: Mapping[str, str],
    cohort: str,
    simulated: bool,
    made_by: str,
    secret: str,
) -> Key:
    """The key of a reading; the same arguments give the same kits."""
    ids = case_ids(sample)
    return Key(
        study=_hex(secret, "study"),
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        simulated=simulated,
        classes=list(classes),
        questions=questions(recipe.questions, recipe.own_questions, classes),
        pools=dict(pools),
        cohort=cohort,
        cases={name: one.case for name, one in ids.items()},
        kits=_kits(recipe, sample, list(ids), secret),
        made_by=made_by,
        secret=secret,
    )


def page(
    key: Key, kit: str, files: Mapping[str, Path], *, title: str, language: str, side_px: int
) -> str:
    """One reader's file of one session, from the image files of the cases."""
    from xraysynth.evaluation.reader_study.encoding import data_uri, places, sheets
    from xraysynth.evaluation.reader_study.kit import KitSpec, render

    held = key.kits[kit]
    images = [_pixels(files[item.case], side_px, key.secret, item.id) for item in held.items]
    cells = [_cell(key.cases[item.case]) for item in held.items]
    where = places(cells, side_px, _seed(key.secret, "places", kit))
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
        sheets=[data_uri(jpeg) for jpeg in sheets(images, where)],
        items=[_shown(item, key, place) for item, place in zip(held.items, where, strict=True)],
    )
    return render(spec)


def write_kits(
    key: Key, files: Mapping[str, Path], folder: Path, *, language: str, side_px: int
) -> dict[Path, int]:
    """Write every kit of a key into a folder; path -> size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    with progress("kits", len(key.kits), unit="kit") as bar:
        for name, kit in key.kits.items():
            html = page(
                key, name, files, title=key.name, language=language, side_px=side_px
            ).encode()
            write_atomically(folder / kit.file, html)
            sizes[folder / kit.file] = len(html)
            bar.update()
    return sizes


def _pixels(path: Path, side_px: int, secret: str, item: str) -> "np.ndarray":
    from xraysynth.evaluation.reader_study.encoding import equalised
    from xraysynth.images import read

    return equalised(read(path), side_px, _seed(secret, "noise", item))


def _shown(item: KitItem, key: Key, place: tuple[int, int, int]) -> "ShownItem":
    """An item at its place, with the truth only where readers practise on it."""
    from xraysynth.evaluation.reader_study.kit import ShownItem, Truth

    case = key.cases[item.case]
    truth = Truth(case.origin, case.label) if item.calibration else None
    return ShownItem(item.id, *place, calibration=item.calibration, truth=truth)


def _kits(
    recipe: ReviewRecipe, sample: "Sample", ids: Sequence[str], secret: str
) -> dict[str, Kit]:
    """All readers see the same cases in the same sessions, each in an order of their own."""
    from xraysynth.evaluation.reader_study.sample import sessions

    cells = [_cell(one.case) for one in sample.cases]
    parts = sessions(
        cells, repeats=recipe.repeat_fraction, size=recipe.session_size, seed=recipe.seed
    )
    practice = ids[len(sample.cases) :]
    found = {}
    for reader in recipe.readers:
        for number, part in enumerate(parts, 1):
            name = _hex(secret, "kit", reader, number)
            shown = _order(part, practice if number == 1 else [], ids, secret, name)
            items = [
                KitItem(_item_id(secret, name, n), case, repeat, calibration)
                for n, (case, repeat, calibration) in enumerate(shown)
            ]
            file = f"{reader}_session{number}.html"
            found[name] = Kit(reader, number, len(parts), file, items)
    return found


def _order(
    part: "Session", practice: Sequence[str], ids: Sequence[str], secret: str, kit: str
) -> list[tuple[str, bool, bool]]:
    """(case, repeat, calibration) of a kit's items, those for calibration first."""
    import numpy as np

    from xraysynth.evaluation.reader_study.sample import showings

    first = np.random.default_rng(_seed(secret, "practice", kit)).permutation(len(practice))
    shown = showings(part, _seed(secret, "order", kit))
    return [(practice[n], False, True) for n in first] + [
        (ids[n], repeat, False) for n, repeat in shown
    ]


def _cell(case: Case) -> tuple[str, str, str]:
    return case.origin, case.generator, case.label


def _token(secret: str, *path: str | int) -> bytes:
    """32 bytes that depend on every element of the path, and that only the secret's owner can make."""
    return hmac.digest(bytes.fromhex(secret), json.dumps(path).encode(), hashlib.sha256)


def _hex(secret: str, *path: str | int) -> str:
    return _token(secret, *path).hex()[:12]


def _seed(secret: str, *path: str | int) -> int:
    return int.from_bytes(_token(secret, *path)[:8], "big")


def _item_id(secret: str, kit: str, number: int) -> str:
    return base64.b32encode(_token(secret, "item", kit, number)).decode().lower()[:10]
