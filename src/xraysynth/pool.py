"""Pools: a generator's images in a content-addressed folder, filled block by block."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from xraysynth.errors import PoolError
from xraysynth.generators.base import Generator
from xraysynth.images import encode_png
from xraysynth.manifest import Manifest
from xraysynth.progress import progress
from xraysynth.prompts import PromptBank
from xraysynth.records import Generated, Request
from xraysynth.seeds import digest, identity
from xraysynth.store import ImageStore, Writer, verify

FINAL = ("image", "refused", "empty")
"""Outcomes that are not asked for again; failures and answers that never came are."""


def pool_store(generator: Generator, bank: PromptBank, *, seed: int, parent: Path) -> ImageStore:
    """Where the pool of this recipe lies. The number of images is no part of it: a pool grows."""
    made_by = {"generator": identity(generator), "prompts": digest(asdict(bank)), "seed": seed}
    return ImageStore(parent, generator.name, made_by)


def fill(
    store: ImageStore,
    generator: Generator,
    requests: Sequence[Request],
    *,
    shard: tuple[int, int] = (0, 1),
) -> None:
    """Make what is missing of this shard (index, count). Killed and restarted, nothing is repeated.

    Work is cut into blocks of one class and `generator.block` consecutive indices. A block that is
    partly there is made whole again and only its missing images are added, so that no image depends
    on where an earlier run stopped.
    """
    index, count = shard
    mine = [b for n, b in enumerate(_blocks(requests, generator.block)) if n % count == index]
    with store.writer(f"shard-{index}-of-{count}") as writer:
        done = {name for name, entry in store.entries().items() if entry["outcome"] in FINAL}
        total = sum(len(block) for block in mine)
        with progress(f"generate {generator.name}", total) as bar:
            for block in mine:
                missing = {request.image_id for request in block} - done
                if missing:
                    for result in generator.generate(block):
                        if result.request.image_id in missing:
                            _commit(writer, store, generator.name, result)
                bar.update(len(block))
    store.seal()


def _blocks(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    for _, block in groupby(requests, key=lambda r: (r.label, r.index // size)):
        yield list(block)


def _commit(writer: Writer, store: ImageStore, name: str, result: Generated) -> None:
    request = result.request
    columns = {
        "label": request.label,
        "source": name,
        "split": "train",
        "is_synthetic": True,
        "generator": name,
        "prompt": request.prompt,
        "seed": request.seed,
        "pool": store.key,
    }
    png = None if result.pixels is None else encode_png(result.pixels)
    facts = {"reason": result.reason, **result.facts}
    writer.add(
        request.image_id,
        png,
        outcome=result.outcome,
        columns=columns,
        facts=facts,
        archive=result.archive,
    )


def outcomes(store: ImageStore) -> dict[str, dict[str, int]]:
    """Class -> outcome -> how many requests ended so."""
    counts = Counter((e["columns"]["label"], e["outcome"]) for e in store.entries().values())
    table: dict[str, dict[str, int]] = {}
    for (label, outcome), number in sorted(counts.items()):
        table.setdefault(label, {})[outcome] = number
    return table


def facts(store: ImageStore) -> list[Mapping[str, Any]]:
    """What was measured while each image was made."""
    return [entry["facts"] for entry in store.entries().values()]


def read(
    store: ImageStore, classes: Sequence[str], *, per_class: Mapping[str, int], command: str
) -> Manifest:
    """The first `per_class[label]` images of each class, verified; `command` is what makes them."""
    if not store.folder.exists():
        raise PoolError(f"no pool {store.folder}; make it with: {command}")
    whole = store.manifest()
    rank = whole.table.groupby("label").cumcount()
    chosen = whole.where(rank < whole.table["label"].map(per_class).fillna(0)).relabel(classes)
    short = {
        n: f"{chosen.counts()[n]} of {k}" for n, k in per_class.items() if chosen.counts()[n] < k
    }
    if short:
        raise PoolError(
            f"pool {store.folder} has too few images: {short}, outcomes {outcomes(store)}; "
            f"make the rest with: {command}"
        )
    verify(chosen, remedy=f"delete {store.folder} and run: {command}")
    return chosen
