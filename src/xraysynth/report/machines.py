"""Whether a generator fits on a small machine and how long it takes there: measured, estimated or not known.

Speed is never estimated: what nobody measured on such a machine is not known.
"""

from dataclasses import dataclass, replace

from xraysynth.generation.generators.base import ARCHIVE, SERVICES
from xraysynth.generation.ledger import Ledger
from xraysynth.report.content import PoolView
from xraysynth.report.costs import NOT_APPLICABLE, NOT_MEASURED, Quantity
from xraysynth.report.formatting import known, quantity

NOT_KNOWN = "not known"
MARGIN_MB = 1000
"""Of a machine's memory, for the driver, the desktop and the like: estimates leave it free."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Profile:
    """A machine, and the largest that is still called so: `cores`, or `gpu_memory_mb`."""

    name: str
    memory_mb: int
    cores: int = 0
    gpu_memory_mb: int = 0

    def is_that_of(self, ledger: Ledger) -> bool:
        """Whether something was measured on such a machine."""
        if _on_gpu(ledger):
            return 0 < float(ledger.gpu_memory_mb or 0) <= self.gpu_memory_mb
        return 0 < int(ledger.cpu_cores or 0) <= self.cores


PROFILES = (
    Profile("2-core CPU, 8 GB of memory", 8000, cores=2),
    Profile("8 GB GPU", 8000, gpu_memory_mb=8600),  # 8 GiB are 8,590 MB
)

Rows = dict[str, Quantity]


def _on_gpu(ledger: Ledger) -> bool:
    """By its device; fine-tuning, which names none, by the GPU memory that it took."""
    device = ledger.device
    return str(device).startswith("cuda") if device else bool(ledger.peak_vram_mb)


def machine(ledger: Ledger) -> str:
    """What a ledger was measured on."""
    if ledger == Ledger():
        return NOT_MEASURED
    if _on_gpu(ledger):
        size = ledger.gpu_memory_mb
        return str(ledger.gpu or "a GPU") + (f", {size / 1000:.0f} GB" if size else "")
    cores = ledger.cpu_cores
    return f"CPU, {cores} core{'s' * (cores != 1)}" if cores else "a CPU"


def here(pool: PoolView) -> Rows:
    """What was measured on the machine that made the images."""
    ledger, access = pool.ledger, pool.card.access
    if access == ARCHIVE:
        names = ("machine", "time per image, median", "images per hour", "peak memory")
        return dict.fromkeys(names, Quantity(words=NOT_APPLICABLE))
    service = access in SERVICES
    return {
        "machine": Quantity(words=_service(ledger) if service else machine(ledger)),
        "time per image, median": Quantity.of(ledger.seconds_p50, "s"),
        "images per hour": Quantity.of(ledger.images_per_hour, "count"),
        "peak memory": Quantity(words=NOT_APPLICABLE) if service else peak(ledger),
    }


def on(pool: PoolView, profile: Profile) -> Rows:
    """What is known of a generator on a machine like that."""
    ledger = pool.ledger
    taught = pool.taught.ledger if pool.taught else Ledger()
    speed = {name: here(pool)[name] for name in ("time per image, median", "images per hour")}
    nothing = Quantity(words=NOT_APPLICABLE)
    if pool.card.access in (*SERVICES, ARCHIVE):  # as fast from any machine, or there already
        service = pool.card.access in SERVICES
        note = "nothing is computed here" if service else "the images are there"
        speed = {name: _noted(cell, _service(ledger)) for name, cell in speed.items()}
        fitting = {"fits in memory": Quantity(words="yes", note=note)}
        return fitting | speed | {"fine-tuning": nothing, "fine-tuning fits": nothing}
    # its own ledger says nothing of the model
    of_model = replace(taught, parameters=ledger.parameters, dtype=ledger.dtype)
    seconds = Quantity.of(taught.seconds, "s")
    return {
        "fits in memory": fits(ledger, profile),
        **{name: _there(cell, ledger, profile) for name, cell in speed.items()},
        "fine-tuning": _there(seconds, taught, profile) if pool.taught else nothing,
        "fine-tuning fits": fits(of_model, profile) if pool.taught else nothing,
    }


def _service(ledger: Ledger) -> str:
    return str(ledger.device or "the service")


def _there(found: Quantity, ledger: Ledger, profile: Profile) -> Quantity:
    """A measured number, if it was measured on such a machine."""
    if not profile.is_that_of(ledger) or found.value is None:
        return Quantity(words=NOT_KNOWN)
    return _noted(found, machine(ledger))


def _noted(found: Quantity, note: str) -> Quantity:
    return replace(found, note=note) if found.value is not None else found


def peak(ledger: Ledger) -> Quantity:
    """The most memory that was taken: on a GPU of the GPU's, elsewhere by the whole process."""
    if _on_gpu(ledger):
        return Quantity.of(ledger.peak_vram_mb, "MB", note="of the GPU's")
    return Quantity.of(ledger.peak_rss_mb, "MB")


def fits(ledger: Ledger, profile: Profile) -> Quantity:
    """Whether it fits into the memory of a profile: where it was measured, or by what is measured elsewhere.

    Weights that are too large in half precision do not fit; more than they take while they draw is
    judged by the peaks: on a CPU of the whole process, which is more than a GPU would have to hold.
    """
    needed, note = _needed_mb(ledger, profile)
    weights = _half_precision_mb(ledger)
    if needed is not None and profile.is_that_of(ledger):
        words = "yes" if needed <= profile.memory_mb else "no"
        return Quantity(words=words, how="measured", note=note)
    if weights > profile.memory_mb:
        note = f"weights alone take {quantity(weights, 'MB')} in half precision"
        return Quantity(words="no", how="estimated", note=note)
    if needed is None or needed > profile.memory_mb - MARGIN_MB:
        return Quantity(words=NOT_KNOWN)
    return Quantity(words="yes", how="estimated", note=f"from {note}")


def _needed_mb(ledger: Ledger, profile: Profile) -> tuple[float | None, str]:
    """Memory that drawing takes there, and what says so."""
    process, gpu = ledger.peak_rss_mb, ledger.peak_vram_mb
    on_gpu, where = _on_gpu(ledger), machine(ledger)
    if on_gpu and known(gpu) and profile.gpu_memory_mb:
        return float(gpu or 0), f"{quantity(gpu, 'MB')} on {where}"
    if on_gpu and known(gpu) and known(process):  # a CPU may want full precision
        wider = 4 / BYTES.get(str(ledger.dtype), 2)
        needed = float(process or 0) + wider * float(gpu or 0)
        return needed, f"{quantity(needed, 'MB')} at full precision, by peaks on {where}"
    if not on_gpu and known(process):
        whose = " by the whole process" if profile.gpu_memory_mb else ""
        return float(process or 0), f"{quantity(process, 'MB')}{whose} on {where}"
    return None, ""


def _half_precision_mb(ledger: Ledger) -> float:
    parameters = ledger.parameters
    return float(parameters or 0) * BYTES["float16"] / 1e6
