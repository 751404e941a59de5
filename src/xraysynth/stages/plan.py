"""The jobs of a study: which there are, in which order, and under which configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from xraysynth.config import Config
from xraysynth.manifest import Manifest
from xraysynth.stages import finetune, train
from xraysynth.training.mixing import gone, required_per_class
from xraysynth.training.recipe import Control, MixMode

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
    chosen = tuple(text for text in overrides if not text.startswith(("study.", "seed=")))
    found = [Step("probe cohort", "probe", config, chosen)]
    for key in config.generator:
        own = (*_of(key, kept), f"generator={key}", count)
        found += _making(only(config, key), own)
    for arm in arms(config, cohort):
        needs: tuple[str, ...] = (f"generate {arm.generator}",) if arm.generator else ()
        for seed in config.study.seeds:
            title = f"train {arm.title}, seed {seed}"
            own = (*_of(arm.generator, kept), *arm.overrides, count, f"seed={seed}")
            found.append(Step(title, "train", replace(arm.config, seed=seed), own, needs))
    found += [_measuring_step(config, key, kept, count) for key in config.generator]
    order = {"probe": 0, "finetune": 1, "generate": 2, "train": 3, "evaluate": 4}
    return sorted(found, key=lambda step: order[step.stage])


def _measuring_step(config: Config, key: str, kept: tuple[str, ...], count: str) -> Step:
    one = measuring(config, key)
    seeds = one.evaluate.classifier_seeds
    listed = f"evaluate.classifier_seeds=[{','.join(map(str, seeds))}]"
    own = (*_of(key, kept), f"generator={key}", count, listed, f"seed={one.seed}")
    trained = (f"train {REAL_ONLY}, seed {seed}" for seed in seeds)
    return Step(f"evaluate {key}", "evaluate", one, own, (f"generate {key}", *trained))


def measuring(config: Config, key: str) -> Config:
    """The configuration that a generator's pool is measured with: by the real-only runs of all seeds."""
    seeds = list(config.study.seeds)
    evaluate = replace(config.evaluate, classifier_seeds=seeds)
    return replace(only(config, key), evaluate=evaluate, seed=seeds[0])


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
    """One way to train, for every seed; `generator` is empty where only real images are seen."""

    generator: str
    config: Config

    @property
    def title(self) -> str:
        """For progress lines."""
        data = self.config.data
        title = REAL_ONLY
        if data.share:
            who = self.generator or data.control.value
            title = f"{who} {data.share:g} {data.mode.value}"
        if data.control is Control.permuted:
            title += ", labels permuted"
        if data.real_fraction < 1:
            title += f", {data.real_fraction:g} of the real images"
        if not data.leave_out:
            return title
        matched = data.control is Control.size_matched
        how = "size-matched to leaving out" if matched else "without"
        return f"{title}, {how} {data.leave_out}"

    @property
    def overrides(self) -> tuple[str, ...]:
        """What tells this arm from the others."""
        data = self.config.data
        chosen = (f"generator={self.generator}",) if self.generator else ()
        return (
            *chosen,
            f"data.share={data.share}",
            f"data.mode={data.mode.value}",
            f"data.control={data.control.value}",
            f"data.real_fraction={data.real_fraction}",
            f"data.leave_out={_quoted(data.leave_out)}",
        )


def _quoted(text: str) -> str:
    """A text as Hydra reads it back, whatever is in it."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # backslashes count only before a quote
    return f"'{escaped}'"


def arms(config: Config, cohort: Manifest) -> list[ArmConfig]:
    """Every arm of the study, the real-only one of all real images first.

    For each fraction of the real images: real only, then the duplicate controls, then every
    generator x mode x share. Synthetic-only is in replace mode alone, and alone where no real image
    is kept from it (fraction 1). The permuted control is one per generator: of the largest share
    below 1 in the first mode. Last, for each data set a real-only arm without it, and one that is as
    small but has images of all.
    """
    study = config.study
    fractions = sorted(set(study.real_fractions), reverse=True)
    found = [_arm(config, real_fraction=fraction) for fraction in sorted({1.0, *fractions})[::-1]]
    if "duplicate" in study.controls:
        mixes = _mixes(config, _repeated(config))
        found += [_arm(config, control=Control.duplicate, **mix) for mix in mixes]
    for key in config.generator:
        found += [_arm(config, key, **mix) for mix in _mixes(config, _modes(config))]
        if 1 in study.shares and 1 in fractions:
            found.append(_arm(config, key, share=1.0))
        if "permuted" in study.controls and any(study.shares):
            found.append(_permuted(config, key))
    for source in left_out(config, cohort):
        found.append(_arm(config, leave_out=source))
        found.append(_arm(config, leave_out=source, control=Control.size_matched))
    return found


def _arm(config: Config, key: str = "", **changes: Any) -> ArmConfig:
    """Real only, but for the changes to its data."""
    base = train.real_only(only(config, key) if key else config)
    return ArmConfig(key, replace(base, data=replace(base.data, **changes)))


def _mixes(config: Config, modes: Sequence[MixMode]) -> list[dict[str, Any]]:
    """Every fraction x mode x share at which real and synthetic images meet."""
    fractions = sorted(set(config.study.real_fractions), reverse=True)
    return [
        {"real_fraction": fraction, "mode": mode, "share": share}
        for fraction in fractions
        for mode in modes
        for share in _hybrid(config)
    ]


def _hybrid(config: Config) -> list[float]:
    return [share for share in sorted(set(config.study.shares)) if 0 < share < 1]


def _modes(config: Config) -> list[MixMode]:
    return [MixMode(name) for name in dict.fromkeys(config.study.modes)]


def _repeated(config: Config) -> list[MixMode]:
    """Modes of the duplicate controls: those of pretrain have as many repeats as those of add."""
    replaces = [mode is MixMode.replace for mode in _modes(config)]
    return [MixMode.replace] * any(replaces) + [MixMode.add] * (not all(replaces))


def _permuted(config: Config, key: str) -> ArmConfig:
    hybrid = _hybrid(config)
    share, mode = (hybrid[-1], _modes(config)[0]) if hybrid else (1.0, MixMode.replace)
    fraction = max(config.study.real_fractions) if hybrid else 1.0
    return _arm(
        config, key, share=share, mode=mode, real_fraction=fraction, control=Control.permuted
    )


def left_out(config: Config, cohort: Manifest) -> list[str]:
    """Data sets that arms of the study are trained without."""
    sources = sorted(cohort.table["source"].unique()) if config.study.leave_one_source_out else []
    return [source for source in sources if not gone(cohort, source)]


def kept_in(config: Config, cohort: Manifest) -> dict[str, str]:
    """Data sets that study.leave_one_source_out cannot leave out, and why."""
    sources = sorted(cohort.table["source"].unique()) if config.study.leave_one_source_out else []
    gaps = {source: gone(cohort, source) for source in sources}
    return {
        source: f"no arm without {source}: it would leave no {', no '.join(missing)}"
        for source, missing in gaps.items()
        if missing
    }


def with_count(config: Config, cohort: Manifest) -> Config:
    """The configuration with as many images per class as the most demanding arm needs."""
    if config.generate.per_class is not None:
        return config
    most = max(
        (_needs(arm.config, cohort) for arm in arms(config, cohort) if arm.generator), default=0
    )
    most = most or max(cohort.split("train").counts().values())
    return replace(config, generate=replace(config.generate, per_class=most))


def _needs(config: Config, cohort: Manifest) -> int:
    data, real = config.data, train.used(config, cohort).split("train")
    return max(required_per_class(real, share=data.share, mode=data.mode).values())
