"""Whether a generator fits on a small machine and how long it takes there: measured, estimated or not known.

Speed is never estimated: what nobody measured on such a machine is not known.
"""

from dataclasses import dataclass, replace

from xraysynth.generation.generators.base import ARCHIVE, SERVICES
from xraysynth.generation.ledger import Ledger
from xraysynth.report.content import PoolResults
from xraysynth.report.costs import NOT_APPLICABLE, NOT_MEASURED, Quantity
from xraysynth.report.formatting import format_quantity, is_finite

NOT_KNOWN = "not known"
MEMORY_MARGIN_MB = 1000
"""Of a machine's memory, for the driver, the desktop and the like: estimates leave it free."""

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class MachineProfile:
    """A machine, and the largest that is still called so: `cores`, or `gpu_memory_mb`."""

    name: str
    memory_mb: int
    cores: int = 0
    gpu_memory_mb: int = 0

    def matches(self, ledger: Ledger) -> bool:
        """Whether something was measured on such a machine."""
        if _ran_on_gpu(ledger):
            return 0 < float(ledger.gpu_memory_mb or 0) <= self.gpu_memory_mb
        return 0 < int(ledger.cpu_cores or 0) <= self.cores


MACHINE_PROFILES = (
    MachineProfile("2-core CPU, 8 GB of memory", 8000, cores=2),
    MachineProfile("8 GB GPU", 8000, gpu_memory_mb=8600),  # 8 GiB are 8,590 MB
)

QuantitiesByName = dict[str, Quantity]


def _ran_on_gpu(ledger: Ledger) -> bool:
    """By its device; fine-tuning, which names none, by the GPU memory that it took."""
    device = ledger.device
    return str(device).startswith("cuda") if device else bool(ledger.peak_vram_mb)


def describe_machine(ledger: Ledger) -> str:
    """What a ledger was measured on."""
    if ledger == Ledger():
        return NOT_MEASURED
    if _ran_on_gpu(ledger):
        size = ledger.gpu_memory_mb
        return str(ledger.gpu or "a GPU") + (f", {size / 1000:.0f} GB" if size else "")
    cores = ledger.cpu_cores
    return f"CPU, {cores} core{'s' * (cores != 1)}" if cores else "a CPU"


def measured_performance(pool: PoolResults) -> QuantitiesByName:
    """What was measured on the machine that made the images."""
    ledger, access = pool.ledger, pool.card.access
    if access == ARCHIVE:
        names = ("machine", "time per image, median", "images per hour", "peak memory")
        return dict.fromkeys(names, Quantity(text=NOT_APPLICABLE))
    service = access in SERVICES
    return {
        "machine": Quantity(text=_service_name(ledger) if service else describe_machine(ledger)),
        "time per image, median": Quantity.from_value(ledger.seconds_p50, "s"),
        "images per hour": Quantity.from_value(ledger.images_per_hour, "count"),
        "peak memory": Quantity(text=NOT_APPLICABLE) if service else peak_memory(ledger),
    }


def expected_performance(pool: PoolResults, profile: MachineProfile) -> QuantitiesByName:
    """What is known of a generator on a machine like that."""
    ledger = pool.ledger
    taught = pool.finetuning.ledger if pool.finetuning else Ledger()
    speed = {
        name: measured_performance(pool)[name]
        for name in ("time per image, median", "images per hour")
    }
    nothing = Quantity(text=NOT_APPLICABLE)
    if pool.card.access in (*SERVICES, ARCHIVE):  # as fast from any machine, or there already
        service = pool.card.access in SERVICES
        note = "computed by the service" if service else "the images already exist"
        speed = {name: _with_note(cell, _service_name(ledger)) for name, cell in speed.items()}
        fitting = {"fits in memory": Quantity(text="yes", note=note)}
        return fitting | speed | {"fine-tuning": nothing, "fine-tuning fits": nothing}
    # its own ledger says nothing of the model
    of_model = replace(taught, parameters=ledger.parameters, dtype=ledger.dtype)
    seconds = Quantity.from_value(taught.seconds, "s")
    return {
        "fits in memory": fits_in_memory(ledger, profile),
        **{name: _if_measured_on(cell, ledger, profile) for name, cell in speed.items()},
        "fine-tuning": _if_measured_on(seconds, taught, profile) if pool.finetuning else nothing,
        "fine-tuning fits": fits_in_memory(of_model, profile) if pool.finetuning else nothing,
    }


def _service_name(ledger: Ledger) -> str:
    return str(ledger.device or "the service")


def _if_measured_on(amount: Quantity, ledger: Ledger, profile: MachineProfile) -> Quantity:
    """A measured number, if it was measured on such a machine."""
    if not profile.matches(ledger) or amount.value is None:
        return Quantity(text=NOT_KNOWN)
    return _with_note(amount, describe_machine(ledger))


def _with_note(amount: Quantity, note: str) -> Quantity:
    return replace(amount, note=note) if amount.value is not None else amount


def peak_memory(ledger: Ledger) -> Quantity:
    """The most memory that was taken: on a GPU of the GPU's, elsewhere by the whole process."""
    if _ran_on_gpu(ledger):
        return Quantity.from_value(ledger.peak_vram_mb, "MB", note="GPU memory")
    return Quantity.from_value(ledger.peak_rss_mb, "MB")


def fits_in_memory(ledger: Ledger, profile: MachineProfile) -> Quantity:
    """Whether it fits into the memory of a profile: where it was measured, or by what is measured elsewhere.

    Weights that are too large in half precision do not fit; more than they take while they draw is
    judged by the peaks: on a CPU of the whole process, which is more than a GPU would have to hold.
    """
    needed, note = _required_memory_mb(ledger, profile)
    weights = _half_precision_weights_mb(ledger)
    if needed is not None and profile.matches(ledger):
        words = "yes" if needed <= profile.memory_mb else "no"
        return Quantity(text=words, how="measured", note=note)
    if weights > profile.memory_mb:
        note = f"weights alone take {format_quantity(weights, 'MB')} in half precision"
        return Quantity(text="no", how="estimated", note=note)
    if needed is None or needed > profile.memory_mb - MEMORY_MARGIN_MB:
        return Quantity(text=NOT_KNOWN)
    return Quantity(text="yes", how="estimated", note=f"from {note}")


def _required_memory_mb(ledger: Ledger, profile: MachineProfile) -> tuple[float | None, str]:
    """Memory that drawing takes there, and what says so."""
    process, gpu = ledger.peak_rss_mb, ledger.peak_vram_mb
    on_gpu, where = _ran_on_gpu(ledger), describe_machine(ledger)
    if on_gpu and is_finite(gpu) and profile.gpu_memory_mb:
        return float(gpu or 0), f"{format_quantity(gpu, 'MB')} on {where}"
    if on_gpu and is_finite(gpu) and is_finite(process):  # a CPU may want full precision
        wider = 4 / BYTES_PER_PARAMETER.get(str(ledger.dtype), 2)
        needed = float(process or 0) + wider * float(gpu or 0)
        return (
            needed,
            f"{format_quantity(needed, 'MB')} at full precision, from the peaks on {where}",
        )
    if not on_gpu and is_finite(process):
        whose = " for the whole process" if profile.gpu_memory_mb else ""
        return float(process or 0), f"{format_quantity(process, 'MB')}{whose} on {where}"
    return None, ""


def _half_precision_weights_mb(ledger: Ledger) -> float:
    parameters = ledger.parameters
    return float(parameters or 0) * BYTES_PER_PARAMETER["float16"] / 1e6
