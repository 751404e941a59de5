"""What a configuration names, each resolved once: cohort, external test sets, generators, pools."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
"""What does not depend on generators, seed or recipe, so that derived workspaces share it."""


@dataclass(frozen=True)
class Workspace:
    """A configuration, and what it names. `overrides` are its words, for records and commands.

    Asking for the cohort or the external test sets prepares them where they are not there; pools and
    fine-tuned weights are never made by asking for them. In another process all is resolved anew.
    """

    config: Config
    overrides: Sequence[str] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Workspace, (self.config, tuple(self.overrides))

    def with_config(self, config: Config, overrides: Sequence[str] | None = None) -> "Workspace":
        """The workspace of a configuration that has the same real images; they are resolved once."""
        from xraysynth.stages.prepare import SECTIONS

        other = Workspace(config, self.overrides if overrides is None else overrides)
        if all(
            getattr(config, name) == getattr(self.config, name) for name in (*SECTIONS, "paths")
        ):
            other.__dict__.update(
                {n: self.__dict__[n] for n in SHARED_PROPERTIES if n in self.__dict__}
            )
        return other

    def with_images(
        self, cohort: Manifest, external_test_set: Manifest | None = None
    ) -> "Workspace":
        """The workspace as it were with these images, which have not been audited."""
        other = Workspace(self.config, self.overrides)
        other.__dict__.update(
            cohort=cohort, audit=Audit(), linked_patients=[], external_test_set=external_test_set
        )
        return other

    def command(self, stage: str, *extra_overrides: str) -> str:
        """The command line that runs a stage with these options."""
        return " ".join([f"xraysynth {stage}", *self.overrides, *extra_overrides])

    def run_job(
        self,
        job: Job,
        work: Callable[[], Any],
        *,
        on_other_ranks: Callable[[], object] | None = None,
    ) -> ResultLine:
        """Do a job unless it is done (`Job.run`), with the configuration in its record."""
        config = self.config.to_dict()
        return job.run(work, config=config, overrides=self.overrides, on_other_ranks=on_other_ranks)

    @property
    def output(self) -> Path:
        """The folder that takes everything that is made."""
        return self.config.output

    @property
    def cache(self) -> Path:
        """The folder of what can be made again from the rest."""
        return self.output / "cache"

    @cached_property
    def collection(self) -> SourceCollection:
        """The selected sources, and the images that they list."""
        return SourceCollection.from_sources(self.config.sources(), self.config.classes)

    @cached_property
    def external_collection(self) -> SourceCollection | None:
        """The same of the external test sets; None where none is chosen."""
        if not self.config.test_source:
            return None
        return SourceCollection.from_sources(self.config.test_sources(), self.config.classes)

    @cached_property
    def cohort(self) -> Manifest:
        """The prepared cohort; prepares it if it is not there."""
        from xraysynth.stages import prepare

        return prepare.prepare_cohort(self)

    @cached_property
    def audit(self) -> Audit:
        """The audit of the prepared cohort."""
        from xraysynth.stages import prepare

        return prepare.load_audit(self)

    @cached_property
    def linked_patients(self) -> Sequence[Sequence[str]]:
        """Keys of the patients who are one person, a list for each person of several patients."""
        from xraysynth.stages import prepare

        return prepare.resolve_linked_patients(self.cohort, self.audit)

    @cached_property
    def external_test_set(self) -> Manifest | None:
        """The external test sets, all in split test; None where none is chosen."""
        from xraysynth.stages import prepare

        return prepare.prepare_external_test_set(self)

    @cached_property
    def generators_to_finetune(self) -> dict[str, FinetunableGenerator]:
        """The selected generators that learn here: those whose weights are not given."""
        found = self.config.generators()
        return {
            n: g
            for n, g in found.items()
            if isinstance(g, FinetunableGenerator) and g.needs_finetuning
        }

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """The selected generators, those that learn bound to the weights they learn or have learned."""
        from xraysynth.stages import finetune

        found = self.config.generators()
        for (
            name,
            learner,
        ) in self.generators_to_finetune.items():  # most need no cohort to be known by
            job = finetune.build_job(self, name)
            found[name] = learner.with_weights(job.key, job.folder)
        return found

    @cached_property
    def images_per_class(self) -> dict[str, int]:
        """Images of each class that each pool must hold."""
        config = self.config
        if config.generate.per_class is not None:
            return dict.fromkeys(config.classes, config.generate.per_class)
        # A fraction of 0 needs no pool; whoever asks for one all the same wants synthetic-only.
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
        """Where the pool of a selected generator lies."""
        config = self.config
        return pool.pool_store(
            self.generators[name],
            config.prompts,
            seed=config.generate.seed,
            parent=self.output / "pools",
        )

    def pools(
        self,
        images_per_class: Mapping[str, int] | None = None,
        *,
        read: Callable[..., Manifest] = pool.read_images,
    ) -> dict[str, Manifest]:
        """The pools of the selected generators, verified; an error says how to make a missing one."""
        counts, command = images_per_class or self.images_per_class, self.command("generate")
        return {
            name: read(
                self.pool_store(name), self.config.classes, per_class=counts, command=command
            )
            for name in self.generators
        }
