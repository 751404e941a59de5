"""What a configuration names, each resolved once: cohort, external test sets, generators, pools."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xraysynth.config import Config
from xraysynth.data.audit import Audit
from xraysynth.data.cohort import Collection
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, Learner
from xraysynth.jobs.job import Job, Line
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.training.mixing import required_per_class
from xraysynth.training.recipe import MixMode

RESOLVED = ("collection", "external_collection", "cohort", "audit", "linked", "external")
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

    def derive(self, config: Config, overrides: Sequence[str] | None = None) -> "Workspace":
        """The workspace of a configuration that has the same real images; they are resolved once."""
        from xraysynth.stages.prepare import SECTIONS

        other = Workspace(config, self.overrides if overrides is None else overrides)
        if all(
            getattr(config, name) == getattr(self.config, name) for name in (*SECTIONS, "paths")
        ):
            other.__dict__.update({n: self.__dict__[n] for n in RESOLVED if n in self.__dict__})
        return other

    def with_images(self, cohort: Manifest, external: Manifest | None = None) -> "Workspace":
        """The workspace as it were with these images, which have not been audited."""
        other = Workspace(self.config, self.overrides)
        other.__dict__.update(cohort=cohort, audit=Audit(), linked=[], external=external)
        return other

    def command(self, stage: str, *more: str) -> str:
        """The command line that runs a stage with these options."""
        return " ".join([f"xraysynth {stage}", *self.overrides, *more])

    def perform(
        self,
        job: Job,
        work: Callable[[], Any],
        *,
        beside: Callable[[], object] | None = None,
    ) -> Line:
        """Do a job unless it is done (`Job.run`), with the configuration in its record."""
        config = self.config.plain()
        return job.run(work, config=config, overrides=self.overrides, beside=beside)

    @property
    def output(self) -> Path:
        """The folder that takes everything that is made."""
        return self.config.output

    @property
    def cache(self) -> Path:
        """The folder of what can be made again from the rest."""
        return self.output / "cache"

    @cached_property
    def collection(self) -> Collection:
        """The selected sources, and the images that they list."""
        return Collection.read(self.config.sources(), self.config.classes)

    @cached_property
    def external_collection(self) -> Collection | None:
        """The same of the external test sets; None where none is chosen."""
        if not self.config.test_source:
            return None
        return Collection.read(self.config.test_sources(), self.config.classes)

    @cached_property
    def cohort(self) -> Manifest:
        """The prepared cohort; prepares it if it is not there."""
        from xraysynth.stages import prepare

        return prepare.cohort(self)

    @cached_property
    def audit(self) -> Audit:
        """The audit of the prepared cohort."""
        from xraysynth.stages import prepare

        return prepare.audit_of(self)

    @cached_property
    def linked(self) -> Sequence[Sequence[str]]:
        """Keys of the patients who are one person, a list for each person of several patients."""
        from xraysynth.stages import prepare

        return prepare.same_persons(self.cohort, self.audit)

    @cached_property
    def external(self) -> Manifest | None:
        """The external test sets, all in split test; None where none is chosen."""
        from xraysynth.stages import prepare

        return prepare.external(self)

    @cached_property
    def learners(self) -> dict[str, Learner]:
        """The selected generators that learn here: those whose weights are not given."""
        found = self.config.generators()
        return {n: g for n, g in found.items() if isinstance(g, Learner) and g.untaught}

    @cached_property
    def generators(self) -> dict[str, Generator]:
        """The selected generators, those that learn bound to the weights they learn or have learned."""
        from xraysynth.stages import finetune

        found = self.config.generators()
        for name, learner in self.learners.items():  # most need no cohort to be known by
            job = finetune.job(self, name)
            found[name] = learner.taught(job.key, job.folder)
        return found

    @cached_property
    def per_class(self) -> dict[str, int]:
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

    def store(self, name: str) -> ImageStore:
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
        per_class: Mapping[str, int] | None = None,
        *,
        read: Callable[..., Manifest] = pool.read,
    ) -> dict[str, Manifest]:
        """The pools of the selected generators, verified; an error says how to make a missing one."""
        counts, command = per_class or self.per_class, self.command("generate")
        return {
            name: read(self.store(name), self.config.classes, per_class=counts, command=command)
            for name in self.generators
        }
