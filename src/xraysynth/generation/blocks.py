"""Blocks of requests: the units in which a pool is divided among shards and filled."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from xraysynth.records import Request


def select_blocks(
    requests: Iterable[Request], block_size: int, shard: tuple[int, int]
) -> list[list[Request]]:
    """Cuts requests into blocks and returns the blocks of one shard.

    A block holds requests of one class with `block_size` consecutive indices.

    Args:
        requests: All requests of a pool, by class and index.
        block_size: Requests per block.
        shard: (index, count): every `count`-th block, from block `index` on.
    """
    index, count = shard

    def class_and_block(request: Request) -> tuple[str, int]:
        return request.label, request.index // block_size

    blocks = [list(block) for _, block in groupby(requests, key=class_and_block)]
    return blocks[index::count]


def requests_of_incomplete_blocks(
    blocks: Iterable[Sequence[Request]], done: set[str]
) -> list[Request]:
    """Returns all requests of every block that has an image which is not done.

    Args:
        blocks: The blocks of a shard.
        done: Image ids of the requests that need not be sent again.
    """
    pending: list[Request] = []
    for block in blocks:
        if not all(request.image_id in done for request in block):
            pending.extend(block)
    return pending
