"""The arms of a study: one configuration for each kind of training set that its options ask for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from xraysynth.config import Config
from xraysynth.manifest import Manifest
from xraysynth.training.mixing import classes_missing_without
from xraysynth.training.recipe import Control, MixMode

REAL_ONLY = "real only"


@dataclass(frozen=True)
class ArmConfig:
    """One kind of training set; the classifier is trained on it once per training seed.

    Attributes:
        generator: Key of the generator whose images are mixed in; empty for real images only.
        config: The configuration of all trainings of the arm, which differ in their seed alone.
    """

    generator: str
    config: Config

    @property
    def title(self) -> str:
        """The name of the arm in progress lines and job names, unique within a study."""
        data = self.config.data
        title = REAL_ONLY
        if data.synthetic_fraction:
            mixed_images = self.generator or data.control.value
            title = f"{mixed_images} {data.synthetic_fraction:g} {data.mode.value}"
        if data.control is Control.permuted:
            title += ", labels permuted"
        if data.real_fraction < 1:
            title += f", {data.real_fraction:g} of the real images"
        if data.leave_out and data.control is Control.size_matched:
            title += f", size-matched to leaving out {data.leave_out}"
        elif data.leave_out:
            title += f", without {data.leave_out}"
        return title

    @property
    def overrides(self) -> tuple[str, ...]:
        """The command-line overrides (`option=value`) that turn the study's configuration into the arm's."""
        data = self.config.data
        selected_generator = (f"generator={self.generator}",) if self.generator else ()
        return (
            *selected_generator,
            f"data.synthetic_fraction={data.synthetic_fraction}",
            f"data.mode={data.mode.value}",
            f"data.control={data.control.value}",
            f"data.real_fraction={data.real_fraction}",
            f"data.leave_out={_quote_for_hydra(data.leave_out)}",
        )


def _quote_for_hydra(text: str) -> str:
    """Quote a text so that Hydra reads it back unchanged, whatever it contains."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # Hydra reads backslashes only before a quote.
    return f"'{escaped}'"


def build_arms(config: Config, cohort: Manifest) -> list[ArmConfig]:
    """List every arm of the study; the real-only arm of all real images comes first.

    The order is:

    1. real only, one arm per fraction of the real images;
    2. duplicate controls;
    3. for each generator: its images mixed with real ones, one arm per combination of real fraction,
       mode and synthetic fraction; its images alone; its permuted control;
    4. for each source that can be left out: real only without this source; the size-matched control,
       which has as few images, but of all sources.

    Args:
        config: The study's configuration.
        cohort: The prepared cohort, whose sources may be left out.
    """
    arms = _real_only_arms(config)
    arms += _duplicate_control_arms(config)
    for key in config.generator:
        arms += _generator_arms(config, key)
    for source in left_out_sources(config, cohort):
        arms.append(_build_arm(config, leave_out=source))
        arms.append(_build_arm(config, leave_out=source, control=Control.size_matched))
    return arms


def _real_only_arms(config: Config) -> list[ArmConfig]:
    """List one arm per fraction of the real images, from all images (always included) downwards."""
    fractions = sorted({1.0, *config.study.real_fractions}, reverse=True)
    return [_build_arm(config, real_fraction=fraction) for fraction in fractions]


def _duplicate_control_arms(config: Config) -> list[ArmConfig]:
    """List the controls that repeat real images where other arms have synthetic ones."""
    if "duplicate" not in config.study.controls:
        return []
    modes = _mix_modes(config)
    control_modes = []
    if MixMode.replace in modes:
        control_modes.append(MixMode.replace)
    if set(modes) - {MixMode.replace}:
        control_modes.append(MixMode.add)  # Mode pretrain adds as many images as mode add.
    return _mixed_arms(config, control_modes, control=Control.duplicate)


def _generator_arms(config: Config, key: str) -> list[ArmConfig]:
    """List the arms with images of one generator: mixed with real ones, alone, with permuted labels.

    Without real images, mode and real fraction make no difference, so there is one such arm at most.
    """
    study = config.study
    arms = _mixed_arms(config, _mix_modes(config), key=key)
    if 1 in study.synthetic_fractions and 1 in study.real_fractions:
        arms.append(_build_arm(config, key, synthetic_fraction=1.0))
    if "permuted" in study.controls and any(study.synthetic_fractions):
        arms.append(_permuted_control_arm(config, key))
    return arms


def _permuted_control_arm(config: Config, key: str) -> ArmConfig:
    """Build the generator's permuted control: the largest synthetic fraction below 1 in the first mode."""
    mixed_fractions = _mixed_fractions(config)
    if not mixed_fractions:
        return _build_arm(config, key, synthetic_fraction=1.0, control=Control.permuted)
    return _build_arm(
        config,
        key,
        synthetic_fraction=mixed_fractions[-1],
        mode=_mix_modes(config)[0],
        real_fraction=max(config.study.real_fractions),
        control=Control.permuted,
    )


def _mixed_arms(
    config: Config,
    modes: Sequence[MixMode],
    *,
    key: str = "",
    control: Control = Control.none,
) -> list[ArmConfig]:
    """List one arm per combination of real fraction, mode, and synthetic fraction between 0 and 1."""
    real_fractions = sorted(set(config.study.real_fractions), reverse=True)
    arms = []
    for real_fraction, mode, synthetic_fraction in product(
        real_fractions, modes, _mixed_fractions(config)
    ):
        arm = _build_arm(
            config,
            key,
            real_fraction=real_fraction,
            mode=mode,
            synthetic_fraction=synthetic_fraction,
            control=control,
        )
        arms.append(arm)
    return arms


def _mixed_fractions(config: Config) -> list[float]:
    """List the synthetic fractions at which real and synthetic images are mixed, ascending."""
    fractions = sorted(set(config.study.synthetic_fractions))
    return [fraction for fraction in fractions if 0 < fraction < 1]


def _mix_modes(config: Config) -> list[MixMode]:
    """List the modes of the study in the order given, each once."""
    return [MixMode(name) for name in dict.fromkeys(config.study.modes)]


def _build_arm(config: Config, key: str = "", **data_options: Any) -> ArmConfig:
    """Build the real-only arm, changed by options of the data recipe, with at most one generator."""
    data = replace(config.data.with_real_images_only(), **data_options)
    arm_config = with_one_generator(config, key) if key else config
    return ArmConfig(key, replace(arm_config, data=data))


def with_one_generator(config: Config, key: str) -> Config:
    """Return the configuration with only one of its generators."""
    return replace(config, generator={key: config.generator[key]})


def left_out_sources(config: Config, cohort: Manifest) -> list[str]:
    """List the sources without which an arm is trained, if study.leave_one_source_out is true."""
    return [
        source
        for source in _sources_to_leave_out(config, cohort)
        if not classes_missing_without(cohort, source)
    ]


def sources_not_left_out(config: Config, cohort: Manifest) -> dict[str, str]:
    """Return source -> sentence why study.leave_one_source_out cannot leave it out."""
    reasons = {}
    for source in _sources_to_leave_out(config, cohort):
        missing = classes_missing_without(cohort, source)
        if missing:
            reasons[source] = (
                f"study.leave_one_source_out cannot leave out {source}, because the other sources have "
                f"no {' and no '.join(missing)}"
            )
    return reasons


def _sources_to_leave_out(config: Config, cohort: Manifest) -> list[str]:
    """List all sources of the cohort; none unless study.leave_one_source_out is true."""
    if not config.study.leave_one_source_out:
        return []
    return sorted(cohort.table["source"].unique())
