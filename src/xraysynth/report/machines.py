"""Whether a generator fits on a small machine and how long it takes there: measured, estimated or not known.

Speed is never estimated: it is known only where it was measured on such a machine.
"""

from dataclasses import dataclass, replace

from xraysynth.generation.generators.base import ARCHIVE, SERVICES
from xraysynth.generation.ledger import Ledger
from xraysynth.report.content import PoolResults
from xraysynth.report.costs import NOT_APPLICABLE, NOT_MEASURED, Quantity
from xraysynth.report.formatting import format_count, format_quantity, is_finite

NOT_KNOWN = "not known"

MEMORY_MARGIN_MB = 1000
"""Memory that estimates leave free for the driver, the desktop and other programs."""

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}

SPEED_TITLES = ("time per image, median", "images per hour")


@dataclass(frozen=True)
class MachineProfile:
    """A kind of machine, described by the largest one of its kind.

    Attributes:
        name: Its name in tables.
        memory_mb: Memory that a model may take.
        cores: CPU cores of the largest such machine; 0 for a GPU.
        gpu_memory_mb: GPU memory of the largest such machine; 0 for a CPU.
    """

    name: str
    memory_mb: int
    cores: int = 0
    gpu_memory_mb: int = 0

    def matches(self, ledger: Ledger) -> bool:
        """Returns whether a ledger was measured on such a machine."""
        if _ran_on_gpu(ledger):
            return 0 < float(ledger.gpu_memory_mb or 0) <= self.gpu_memory_mb
        return 0 < int(ledger.cpu_cores or 0) <= self.cores


MACHINE_PROFILES = (
    MachineProfile("2-core CPU, 8 GB of memory", 8000, cores=2),
    MachineProfile("8 GB GPU", 8000, gpu_memory_mb=8600),  # 8 GiB are 8,590 MB
)

QuantitiesByName = dict[str, Quantity]


def _ran_on_gpu(ledger: Ledger) -> bool:
    """Returns whether a ledger was measured on a GPU.

    Ledgers of fine-tuning name no device; GPU memory that was taken shows that there was one.
    """
    device = ledger.device
    return str(device).startswith("cuda") if device else bool(ledger.peak_vram_mb)


def describe_machine(ledger: Ledger) -> str:
    """Returns the machine that a ledger was measured on, such as "CPU, 2 cores"."""
    if ledger == Ledger():
        return NOT_MEASURED
    if _ran_on_gpu(ledger):
        size = ledger.gpu_memory_mb
        return str(ledger.gpu or "a GPU") + (f", {size / 1000:.0f} GB" if size else "")
    if not ledger.cpu_cores:
        return "a CPU"
    return f"CPU, {format_count(ledger.cpu_cores, 'core')}"


def measured_performance(pool: PoolResults) -> QuantitiesByName:
    """Returns the speed and memory that were measured on the machine that made the images."""
    ledger, access = pool.ledger, pool.card.access
    if access == ARCHIVE:
        names = ("machine", *SPEED_TITLES, "peak memory")
        return dict.fromkeys(names, Quantity(text=NOT_APPLICABLE))
    is_service = access in SERVICES
    machine = _service_name(ledger) if is_service else describe_machine(ledger)
    return {
        "machine": Quantity(text=machine),
        "time per image, median": Quantity.from_value(ledger.seconds_p50, "s"),
        "images per hour": Quantity.from_value(ledger.images_per_hour, "count"),
        "peak memory": Quantity(text=NOT_APPLICABLE) if is_service else peak_memory(ledger),
    }


def expected_performance(pool: PoolResults, profile: MachineProfile) -> QuantitiesByName:
    """Returns what is known of a generator's speed and memory on a machine of a profile.

    Args:
        pool: The generator's ledgers and card.
        profile: The kind of machine.
    """
    if pool.card.access in (*SERVICES, ARCHIVE):
        return _performance_elsewhere(pool)
    ledger = pool.ledger
    measured = measured_performance(pool)
    expected = {"fits in memory": fits_in_memory(ledger, profile)}
    for title in SPEED_TITLES:
        expected[title] = _if_measured_on(measured[title], ledger, profile)
    if not pool.finetuning:
        not_applicable = Quantity(text=NOT_APPLICABLE)
        return expected | {"fine-tuning": not_applicable, "fine-tuning fits": not_applicable}
    finetuning = pool.finetuning.ledger
    seconds = Quantity.from_value(finetuning.seconds, "s")
    # The ledger of the fine-tuning does not describe the model, that of its images does.
    with_model = replace(finetuning, parameters=ledger.parameters, dtype=ledger.dtype)
    return expected | {
        "fine-tuning": _if_measured_on(seconds, finetuning, profile),
        "fine-tuning fits": fits_in_memory(with_model, profile),
    }


def _performance_elsewhere(pool: PoolResults) -> QuantitiesByName:
    """Returns the performance where nothing is computed: by a service, or for images that exist."""
    measured = measured_performance(pool)
    is_service = pool.card.access in SERVICES
    note = "computed by the service" if is_service else "the images already exist"
    expected = {"fits in memory": Quantity(text="yes", note=note)}
    for title in SPEED_TITLES:
        expected[title] = _with_note(measured[title], _service_name(pool.ledger))
    not_applicable = Quantity(text=NOT_APPLICABLE)
    return expected | {"fine-tuning": not_applicable, "fine-tuning fits": not_applicable}


def _service_name(ledger: Ledger) -> str:
    return str(ledger.device or "the service")


def _if_measured_on(amount: Quantity, ledger: Ledger, profile: MachineProfile) -> Quantity:
    """Returns a measured number if it was measured on such a machine, and "not known" otherwise."""
    if not profile.matches(ledger) or amount.value is None:
        return Quantity(text=NOT_KNOWN)
    return _with_note(amount, describe_machine(ledger))


def _with_note(amount: Quantity, note: str) -> Quantity:
    return replace(amount, note=note) if amount.value is not None else amount


def peak_memory(ledger: Ledger) -> Quantity:
    """Returns the peak memory: GPU memory on a GPU, and that of the whole process elsewhere."""
    if _ran_on_gpu(ledger):
        return Quantity.from_value(ledger.peak_vram_mb, "MB", note="GPU memory")
    return Quantity.from_value(ledger.peak_rss_mb, "MB")


def fits_in_memory(ledger: Ledger, profile: MachineProfile) -> Quantity:
    """Returns whether a generator fits into the memory of a machine: yes, no or not known.

    Measured on such a machine, its peak memory decides. Otherwise, weights that are too large in half
    precision do not fit, and a peak that was measured elsewhere decides with a margin. The peak of a
    CPU is that of the whole process, which is more than a GPU would have to hold.

    Args:
        ledger: What was measured, and the model's parameters.
        profile: The kind of machine.
    """
    needed_mb, note = _required_memory_mb(ledger, profile)
    weights_mb = _half_precision_weights_mb(ledger)
    if needed_mb is not None and profile.matches(ledger):
        answer = "yes" if needed_mb <= profile.memory_mb else "no"
        return Quantity(text=answer, how="measured", note=note)
    if weights_mb > profile.memory_mb:
        note = f"weights alone take {format_quantity(weights_mb, 'MB')} in half precision"
        return Quantity(text="no", how="estimated", note=note)
    if needed_mb is None or needed_mb > profile.memory_mb - MEMORY_MARGIN_MB:
        return Quantity(text=NOT_KNOWN)
    return Quantity(text="yes", how="estimated", note=f"from {note}")


def _required_memory_mb(ledger: Ledger, profile: MachineProfile) -> tuple[float | None, str]:
    """Returns the memory that generation takes on such a machine, and what it was measured on."""
    process_mb, gpu_mb = ledger.peak_rss_mb, ledger.peak_vram_mb
    machine = describe_machine(ledger)
    if not _ran_on_gpu(ledger):
        if not is_finite(process_mb):
            return None, ""
        scope = " for the whole process" if profile.gpu_memory_mb else ""
        return float(process_mb or 0), f"{format_quantity(process_mb, 'MB')}{scope} on {machine}"
    if is_finite(gpu_mb) and profile.gpu_memory_mb:
        return float(gpu_mb or 0), f"{format_quantity(gpu_mb, 'MB')} on {machine}"
    if is_finite(gpu_mb) and is_finite(process_mb):
        widening = 4 / BYTES_PER_PARAMETER.get(str(ledger.dtype), 2)  # a CPU may need float32
        needed_mb = float(process_mb or 0) + widening * float(gpu_mb or 0)
        size = format_quantity(needed_mb, "MB")
        return needed_mb, f"{size} at full precision, from the peaks on {machine}"
    return None, ""


def _half_precision_weights_mb(ledger: Ledger) -> float:
    """Returns the size of the model's weights in half precision."""
    parameters = ledger.parameters
    return float(parameters or 0) * BYTES_PER_PARAMETER["float16"] / 1e6
