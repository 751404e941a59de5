"""Pools: a generator's images in a content-addressed folder, filled block by block."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from sys import intern

from xraysynth.errors import PoolError
from xraysynth.files import append_json_line, exclusive_lock, read_json_lines
from xraysynth.generation.generators.base import Generator
from xraysynth.generation.ledger import Attempt, Ledger, aggregate_attempts
from xraysynth.generation.metering import Meter, measure_resources
from xraysynth.generation.prompts import PromptBank
from xraysynth.images import encode_png
from xraysynth.jobs.store import ImageStore, JournalEntry, StoreWriter, verify_checksums
from xraysynth.manifest import Manifest
from xraysynth.progress import progress_bar
from xraysynth.records import (
    LEARNING_RECORD_FILE,
    GenerationResult,
    JsonObject,
    LearningRecord,
    Request,
    from_json,
)
from xraysynth.seeds import digest, identity

SESSIONS_FILE = "ledger.jsonl"
"""File in a pool's folder: one line for every time it was worked on."""

FINAL_OUTCOMES = ("image", "refused", "empty")
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
) -> Counter[str]:
    """Make what is missing of this shard (index, count). Killed and restarted, nothing is repeated.

    Returns how many requests of the shard have ended with each outcome. Only the whole, (0, 1),
    writes the manifest: it makes what all shards have left, and pools them.

    Work is cut into blocks of one class and `generator.block` consecutive indices. A block that is
    partly there is made whole again and only its missing images are added, so that no image depends
    on where an earlier run stopped. What was spent is added to the pool's ledger, also when the
    work is stopped.
    """
    with store.writer(_shard_name(shard)) as writer:
        _write_learning_record(
            store, generator
        )  # first: a pool that was cut short needs it just as much
        ends = store.map_entries(lambda entry: intern(entry.outcome))
        done = {name for name, outcome in ends.items() if outcome in FINAL_OUTCOMES}
        blocks = [
            b
            for n, b in enumerate(_split_into_blocks(requests, generator.block_size or 1))
            if _is_in_shard(n, shard)
        ]
        open_blocks = [b for b in blocks if any(r.image_id not in done for r in b)]
        todo = [request for block in open_blocks for request in block]
        if todo:
            with _record_session(store, generator) as made:
                for result in _generate_with_progress(generator, todo):
                    if result.request.image_id not in done:
                        _commit(writer, store, generator.name, result)
                        ends[result.request.image_id] = result.outcome
                        made[result.outcome] += 1
    if shard == (0, 1):
        store.write_manifest()
    return Counter(ends[request.image_id] for block in blocks for request in block)


def journal_path(store: ImageStore, shard: tuple[int, int]) -> Path:
    """The file that is there once a shard has been worked on, and gone with its pool."""
    return store.folder / "journal" / f"{_shard_name(shard)}.jsonl"


def _shard_name(shard: tuple[int, int]) -> str:
    return f"shard-{shard[0]}-of-{shard[1]}"


def _split_into_blocks(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    for _, block in groupby(requests, key=lambda r: (r.label, r.index // size)):
        yield list(block)


def _is_in_shard(number: int, shard: tuple[int, int]) -> bool:
    index, count = shard
    return number % count == index


def _generate_with_progress(
    generator: Generator, requests: Sequence[Request]
) -> Iterator[GenerationResult]:
    """The generator's results, with a progress bar."""
    with progress_bar(f"generate {generator.name}", len(requests)) as bar:
        for result in generator.generate(requests):
            yield result
            bar.update()


@contextmanager
def _record_session(store: ImageStore, generator: Generator) -> Iterator[Counter[str]]:
    """One line of the pool's ledger; what it yields counts the outcomes of the session."""
    outcomes: Counter[str] = Counter()
    loaded_before = generator.model_ledger().load_seconds or 0.0
    meter = Meter()
    try:
        with measure_resources() as meter:
            yield outcomes
    finally:
        model = generator.model_ledger()
        if model.load_seconds is not None:  # what an earlier session loaded cost this one nothing
            model = replace(model, load_seconds=model.load_seconds - loaded_before)
        line = {"images": outcomes["image"]} | meter.ledger.known_values | model.known_values
        with exclusive_lock(store.folder / "journal" / "ledger.lock"):  # all shards write there
            append_json_line(store.folder / SESSIONS_FILE, line)


def _write_learning_record(store: ImageStore, generator: Generator) -> None:
    record = generator.learning_record()
    if record is not None:
        record.write(store.folder / LEARNING_RECORD_FILE)


def read_learning_record(store: ImageStore) -> LearningRecord | None:
    """What the pool's generator has learned from; None where it has seen none of the study."""
    return LearningRecord.read(store.folder / LEARNING_RECORD_FILE)


def original_files(manifest: Manifest) -> list[Path]:
    """The file of every image as it came from its generator; the pool's own where none was kept."""
    kept = {
        path.stem: path
        for path in (manifest.folder / "archive").glob("*")
        if path.suffix in (".png", ".jpg", ".webp")
    }
    return [kept.get(path.stem, path) for path in manifest.files]


def spent_usd(store: ImageStore) -> float:
    """Dollars that all attempts so far have cost, and those they may have cost."""
    amounts = ("cost_usd", "cost_possible_usd")
    return float(sum(entry.facts.get(a) or 0.0 for entry in store.attempts() for a in amounts))


def compute_ledger(store: ImageStore) -> Ledger:
    """What the pool cost so far."""
    attempts = [Attempt.from_entry(entry.outcome, entry.facts) for entry in store.attempts()]
    sessions = [from_json(Ledger, line) for line in read_json_lines(store.folder / SESSIONS_FILE)]
    return aggregate_attempts(attempts, sessions)


def _commit(writer: StoreWriter, store: ImageStore, name: str, result: GenerationResult) -> None:
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


def count_outcomes(store: ImageStore) -> dict[str, dict[str, int]]:
    """Class -> outcome -> how many requests ended so."""
    counts: Counter[tuple[str, str]] = Counter()
    for (label, _, outcome), number in _count_request_outcomes(store).items():
        counts[label, outcome] += number
    table: dict[str, dict[str, int]] = {}
    for (label, outcome), number in sorted(counts.items()):
        table.setdefault(label, {})[outcome] = number
    return table


@dataclass(frozen=True)
class Refusals:
    """What was ever refused: (refused, answered) requests by class and by prompt, most refused first.

    Requests that failed, or whose answer never came, are in neither.
    """

    label: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    prompt: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def count_refusals(store: ImageStore) -> Refusals:
    """What of a pool's requests was refused."""
    ends = {
        end: number
        for end, number in _count_request_outcomes(store).items()
        if end[2] in FINAL_OUTCOMES
    }
    return Refusals(_count_refused_by(ends, position=0), _count_refused_by(ends, position=1))


def _count_refused_by(
    ends: Mapping[tuple[str, ...], int], *, position: int
) -> dict[str, tuple[int, int]]:
    """(refused, answered) by class, the place 0 of an end, or by prompt, the place 1."""
    answered: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for end, number in ends.items():
        name, outcome = end[position], end[2]
        answered[name] += number
        if outcome == "refused":
            refused[name] += number
    return {name: (number, answered[name]) for name, number in refused.most_common()}


def _count_request_outcomes(store: ImageStore) -> Counter[tuple[str, ...]]:
    """How many requests of each class and prompt ended with each outcome."""

    def end(entry: JournalEntry) -> tuple[str, ...]:
        columns = entry.columns  # few different texts in many entries: each is kept once
        return tuple(map(intern, (columns["label"], columns["prompt"], entry.outcome)))

    return Counter(store.map_entries(end).values())


def image_facts(store: ImageStore) -> list[JsonObject]:
    """What was measured while each image was made."""
    return list(store.map_entries(lambda entry: entry.facts).values())


def read_images(
    store: ImageStore, classes: Sequence[str], *, per_class: Mapping[str, int], command: str
) -> Manifest:
    """The first `per_class[label]` images of each class, verified; `command` is what makes them."""
    chosen = list_images(store, classes, per_class=per_class, command=command)
    verify_checksums(chosen, remedy=f"delete {store.folder} and run: {command}")
    return chosen


def list_images(
    store: ImageStore, classes: Sequence[str], *, per_class: Mapping[str, int], command: str
) -> Manifest:
    """The same without looking at any file, for those who check what they decode."""
    if not store.folder.exists():
        raise PoolError(f"no pool {store.folder}; make it with: {command}")
    whole = store.manifest()
    rank = whole.table.groupby("label").cumcount()
    chosen = whole.where(rank < whole.table["label"].map(per_class).fillna(0)).with_classes(classes)
    short = {
        n: f"{chosen.class_counts()[n]} of {k}"
        for n, k in per_class.items()
        if chosen.class_counts()[n] < k
    }
    if short:
        raise PoolError(
            f"pool {store.folder} has too few images: {short}, outcomes {count_outcomes(store)}; "
            f"make the rest with: {command}"
        )
    return chosen
