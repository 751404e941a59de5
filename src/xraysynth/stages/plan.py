"""The jobs of a study: which there are, in which order, and under which configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xraysynth.config import Config
from xraysynth.manifest import Manifest
from xraysynth.mixing import required_per_class
from xraysynth.recipes import MixMode
from xraysynth.stages import finetune, train

REAL_ONLY = "real only"


@dataclass(frozen=True)
class Step:
    """One stage with its own configuration; `needs` are the titles of steps that come before it."""

    title: str
    stage: str
    config: Config
    overrides: tuple[str, ...]
    needs: tuple[str, ...] = ()


def steps(config: Config, cohort: Manifest, overrides: Sequence[str]) -> list[Step]:
    """The jobs after prepare: those on which most others wait come first."""
    kept = tuple(
        text for text in overrides if not text.startswith(("study.", "generator=", "seed="))
    )
    config = with_count(config, cohort)
    count = f"generate.per_class={config.generate.per_class}"
    found = []
    for key in config.generator:
        own = (*_of(key, kept), f"generator={key}", count)
        found += _making(only(config, key), own)
    for arm in arms(config):
        needs: tuple[str, ...] = (f"generate {arm.generator}",) if arm.generator else ()
        for seed in config.study.seeds:
            title = f"train {arm.title}, seed {seed}"
            own = (*_of(arm.generator, kept), *arm.overrides, count, f"seed={seed}")
            found.append(Step(title, "train", replace(arm.config, seed=seed), own, needs))
    first = config.study.seeds[0]
    for key in config.generator:
        one = replace(only(config, key), seed=first)
        own = (*_of(key, kept), f"generator={key}", count, f"seed={first}")
        needs = (f"generate {key}", f"train {REAL_ONLY}, seed {first}")
        found.append(Step(f"evaluate {key}", "evaluate", one, own, needs))
    order = {"finetune": 0, "generate": 1, "train": 2, "evaluate": 3}
    return sorted(found, key=lambda step: order[step.stage])


def _of(key: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """Without the options of other generators, which cannot be set where these are not selected."""
    return tuple(
        text
        for text in overrides
        if not text.startswith("generator.") or text.startswith(f"generator.{key}.")
    )


def only(config: Config, key: str) -> Config:
    """The configuration with one of its generators."""
    return replace(config, generator={key: config.generator[key]})


def _making(config: Config, overrides: tuple[str, ...]) -> list[Step]:
    """A generator's pool, and before it the generator's own training where it learns."""
    (key,) = config.generator
    making = Step(f"generate {key}", "generate", config, overrides)
    if not finetune.untaught(config):
        return [making]
    first = Step(f"finetune {key}", "finetune", config, overrides)
    return [first, replace(making, needs=(first.title,))]


@dataclass(frozen=True)
class ArmConfig:
    """One way to train, for every seed."""

    generator: str
    config: Config

    @property
    def title(self) -> str:
        """For progress lines."""
        data = self.config.data
        return f"{self.generator} {data.share:g} {data.mode.value}" if self.generator else REAL_ONLY

    @property
    def overrides(self) -> tuple[str, ...]:
        """What tells this arm from the others."""
        data = self.config.data
        chosen = (f"generator={self.generator}",) if self.generator else ()
        return (*chosen, f"data.share={data.share:g}", f"data.mode={data.mode.value}")


def arms(config: Config) -> list[ArmConfig]:
    """Real-only, then every generator x mode x share; synthetic-only is in replace mode alone."""
    found = [ArmConfig("", train.real_only(config))]
    for key in config.generator:
        one = only(config, key)
        for mode in map(MixMode, config.study.modes):
            for share in sorted(set(config.study.shares)):
                if share > 0 and not (share == 1 and mode is MixMode.add):
                    data = replace(config.data, share=share, mode=mode)
                    found.append(ArmConfig(key, replace(one, data=data)))
    return found


def with_count(config: Config, cohort: Manifest) -> Config:
    """The configuration with as many images per class as the most demanding arm needs."""
    if config.generate.per_class is not None:
        return config
    real = cohort.split("train")
    needs = [
        required_per_class(real, share=arm.config.data.share, mode=arm.config.data.mode)
        for arm in arms(config)
    ]
    most = max(max(need.values()) for need in needs) or max(real.counts().values())
    return replace(config, generate=replace(config.generate, per_class=most))
