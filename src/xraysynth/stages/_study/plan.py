"""The steps of a study: which stages run, in which order, and under which configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xraysynth.config import Config
from xraysynth.manifest import Manifest
from xraysynth.stages import train
from xraysynth.stages._study.arm_configs import (
    REAL_ONLY,
    ArmConfig,
    build_arms,
    with_one_generator,
)
from xraysynth.stages._workspace import Workspace


@dataclass(frozen=True)
class Step:
    """One run of a stage.

    Attributes:
        title: What the step does, for progress lines; unique within a study.
        stage: Name of the stage's module.
        workspace: The configuration that the stage runs with.
        needs: Titles of the steps that must have ended before this one begins.
    """

    title: str
    stage: str
    workspace: Workspace
    needs: tuple[str, ...] = ()


STAGE_ORDER = ("probe", "finetune", "generate", "train", "evaluate")
"""The stages after prepare; those that most other steps wait for come early."""


def build_steps(workspace: Workspace) -> list[Step]:
    """List the steps of a study after prepare, each with the overrides that run it alone.

    Args:
        workspace: The study's configuration; its cohort is prepared if it is missing.

    Returns:
        The steps by stage, in `STAGE_ORDER`: one probe step; per generator a generate step, with a
        finetune step if it needs one, and an evaluate step; per arm and seed a train step.
    """
    workspace = with_images_per_class(workspace)
    config = workspace.config
    steps = [_probe_step(workspace)]
    for key in config.generator:
        steps += _pool_steps(workspace, key)
    for arm in build_arms(config, workspace.cohort):
        steps += _training_steps(workspace, arm)
    for key in config.generator:
        steps.append(_evaluation_step(workspace, key))
    return sorted(steps, key=lambda step: STAGE_ORDER.index(step.stage))


def _probe_step(workspace: Workspace) -> Step:
    """Build the search for shortcuts in the cohort, which depends on no generator and no seed."""
    overrides = _drop_overrides(workspace.overrides, "study.", "seed=")
    return Step("probe cohort", "probe", workspace.with_config(workspace.config, overrides))


def _pool_steps(workspace: Workspace, key: str) -> list[Step]:
    """List the step that fills a generator's pool, after the step that fine-tunes it if that is needed."""
    overrides = _overrides_for_generator(workspace, key, f"generator={key}")
    config = with_one_generator(workspace.config, key)
    pool_workspace = workspace.with_config(config, overrides)
    generate_step = Step(f"generate {key}", "generate", pool_workspace)
    if not pool_workspace.generators_to_finetune:
        return [generate_step]
    finetune_step = Step(f"finetune {key}", "finetune", pool_workspace)
    return [finetune_step, replace(generate_step, needs=(finetune_step.title,))]


def _training_steps(workspace: Workspace, arm: ArmConfig) -> list[Step]:
    """List the trainings of an arm, one per seed of study.seeds."""
    return [training_step(workspace, arm, seed) for seed in workspace.config.study.seeds]


def training_step(workspace: Workspace, arm: ArmConfig, seed: int) -> Step:
    """Build the training of an arm with a seed.

    Args:
        workspace: The study's workspace, with the number of images per class.
        arm: The arm.
        seed: The training seed.
    """
    needs = (f"generate {arm.generator}",) if arm.generator else ()
    overrides = _overrides_for_generator(workspace, arm.generator, *arm.overrides, f"seed={seed}")
    training_workspace = workspace.with_config(replace(arm.config, seed=seed), overrides)
    return Step(_training_title(arm.title, seed), "train", training_workspace, needs)


def _training_title(arm_title: str, seed: int) -> str:
    """Return the title of a training, by which the steps that need it name it."""
    return f"train {arm_title}, seed {seed}"


def _evaluation_step(workspace: Workspace, key: str) -> Step:
    """Build the measuring of a pool, which needs the pool and the real-only classifiers of all seeds."""
    measuring_workspace = evaluation_workspace(workspace, key)
    needs = [f"generate {key}"]
    for seed in workspace.config.study.seeds:
        needs.append(_training_title(REAL_ONLY, seed))
    return Step(f"evaluate {key}", "evaluate", measuring_workspace, tuple(needs))


def evaluation_workspace(workspace: Workspace, key: str) -> Workspace:
    """Return the workspace in which a generator's pool is measured.

    It has one generator, and names the real-only classifiers of all training seeds; the one of the
    first seed serves as encoder.

    Args:
        workspace: The study's workspace, with the number of images per class.
        key: Key of the generator in the configuration.
    """
    seeds = list(workspace.config.study.seeds)
    config = with_one_generator(workspace.config, key)
    evaluate = replace(config.evaluate, classifier_seeds=seeds)
    overrides = _overrides_for_generator(
        workspace,
        key,
        f"generator={key}",
        f"evaluate.classifier_seeds=[{','.join(map(str, seeds))}]",
        f"seed={seeds[0]}",
    )
    return workspace.with_config(replace(config, evaluate=evaluate, seed=seeds[0]), overrides)


def _overrides_for_generator(workspace: Workspace, key: str, *extra: str) -> tuple[str, ...]:
    """Return the study's overrides with `extra` ones, and without the options of other generators.

    Options of a generator cannot be set where the generator is not selected.
    """
    overrides = []
    for text in _drop_overrides(workspace.overrides, "study.", "generator=", "seed="):
        is_of_other_generator = text.startswith("generator.") and not text.startswith(
            f"generator.{key}."
        )
        if not is_of_other_generator:
            overrides.append(text)
    per_class = workspace.config.generate.per_class
    return (*overrides, *extra, f"generate.per_class={per_class}")


def _drop_overrides(overrides: Sequence[str], *prefixes: str) -> tuple[str, ...]:
    """Return the overrides that begin with none of the prefixes."""
    return tuple(text for text in overrides if not text.startswith(prefixes))


def with_images_per_class(workspace: Workspace) -> Workspace:
    """Return the workspace with as many images per class in each pool as the most demanding arm needs.

    A number in generate.per_class is kept.
    """
    config, cohort = workspace.config, workspace.cohort
    if config.generate.per_class is not None:
        return workspace
    per_class = 0
    for arm in build_arms(config, cohort):
        if arm.generator:
            per_class = max(per_class, _required_images_per_class(arm.config, cohort))
    if per_class == 0:
        per_class = max(cohort.split("train").class_counts().values())
    generate = replace(config.generate, per_class=per_class)
    return workspace.with_config(replace(config, generate=generate))


def _required_images_per_class(config: Config, cohort: Manifest) -> int:
    """Return the largest number of synthetic images that an arm needs of any class."""
    return max(train.build_training(config).required_per_class(cohort).values())
