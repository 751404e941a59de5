"""The jobs of a study: which there are, in which order, and under which configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from xraysynth.config import Config
from xraysynth.manifest import Manifest
from xraysynth.stages import train
from xraysynth.stages._workspace import Workspace
from xraysynth.training.mixing import classes_missing_without
from xraysynth.training.recipe import Control, MixMode

REAL_ONLY = "real only"


@dataclass(frozen=True)
class Step:
    """One stage with its own configuration; `needs` are the titles of steps that come before it."""

    title: str
    stage: str
    workspace: Workspace
    needs: tuple[str, ...] = ()


STAGE_ORDER = ("probe", "finetune", "generate", "train", "evaluate")
"""Of the steps after prepare: those on which most others wait come first."""


def build_steps(workspace: Workspace) -> list[Step]:
    """The steps of a study after prepare, each with the overrides that run it alone."""
    workspace = with_images_per_class(workspace)
    config = workspace.config
    chosen = _drop_overrides(workspace.overrides, "study.", "seed=")
    found = [Step("probe cohort", "probe", workspace.with_config(config, chosen))]
    for key in config.generator:
        found += _pool_steps(workspace, key)
    for arm in build_arms(config, workspace.cohort):
        found += _training_steps(workspace, arm)
    found += [_evaluation_step(workspace, key) for key in config.generator]
    return sorted(found, key=lambda step: STAGE_ORDER.index(step.stage))


def _training_steps(workspace: Workspace, arm: "ArmConfig") -> list[Step]:
    needs: tuple[str, ...] = (f"generate {arm.generator}",) if arm.generator else ()
    return [
        Step(
            f"train {arm.title}, seed {seed}",
            "train",
            workspace.with_config(
                replace(arm.config, seed=seed),
                _overrides(workspace, arm.generator, *arm.overrides, f"seed={seed}"),
            ),
            needs,
        )
        for seed in workspace.config.study.seeds
    ]


def _evaluation_step(workspace: Workspace, key: str) -> Step:
    measuring = evaluation_workspace(workspace, key)
    seeds = measuring.config.evaluate.classifier_seeds
    trained = (f"train {REAL_ONLY}, seed {seed}" for seed in seeds)
    return Step(f"evaluate {key}", "evaluate", measuring, (f"generate {key}", *trained))


def evaluation_workspace(workspace: Workspace, key: str) -> Workspace:
    """The workspace that a generator's pool is measured in: by the real-only runs of all seeds."""
    config, seeds = workspace.config, list(workspace.config.study.seeds)
    evaluate = replace(config.evaluate, classifier_seeds=seeds)
    listed = f"evaluate.classifier_seeds=[{','.join(map(str, seeds))}]"
    return workspace.with_config(
        replace(_with_one_generator(config, key), evaluate=evaluate, seed=seeds[0]),
        _overrides(workspace, key, f"generator={key}", listed, f"seed={seeds[0]}"),
    )


def _pool_steps(workspace: Workspace, key: str) -> list[Step]:
    """A generator's pool, and before it the generator's own training where it learns."""
    overrides = _overrides(workspace, key, f"generator={key}")
    own = workspace.with_config(_with_one_generator(workspace.config, key), overrides)
    making = Step(f"generate {key}", "generate", own)
    if not own.generators_to_finetune:
        return [making]
    first = Step(f"finetune {key}", "finetune", own)
    return [first, replace(making, needs=(first.title,))]


def _overrides(workspace: Workspace, key: str, *extra: str) -> tuple[str, ...]:
    """The study's overrides and these, without the options of other generators.

    Those cannot be set where their generators are not selected.
    """
    kept = _drop_overrides(workspace.overrides, "study.", "generator=", "seed=")
    count = f"generate.per_class={workspace.config.generate.per_class}"
    of_key = (
        text
        for text in kept
        if not text.startswith("generator.") or text.startswith(f"generator.{key}.")
    )
    return (*of_key, *extra, count)


def _drop_overrides(overrides: Sequence[str], *prefixes: str) -> tuple[str, ...]:
    return tuple(text for text in overrides if not text.startswith(prefixes))


def _with_one_generator(config: Config, key: str) -> Config:
    """The configuration with one of its generators."""
    return replace(config, generator={key: config.generator[key]})


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
        if data.synthetic_fraction:
            who = self.generator or data.control.value
            title = f"{who} {data.synthetic_fraction:g} {data.mode.value}"
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
            f"data.synthetic_fraction={data.synthetic_fraction}",
            f"data.mode={data.mode.value}",
            f"data.control={data.control.value}",
            f"data.real_fraction={data.real_fraction}",
            f"data.leave_out={_quote_for_hydra(data.leave_out)}",
        )


def _quote_for_hydra(text: str) -> str:
    """A text as Hydra reads it back, whatever is in it."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # backslashes count only before a quote
    return f"'{escaped}'"


def build_arms(config: Config, cohort: Manifest) -> list[ArmConfig]:
    """Every arm of the study, the real-only one of all real images first.

    For each fraction of the real images: real only, then the duplicate controls, then every
    generator x mode x share. Synthetic-only is in replace mode alone, and alone where no real image
    is kept from it (fraction 1). The permuted control is one per generator: of the largest share
    below 1 in the first mode. Last, for each data set a real-only arm without it, and one that is as
    small but has images of all.
    """
    study = config.study
    fractions = sorted(set(study.real_fractions), reverse=True)
    found = [
        _build_arm(config, real_fraction=fraction) for fraction in sorted({1.0, *fractions})[::-1]
    ]
    if "duplicate" in study.controls:
        mixes = _mix_settings(config, _duplicate_control_modes(config))
        found += [_build_arm(config, control=Control.duplicate, **mix) for mix in mixes]
    for key in config.generator:
        found += [
            _build_arm(config, key, **mix) for mix in _mix_settings(config, _mix_modes(config))
        ]
        if 1 in study.synthetic_fractions and 1 in fractions:
            found.append(_build_arm(config, key, synthetic_fraction=1.0))
        if "permuted" in study.controls and any(study.synthetic_fractions):
            found.append(_permuted_control_arm(config, key))
    for source in left_out_sources(config, cohort):
        found.append(_build_arm(config, leave_out=source))
        found.append(_build_arm(config, leave_out=source, control=Control.size_matched))
    return found


def _build_arm(config: Config, key: str = "", **changes: Any) -> ArmConfig:
    """Real only, but for the changes to its data."""
    base = _with_one_generator(config, key) if key else config
    return ArmConfig(key, replace(base, data=replace(base.data.with_real_images_only(), **changes)))


def _mix_settings(config: Config, modes: Sequence[MixMode]) -> list[dict[str, Any]]:
    """Every fraction x mode x share at which real and synthetic images meet."""
    fractions = sorted(set(config.study.real_fractions), reverse=True)
    return [
        {"real_fraction": fraction, "mode": mode, "synthetic_fraction": share}
        for fraction in fractions
        for mode in modes
        for share in _mixed_fractions(config)
    ]


def _mixed_fractions(config: Config) -> list[float]:
    return [share for share in sorted(set(config.study.synthetic_fractions)) if 0 < share < 1]


def _mix_modes(config: Config) -> list[MixMode]:
    return [MixMode(name) for name in dict.fromkeys(config.study.modes)]


def _duplicate_control_modes(config: Config) -> list[MixMode]:
    """Modes of the duplicate controls: those of pretrain have as many repeats as those of add."""
    replaces = [mode is MixMode.replace for mode in _mix_modes(config)]
    return [MixMode.replace] * any(replaces) + [MixMode.add] * (not all(replaces))


def _permuted_control_arm(config: Config, key: str) -> ArmConfig:
    hybrid = _mixed_fractions(config)
    share, mode = (hybrid[-1], _mix_modes(config)[0]) if hybrid else (1.0, MixMode.replace)
    fraction = max(config.study.real_fractions) if hybrid else 1.0
    return _build_arm(
        config,
        key,
        synthetic_fraction=share,
        mode=mode,
        real_fraction=fraction,
        control=Control.permuted,
    )


def left_out_sources(config: Config, cohort: Manifest) -> list[str]:
    """Data sets that arms of the study are trained without."""
    sources = sorted(cohort.table["source"].unique()) if config.study.leave_one_source_out else []
    return [source for source in sources if not classes_missing_without(cohort, source)]


def sources_not_left_out(config: Config, cohort: Manifest) -> dict[str, str]:
    """Data sets that study.leave_one_source_out cannot leave out, and why."""
    sources = sorted(cohort.table["source"].unique()) if config.study.leave_one_source_out else []
    gaps = {source: classes_missing_without(cohort, source) for source in sources}
    return {
        source: f"no arm without {source}: it would leave no {', no '.join(missing)}"
        for source, missing in gaps.items()
        if missing
    }


def with_images_per_class(workspace: Workspace) -> Workspace:
    """The workspace with as many images per class as the most demanding arm needs."""
    config, cohort = workspace.config, workspace.cohort
    if config.generate.per_class is not None:
        return workspace
    needs = (
        _required_images_per_class(arm.config, cohort)
        for arm in build_arms(config, cohort)
        if arm.generator
    )
    most = max(needs, default=0) or max(cohort.split("train").class_counts().values())
    return workspace.with_config(replace(config, generate=replace(config.generate, per_class=most)))


def _required_images_per_class(config: Config, cohort: Manifest) -> int:
    return max(train.build_training(config).required_per_class(cohort).values())
