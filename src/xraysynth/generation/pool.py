"""Pools: all images of one generator, in a content-addressed folder that is filled block by block."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import Literal, NamedTuple

from xraysynth.errors import PoolError
from xraysynth.files import append_json_line, exclusive_lock, read_json_lines
from xraysynth.generation.blocks import requests_of_incomplete_blocks, select_blocks
from xraysynth.generation.generators.base import Generator
from xraysynth.generation.images_api.unsettled import forget_committed_images
from xraysynth.generation.ledger import Attempt, Ledger, aggregate_attempts
from xraysynth.generation.metering import Meter, measure_resources
from xraysynth.generation.originals import archive_digests
from xraysynth.generation.prompts import PromptBank
from xraysynth.images import encode_png
from xraysynth.jobs.store import (
    ImageStore,
    JournalEntry,
    StoreWriter,
    require_file_name,
    verify_checksums,
)
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
"""File in a pool's folder with one line for every session that worked on the pool."""

FINAL_OUTCOMES = ("image", "refused", "empty")
"""Outcomes after which a request is not sent again, unlike a failed or unanswered request."""

WHOLE_POOL = (0, 1)
"""The shard (index, count) that is the whole pool."""


def pool_store(generator: Generator, bank: PromptBank, *, seed: int, parent: Path) -> ImageStore:
    """Returns the store of the pool that this generator makes from these prompts.

    The number of images is not part of the store's identity, so that a pool can grow.

    Args:
        generator: Decides the pixels together with the prompts and the seed.
        bank: The phrases of the prompts.
        seed: Seed of prompts and images.
        parent: Folder below which pools lie.
    """
    made_by = {"generator": identity(generator), "prompts": digest(asdict(bank)), "seed": seed}
    return ImageStore(parent, generator.name, made_by)


def fill(
    store: ImageStore,
    generator: Generator,
    requests: Sequence[Request],
    *,
    shard: tuple[int, int] = WHOLE_POOL,
) -> Counter[str]:
    """Generates the missing images of one shard of a pool; can be interrupted and repeated.

    Requests are grouped into blocks of one class and `generator.block_size` consecutive indices. An
    incomplete block is generated again as a whole, but only its missing images are added, so that
    no image depends on where an earlier run was interrupted. The cost of the session is added to
    the pool's ledger, even if it is interrupted.

    Args:
        store: The pool's folder.
        generator: Makes the images.
        requests: All images that the pool must hold, by class.
        shard: (index, count). With the whole pool, (0, 1), images that other shards lack are
            generated too, and the manifest is written.

    Returns:
        Outcome -> number of requests of the shard with this outcome.

    Raises:
        XraysynthError: If an image could not be stored under the name of its class; raised before
            any image is made or paid for.
    """
    for request in requests:
        require_file_name(request.image_id)
    with store.writer(_shard_name(shard)) as writer:
        _write_learning_record(store, generator)  # first: an interrupted pool needs it as well
        blocks = select_blocks(requests, generator.block_size or 1, shard)
        outcomes = store.map_entries(lambda entry: intern(entry.outcome))
        done = {image_id for image_id, outcome in outcomes.items() if outcome in FINAL_OUTCOMES}
        forget_committed_images(store.folder, done)
        pending = requests_of_incomplete_blocks(blocks, done)
        if pending:
            with _record_session(store, generator) as session_outcomes:
                for result in _generate(generator, pending):
                    if result.request.image_id not in done:
                        _commit(writer, store, generator.name, result)
                        outcomes[result.request.image_id] = result.outcome
                        session_outcomes[result.outcome] += 1
    if shard == WHOLE_POOL:
        store.write_manifest()
    return Counter(outcomes[request.image_id] for request in chain.from_iterable(blocks))


def journal_path(store: ImageStore, shard: tuple[int, int]) -> Path:
    """Returns the path of a shard's journal, a file that the shard's first session creates."""
    return store.folder / "journal" / f"{_shard_name(shard)}.jsonl"


def _shard_name(shard: tuple[int, int]) -> str:
    return f"shard-{shard[0]}-of-{shard[1]}"


def _generate(generator: Generator, requests: Sequence[Request]) -> Iterator[GenerationResult]:
    """Yields the generator's results, and advances a progress bar by one per result."""
    with progress_bar(f"generate {generator.name}", len(requests)) as bar:
        for result in generator.generate(requests):
            yield result
            bar.update()


@contextmanager
def _record_session(store: ImageStore, generator: Generator) -> Iterator[Counter[str]]:
    """Appends one line to the pool's ledger at the end; the caller counts outcomes in the counter."""
    outcomes: Counter[str] = Counter()
    loaded_before = generator.model_ledger().load_seconds or 0.0
    meter = Meter()
    try:
        with measure_resources() as meter:
            yield outcomes
    finally:
        model = generator.model_ledger()
        if model.load_seconds is not None:  # loading in an earlier session cost this one nothing
            model = replace(model, load_seconds=model.load_seconds - loaded_before)
        line = {"images": outcomes["image"]} | meter.ledger.known_values | model.known_values
        with exclusive_lock(store.folder / "journal" / "ledger.lock"):  # all shards write to it
            append_json_line(store.folder / SESSIONS_FILE, line)


def _write_learning_record(store: ImageStore, generator: Generator) -> None:
    record = generator.learning_record()
    if record is not None:
        record.write(store.folder / LEARNING_RECORD_FILE)


def read_learning_record(store: ImageStore) -> LearningRecord | None:
    """Reads which images the pool's generator was fine-tuned on; None if it was not fine-tuned."""
    return LearningRecord.read(store.folder / LEARNING_RECORD_FILE)


def record_paths(store: ImageStore) -> tuple[Path, ...]:
    """Returns the files beside the images: the costs of sessions, and what the generator learned from."""
    return store.folder / SESSIONS_FILE, store.folder / LEARNING_RECORD_FILE


def spent_usd(store: ImageStore) -> float:
    """Returns the dollars that all requests so far have cost or may have cost."""
    amounts: list[float] = []
    for entry in store.attempts():
        amounts.append(entry.facts.get("cost_usd") or 0.0)
        amounts.append(entry.facts.get("cost_possible_usd") or 0.0)
    return float(sum(amounts))


def compute_ledger(store: ImageStore) -> Ledger:
    """Computes what the pool has cost so far, from its journal and its sessions."""
    attempts = [Attempt.from_entry(entry.outcome, entry.facts) for entry in store.attempts()]
    sessions = [from_json(Ledger, line) for line in read_json_lines(store.folder / SESSIONS_FILE)]
    return aggregate_attempts(attempts, sessions)


def _commit(
    writer: StoreWriter, store: ImageStore, generator_name: str, result: GenerationResult
) -> None:
    """Adds a result to the pool; once added, it outlasts an interruption."""
    request = result.request
    columns = {
        "label": request.label,
        "source": generator_name,
        "split": "train",
        "is_synthetic": True,
        "generator": generator_name,
        "prompt": request.prompt,
        "seed": request.seed,
        "pool": store.key,
    }
    png = None if result.pixels is None else encode_png(result.pixels)
    facts = {"reason": result.reason, **result.facts, **archive_digests(result.archive)}
    writer.add(
        request.image_id,
        png,
        outcome=result.outcome,
        columns=columns,
        facts=facts,
        archive=result.archive,
    )


class _EndedRequest(NamedTuple):
    """Class, prompt and outcome of a request, by which requests are counted."""

    label: str
    prompt: str
    outcome: str

    @classmethod
    def from_entry(cls, entry: JournalEntry) -> "_EndedRequest":
        """Builds it from a journal entry; equal texts of many entries are kept in memory once."""
        label, prompt = entry.columns["label"], entry.columns["prompt"]
        return cls(intern(label), intern(prompt), intern(entry.outcome))


def count_outcomes(store: ImageStore) -> dict[str, dict[str, int]]:
    """Counts a pool's requests: class -> outcome -> number of requests, both keys sorted by name."""
    counts: Counter[tuple[str, str]] = Counter()
    for request, count in _count_ended_requests(store).items():
        counts[request.label, request.outcome] += count
    table: dict[str, dict[str, int]] = {}
    for (label, outcome), count in sorted(counts.items()):
        table.setdefault(label, {})[outcome] = count
    return table


@dataclass(frozen=True)
class Refusals:
    """How many requests were refused, by class and by prompt.

    Attributes:
        label: Class -> (refused, answered) requests, most refused first. Classes without a refusal
            are left out. Failed and unanswered requests are in neither number.
        prompt: Prompt -> (refused, answered) requests, in the same order, without prompts that were
            never refused.
    """

    label: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    prompt: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def count_refusals(store: ImageStore) -> Refusals:
    """Counts the refused requests of a pool, by class and by prompt."""
    answered: Counter[_EndedRequest] = Counter()
    for request, count in _count_ended_requests(store).items():
        if request.outcome in FINAL_OUTCOMES:
            answered[request] = count
    return Refusals(
        label=_count_refused_by("label", answered), prompt=_count_refused_by("prompt", answered)
    )


def _count_refused_by(
    group: Literal["label", "prompt"], requests: Mapping[_EndedRequest, int]
) -> dict[str, tuple[int, int]]:
    """Counts (refused, answered) requests per class or per prompt, most refused first."""
    name_of = attrgetter(group)
    answered: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for request, count in requests.items():
        answered[name_of(request)] += count
        if request.outcome == "refused":
            refused[name_of(request)] += count
    return {name: (count, answered[name]) for name, count in refused.most_common()}


def _count_ended_requests(store: ImageStore) -> Counter[_EndedRequest]:
    return Counter(store.map_entries(_EndedRequest.from_entry).values())


def image_facts(store: ImageStore) -> list[JsonObject]:
    """Returns what was measured for each request, such as `seconds`, `cost_usd` and `reason`."""
    return list(store.map_entries(attrgetter("facts")).values())


def read_images(
    store: ImageStore, classes: Sequence[str], *, per_class: Mapping[str, int], command: str
) -> Manifest:
    """Returns the first images of each class after checking every file against its SHA-256.

    Args:
        store: The pool's folder.
        classes: The classes of the study.
        per_class: Class -> number of images.
        command: The command that fills the pool; it is named in errors.

    Raises:
        PoolError: If the pool or some of its images are missing, or a file is damaged.
    """
    manifest = list_images(store, classes, per_class=per_class, command=command)
    verify_checksums(manifest, remedy=f"delete {store.folder} and run: {command}")
    return manifest


def list_images(
    store: ImageStore, classes: Sequence[str], *, per_class: Mapping[str, int], command: str
) -> Manifest:
    """Returns the first images of each class without opening any file.

    It is meant for callers that check each image when they decode it; `read_images` has the same
    arguments and checks all files at once.

    Raises:
        PoolError: If the pool is missing or has too few images of a class.
    """
    if not store.folder.exists():
        raise PoolError(f"there is no pool {store.folder}; make it with: {command}")
    pool = store.manifest()
    position_in_class = pool.table.groupby("label").cumcount()
    # As numbers: of an empty pool, whose folder a killed process left, the labels map to text.
    requested = pool.table["label"].map(per_class).fillna(0).astype(int)
    manifest = pool.where(position_in_class < requested).with_classes(classes)
    available = manifest.class_counts()
    missing: dict[str, str] = {}
    for label, count in per_class.items():
        if available[label] < count:
            missing[label] = f"{available[label]} of {count}"
    if missing:
        raise PoolError(
            f"pool {store.folder} has too few images: {missing}; its requests ended with the "
            f"outcomes {count_outcomes(store)}; make the other images with: {command}"
        )
    return manifest
