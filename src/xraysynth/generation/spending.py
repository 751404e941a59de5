"""What the pools of a folder have cost together, with calls whose results were lost."""

from pathlib import Path

from xraysynth.files import iter_json_lines
from xraysynth.generation.images_api.unsettled import unsettled_usd
from xraysynth.generation.pool import FINAL_OUTCOMES


def spent_usd_below(parent: Path, *, except_folder: Path) -> float:
    """Returns the dollars that the pools below a folder have cost or may have cost.

    Args:
        parent: The folder that holds the pools.
        except_folder: Folder of the pool that is not counted.
    """
    folders = [path.parent for path in parent.glob("*/journal") if path.parent != except_folder]
    return sum(map(_pool_usd, sorted(folders)))


def _pool_usd(folder: Path) -> float:
    """Returns what the requests of a pool have cost, and what calls that it lost may have cost."""
    spent_usd = 0.0
    committed_ids = set()
    for path in sorted((folder / "journal").glob("*.jsonl")):
        for line in iter_json_lines(path):
            facts = line.get("facts", {})
            spent_usd += facts.get("cost_usd") or 0.0
            spent_usd += facts.get("cost_possible_usd") or 0.0
            if line["outcome"] in FINAL_OUTCOMES:
                committed_ids.add(line["image_id"])
    return spent_usd + unsettled_usd(folder, committed_ids=committed_ids)
