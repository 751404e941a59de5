"""The jobs of a study: which there are, in which order, and under which configuration."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from xraysynth.config import Config
from xraysynth.manifest import Manifest
from xraysynth.mixing import required_per_class
from xraysynth.recipes import MixMode
from xraysynth.stages import evaluate, generate, train


@dataclass(frozen=True)
class Step:
    """One stage with its own configuration."""

    title: str
    stage: ModuleType
    config: Config
    overrides: tuple[str, ...]


def steps(config: Config, cohort: Manifest, overrides: Sequence[str]) -> Iterator[Step]:
    """The jobs after prepare, in dependency order."""
    kept = tuple(
        text for text in overrides if not text.startswith(("study.", "generator=", "seed="))
    )
    config = with_count(config, cohort)
    count = f"generate.per_class={config.generate.per_class}"
    for key in config.generator:
        one = replace(config, generator={key: config.generator[key]})
        yield Step(f"generate {key}", generate, one, (*kept, f"generator={key}", count))
    for arm in arms(config):
        for seed in config.study.seeds:
            own = (*kept, *arm.overrides, count, f"seed={seed}")
            yield Step(
                f"train {arm.title}, seed {seed}", train, replace(arm.config, seed=seed), own
            )
    first = config.study.seeds[0]
    for key in config.generator:
        one = replace(config, generator={key: config.generator[key]}, seed=first)
        own = (*kept, f"generator={key}", count, f"seed={first}")
        yield Step(f"evaluate {key}", evaluate, one, own)


@dataclass(frozen=True)
class ArmConfig:
    """One way to train, for every seed."""

    generator: str
    config: Config

    @property
    def title(self) -> str:
        """For progress lines."""
        data = self.config.data
        return (
            f"{self.generator} {data.share:g} {data.mode.value}" if self.generator else "real only"
        )

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
        one = replace(config, generator={key: config.generator[key]})
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
