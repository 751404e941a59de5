"""The cohort, external test sets, generators and pools that a configuration names, each resolved once."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from xraysynth.config import Config
from xraysynth.data.audit import Audit
from xraysynth.data.cohort import SourceCollection
from xraysynth.generation import pool
from xraysynth.generation.generators.base import FinetunableGenerator, Generator
from xraysynth.jobs.job import Job, ResultLine
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord
from xraysynth.training.mixing import required_per_class
from xraysynth.training.recipe import MixMode

SHARED_PROPERTIES = (
    "collection",
    "external_collection",
    "cohort",
    "audit",
    "linked_patients",
    "external_test_set",
)
"""Properties that depend on the real images alone, so that workspaces with the same images share them."""


@dataclass(frozen=True)
class Workspace:
    """A configuration with everything it names, resolved when it is first asked for.

    Asking for the cohort or the external test sets prepares them if they are missing. Pools and
    fine-tuned weights are never made by asking for them. A workspace that is sent to another process
    takes nothing resolved along.

    Attributes:
        config: The options of the run.
        overrides: The `option=value` words that the user typed, for records and commands.
    """

    config: Config
    overrides: Sequence[str] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Workspace, (self.config, tuple(self.overrides))

    def with_config(self, config: Config, overrides: Sequence[str] | None = None) -> "Workspace":
        """Return a workspace for another configuration.

        Real images that this workspace has resolved are shared if both configurations select the same.

        Args:
            config: The other configuration.
            overrides: The command-line overrides that lead to it; None keeps those of this workspace.
        """
        workspace = Workspace(config, self.overrides if overrides is None else overrides)
        workspace.share_images(self)
        return workspace

    def share_images(self, other: "Workspace") -> None:
        """Take over the real images that another workspace has resolved, if both select the same."""
        from xraysynth.stages.prepare import SECTIONS

        options_of_images = attrgetter(*SECTIONS, "paths")
        if options_of_images(self.config) == options_of_images(other.config):
            resolved = vars(other)
            for name in SHARED_PROPERTIES:
                if name in resolved:
                    vars(self)[name] = resolved[name]

    def with_images(
        self, cohort: Manifest, external_test_set: Manifest | None = None
    ) -> "Workspace":
        """Return the workspace as if these images had been prepared; their audit is empty.

        Args:
            cohort: The images of all splits.
            external_test_set: Images of external test sets, in split "test"; None for none.
        """
        workspace = Workspace(self.config, self.overrides)
        vars(workspace).update(
            cohort=cohort, audit=Audit(), linked_patients=[], external_test_set=external_test_set
        )
        return workspace

    def command(self, stage: str, *extra_overrides: str) -> str:
        """Return the command line that runs a stage with this configuration, for a POSIX shell."""
        return shlex.join(["xraysynth", *stage.split(), *self.overrides, *extra_overrides])

    def run_job(
        self,
        job: Job,
        work: Callable[[], Any],
        *,
        on_other_ranks: Callable[[], object] | None = None,
    ) -> ResultLine:
        """Run a job unless it is done (`Job.run`), and record the configuration with it.

        Args:
            job: The job.
            work: Does the work and returns the result, a dataclass.
            on_other_ranks: What processes other than the first do meanwhile, if they take part.
        """
        config = self.config.to_dict()
        return job.run(work, config=config, overrides=self.overrides, on_other_ranks=on_other_ranks)

    @property
    def output(self) -> Path:
        """The folder below which every stage writes."""
        return self.config.output

    @property
    def cache(self) -> Path:
        """The folder of files that can be computed again from the other outputs."""
        return self.output / "cache"

    @cached_property
    def collection(self) -> SourceCollection:
        """The sources of the cohort, and the images that they list."""
        return SourceCollection.from_sources(self.config.sources(), self.config.classes)

    @cached_property
    def external_collection(self) -> SourceCollection | None:
        """The sources of the external test sets and the images that they list; None without any."""
        if not self.config.test_source:
            return None
        return SourceCollection.from_sources(self.config.test_sources(), self.config.classes)

    @cached_property
    def cohort(self) -> Manifest:
        """The cohort, which is prepared if it is missing."""
        from xraysynth.stages import prepare

        return prepare.prepare_cohort(self)

    @cached_property
    def audit(self) -> Audit:
        """The audit of the prepared cohort."""
        from xraysynth.stages import prepare

        return prepare.load_audit(self)

    @cached_property
    def linked_patients(self) -> Sequence[Sequence[str]]:
        """Groups of patient keys; near-duplicate images show that each group is one person."""
        from xraysynth.stages import prepare

        return prepare.resolve_linked_patients(self.cohort, self.audit)

    @cached_property
    def external_test_set(self) -> Manifest | None:
        """The images of all external test sets, in split "test"; None where none is selected."""
        from xraysynth.stages import prepare

        return prepare.prepare_external_test_set(self)

    @cached_property
    def generators_to_finetune(self) -> dict[str, FinetunableGenerator]:
        """The selected generators that the finetune stage trains, by name.

        A generator whose fine-tuned weights are named in the configuration is not among them.
        """
        finetunable: dict[str, FinetunableGenerator] = {}
        for name, generator in self.config.generators().items():
            if isinstance(generator, FinetunableGenerator) and generator.needs_finetuning:
                finetunable[name] = generator
        return finetunable

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """The selected generators by name; one that is fine-tuned points at the weights of its job."""
        from xraysynth.stages import finetune

        generators = self.config.generators()
        # Without a generator to fine-tune, the cohort need not be there for this property.
        for name, generator in self.generators_to_finetune.items():
            job = finetune.build_job(self, name)
            generators[name] = generator.with_weights(job.key, job.folder)
        return generators

    @cached_property
    def images_per_class(self) -> dict[str, int]:
        """The number of images of each class that every pool must hold."""
        config = self.config
        if config.generate.per_class is not None:
            return dict.fromkeys(config.classes, config.generate.per_class)
        # A synthetic fraction of 0 needs no pool; one that is asked for all the same suits synthetic only.
        fraction, mode = config.data.synthetic_fraction, config.data.mode
        if fraction == 0:
            fraction, mode = 1.0, MixMode.replace
        return required_per_class(
            self.cohort.split("train"),
            synthetic_fraction=fraction,
            mode=mode,
            n_pools=max(1, len(config.generator)),
        )

    def pool_store(self, name: str) -> ImageStore:
        """Return the store in which the pool of a selected generator lies."""
        config = self.config
        return pool.pool_store(
            self.generators[name],
            config.prompts,
            seed=config.generate.seed,
            parent=self.output / "pools",
        )

    def learning_record(self, name: str) -> LearningRecord | None:
        """Load the images and patients that a selected generator has learned from; None for none.

        The record of its pool counts, and if that was deleted the one beside the generator's weights.
        """
        in_pool = pool.read_learning_record(self.pool_store(name))
        return in_pool or self.generators[name].learning_record()

    def pools(
        self,
        images_per_class: Mapping[str, int] | None = None,
        *,
        read: Callable[..., Manifest] = pool.read_images,
    ) -> dict[str, Manifest]:
        """Load the pools of the selected generators, by name.

        Args:
            images_per_class: How many images of each class to take; by default `self.images_per_class`.
            read: `pool.read_images` verifies the files, `pool.list_images` only lists them.

        Raises:
            XraysynthError: If a pool is missing or too small; the message has the command that fills it.
        """
        counts = images_per_class or self.images_per_class
        command = self.command("generate")
        pools = {}
        for name in self.generators:
            store = self.pool_store(name)
            pools[name] = read(store, self.config.classes, per_class=counts, command=command)
        return pools


_images_of_run: dict[str, Workspace] = {}
"""The real images of the run whose job this process did last."""


@contextmanager
def job_workspace(workspace: Workspace, run: str) -> Iterator[Workspace]:
    """Give a job a workspace of its own, with the real images that this process has resolved before.

    A model that the job's generator loads is freed with the job's workspace.

    Args:
        workspace: The configuration of the job.
        run: Names the run of several jobs. Images are shared within a run alone: afterwards, somebody
            may have changed them.
    """
    own = workspace.with_config(workspace.config)
    if run in _images_of_run:
        own.share_images(_images_of_run[run])
    yield own
    _images_of_run.clear()
    _images_of_run[run] = own.with_config(own.config)
