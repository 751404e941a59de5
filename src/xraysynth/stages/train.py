"""A classifier on real images, synthetic ones, or both; tested once on real images.

data.share is the synthetic fraction of the training images, data.mode how they come in. The pools
are those of the selected generators and must exist; validation and test are always real. Writes
weights (safetensors), predictions.parquet and the scores below paths.output/train; with external
test sets (test_source=…) also external.parquet.
Over several processes or GPUs: torchrun --nproc_per_node 2 --no-python xraysynth train …
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pandas as pd

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.data.audit import fingerprint, patient_keys
from xraysynth.data.leakage import check_firewall, require_no_copies
from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.generation import pool
from xraysynth.jobs.distributed import is_main, process_group, world_size
from xraysynth.jobs.job import Job
from xraysynth.jobs.store import ImageStore
from xraysynth.manifest import Manifest
from xraysynth.records import LearningRecord, to_json
from xraysynth.seeds import digest, key12
from xraysynth.stages import finetune, fitting, generate, prepare
from xraysynth.training.mixing import mix, required_per_class, usable
from xraysynth.training.recipe import ClassWeighting, Control, Keep, MixMode

SECTIONS = ("classes", "size_px", "seed", "generator", "data", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare."""

PREDICTIONS, WEIGHTS = "predictions.parquet", "classifier.safetensors"
EXTERNAL = "external.parquet"

_MIX = ("share", "mode", "control", "pretrain_fraction")  # mean nothing where nothing is mixed in


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Train and test one classifier, or find it done.

    Of processes that torchrun started together the first does all but the training on its own.
    """
    _require_equal_shares(config)
    cohort, audit = prepare.cohort(config, overrides)
    external = prepare.external(config, overrides)
    this = current_job(config, cohort, external, overrides)
    if this.done:
        return this.run(dict, config={}, overrides=(), beside=dict)
    if is_main() and replace(this, made_of={}).done:
        print(
            f"train job {this.key} is trained again: its pools have other images now than it was "
            "trained on",
            file=sys.stderr,
            flush=True,
        )
    synthetic = _pools(config, cohort, overrides)
    if is_main():
        _require_no_copies(config, [cohort, external], synthetic)
    return this.run(
        lambda: _work(
            config, cohort, synthetic, external, prepare.same_persons(cohort, audit), this
        ),
        config=config.plain(),
        overrides=overrides,
        beside=lambda: _assist(config, cohort, synthetic, this),
    )


def _require_equal_shares(config: Config) -> None:
    started, batch_size = world_size(), config.data.batch_size
    if batch_size % started:
        raise ConfigError(
            f"data.batch_size={batch_size} counts the images of all processes and must be divisible by "
            f"their number, {started}; set it to {max(1, round(batch_size / started)) * started}, or "
            "start another number"
        )


def job(config: Config, cohort: Manifest, external: Manifest | None = None) -> Job:
    """The training job of this configuration on this cohort, tested on `external` images too."""
    decides = {**_fitting(config, cohort), "mix": _mix(config, cohort), **_balance(config)}
    leaves: tuple[str, ...] = (PREDICTIONS, WEIGHTS)
    if external is not None:
        decides["external"] = external.digest()
        leaves = (*leaves, EXTERNAL)
    return Job("train", decides, config.output, leaves=leaves)


def current_job(
    config: Config, cohort: Manifest, external: Manifest | None, overrides: Sequence[str]
) -> Job:
    """The training job, done only if it was trained on the images that its pools give now.

    An image that failed may be made later and takes its place among the first of its class. All
    seeds of an arm see the same images so. Without the pools a finished job counts as done.
    """
    made_of = {}
    with suppress(XraysynthError):  # a pool is gone or too small: there is nothing to compare with
        pools = _pools(config, cohort, overrides, read=pool.listed)
        made_of = {"pools": _digests(_mixed_in(config, cohort, pools))} if pools else {}
    return replace(job(config, cohort, external), made_of=made_of)


def _mixed_in(
    config: Config, cohort: Manifest, pools: Mapping[str, Manifest]
) -> dict[str, Manifest]:
    """The rows that this configuration takes from each pool."""
    data = config.data
    _, *taken = mix(
        used(config, cohort).split("train"),
        pools,
        share=data.share,
        mode=data.mode,
        seed=config.seed,
        control=data.control,
    )
    return dict(zip(pools, taken, strict=True))


def _digests(pools: Mapping[str, Manifest]) -> dict[str, str]:
    """Pool -> digest of its images' ids and SHA-256, in the order of ids."""
    found = {}
    for name, images in pools.items():
        rows = images.table[["image_id", "sha256"]].sort_values("image_id")
        found[name] = digest(rows.to_numpy().tolist())
    return found


def pools_used(this: Job) -> Mapping[str, str]:
    """Pool -> digest of the images that a finished training has seen; empty for earlier versions."""
    found: Mapping[str, str] = this.record().get("result", {}).get("pools", {})
    return found


def _balance(config: Config) -> dict[str, Any]:
    """Says by which images a loss is balanced, where earlier versions counted others."""
    balanced = config.classifier.class_weighting is ClassWeighting.balanced
    pretrained = config.data.mode is MixMode.pretrain and config.data.share > 0
    return {"balanced_by": "real images"} if balanced and pretrained else {}


def _fitting(config: Config, cohort: Manifest) -> dict[str, Any]:
    """What decides the weights of a classifier of real images."""
    data = {k: v for k, v in to_json(config.data).items() if k not in ("cache", *_MIX)}
    trainer = {
        k: v for k, v in to_json(config.trainer).items() if k not in ("accelerator", "devices")
    }
    return {
        "cohort": cohort.digest(),
        "size_px": config.size_px,
        "seed": config.seed,
        "data": data,
        "classifier": to_json(config.classifier),
        "trainer": trainer,
    }


def real_only(config: Config, seed: int | None = None) -> Config:
    """The arm that all others are compared with: every real training image, and nothing else."""
    data = replace(
        config.data,
        share=0.0,
        mode=MixMode.replace,
        control=Control.none,
        real_fraction=1.0,
        leave_out="",
    )
    return replace(config, data=data, seed=config.seed if seed is None else seed)


def _mix(config: Config, cohort: Manifest) -> dict[str, Any]:
    data = config.data
    if data.control is Control.size_matched:
        return {"control": data.control.value}
    if data.share == 0:
        return {}
    found: dict[str, Any] = {"share": data.share, "mode": data.mode.value}
    if data.mode is MixMode.pretrain:
        found["pretrain_fraction"] = data.pretrain_fraction
    if data.control is not Control.none:
        found["control"] = data.control.value
    if data.control is not Control.duplicate:
        generators = finetune.bound(config, cohort)
        found["pools"] = {n: generate.store(config, g).key for n, g in generators.items()}
    return found


def used(config: Config, cohort: Manifest) -> Manifest:
    """What of the cohort this configuration trains, validates and tests on."""
    data = config.data
    return usable(
        cohort,
        leave_out=data.leave_out,
        real_fraction=data.real_fraction,
        seed=config.seed,
        size_matched=data.control is Control.size_matched,
    )


def _pools(
    config: Config,
    cohort: Manifest,
    overrides: Sequence[str],
    *,
    read: Callable[..., Manifest] = pool.read,
) -> dict[str, Manifest]:
    if config.data.share == 0 or config.data.control is Control.duplicate:
        return {}
    needed = required_per_class(
        used(config, cohort).split("train"),
        share=config.data.share,
        mode=config.data.mode,
        n_pools=len(config.generator),
    )
    # With a fixed number per class, all arms of a study read (and decode) the same images.
    fixed = config.generate.per_class
    if fixed is not None and fixed >= max(needed.values()):
        needed = dict.fromkeys(config.classes, fixed)
    return generate.pools(config, overrides, needed, read=read)


def _require_no_copies(
    config: Config, tested_on: Sequence[Manifest | None], pools: Mapping[str, Manifest]
) -> None:
    """The part of the firewall that looks at pixels; passed once for the same images."""
    apart = [m.where(m.table["split"].isin(["val", "test"])) for m in tested_on if m is not None]
    for held_out in apart:
        known = None
        for name, images in pools.items():
            key = key12([held_out.digest(), images.digest()])
            passed = config.output / "cache" / f"firewall-{key}.passed"
            if not passed.exists():
                known = known or fingerprint(held_out.files)
                require_no_copies(held_out, images, name=name, known=known)
                passed.parent.mkdir(parents=True, exist_ok=True)
                passed.touch()


def _work(
    config: Config,
    cohort: Manifest,
    synthetic: Mapping[str, Manifest],
    external: Manifest | None,
    linked: Sequence[Sequence[str]],
    this: Job,
) -> dict[str, Any]:
    from xraysynth.training.classifier import predict

    stores, learned = _origins(config, cohort, synthetic)
    if external is not None:
        check_firewall(external, synthetic, learned)
    datamodule = fitting.data(config, cohort, synthetic, learned)
    digests = _digests(dict(zip(synthetic, datamodule.train_manifests[1:], strict=False)))
    fitting.start_over_unless(this.folder, digests)
    with tracking.tracked(config, this) as run:
        with process_group(config.trainer.accelerator):
            module, facts = fitting.fitted(config, datamodule, run, weights=this.folder / WEIGHTS)
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        test = cohort.split("test")
        summary = {
            **fitting.tested(
                config,
                test,
                probabilities,
                targets,
                path=this.folder / PREDICTIONS,
                linked=linked,
            ),
            **fitting.sizes(datamodule.train_manifests),
            "pools": digests,
            **facts,
            "probes": fitting.probes(config, datamodule, module, test, linked=linked),
        }
        if external is not None:
            path = this.folder / EXTERNAL
            summary |= fitting.tested_outside(config, external, module, path=path)
        pools = [stores[name] for name in synthetic]
        tracking.log_training(
            run, summary, probabilities, targets, job=this, cohort=cohort, pools=pools
        )
    fitting.forget_steps(this.folder)
    return summary


def _assist(config: Config, cohort: Manifest, synthetic: Mapping[str, Manifest], this: Job) -> None:
    """What a process does beside that which does `_work`: it takes part in the training."""
    _, learned = _origins(config, cohort, synthetic)
    datamodule = fitting.data(config, cohort, synthetic, learned)
    with process_group(config.trainer.accelerator):
        fitting.assist(config, datamodule, folder=this.folder)


def _origins(
    config: Config, cohort: Manifest, synthetic: Mapping[str, Manifest]
) -> tuple[dict[str, ImageStore], dict[str, LearningRecord | None]]:
    """The stores of the generators, and the records of what those of these pools have seen."""
    stores = {n: generate.store(config, g) for n, g in finetune.bound(config, cohort).items()}
    return stores, {name: pool.learned(stores[name]) for name in synthetic}


def judge(config: Config, cohort: Manifest, external: Manifest | None) -> tuple[Job, Manifest]:
    """The classifier that says which class it sees in synthetic images, and what it is trained on.

    It has seen no patient whom a generator may have learned from: the test patients train it, and
    the train patients test it. An external set that holds enough of every class trains it in their
    place, so that it comes from other sources as well.
    """
    own = _judging(config)
    roles = _roles(cohort, external, config.splits.minimum_per_class)
    this = Job("judge", _fitting(own, roles), config.output, leaves=(PREDICTIONS, WEIGHTS))
    return this, roles


def _judging(config: Config) -> Config:
    own = real_only(config)
    return replace(own, trainer=replace(own.trainer, keep=Keep.last, patience=0))


def _roles(cohort: Manifest, external: Manifest | None, minimum: int) -> Manifest:
    table = cohort.table
    teacher = table[table["split"] == "test"]
    if external is not None and min(external.counts().values()) >= minimum:
        teacher = external.table
    parts = [
        teacher.assign(split="train"),
        table[table["split"] == "val"],
        table[table["split"] == "train"].assign(split="test"),
    ]
    return replace(cohort, table=pd.concat(parts, ignore_index=True))


def run_judge(
    config: Config, cohort: Manifest, external: Manifest | None, overrides: Sequence[str]
) -> dict[str, Any]:
    """Train the judge, or find it trained: its weights, and its scores on the real train patients."""
    this, roles = judge(config, cohort, external)
    return this.run(
        lambda: _judge(_judging(config), roles, _linked(config, cohort), this),
        config=config.plain(),
        overrides=overrides,
    )


def _linked(config: Config, cohort: Manifest) -> list[list[str]]:
    return prepare.same_persons(cohort, prepare.audit_of(config))


def _judge(
    config: Config, roles: Manifest, linked: Sequence[Sequence[str]], this: Job
) -> dict[str, Any]:
    from xraysynth.training.classifier import predict

    datamodule = fitting.data(config, roles)
    with tracking.tracked(config, this) as run:
        module, facts = fitting.fitted(config, datamodule, run, weights=this.folder / WEIGHTS)
        probabilities, targets, _ = predict(module, datamodule.test_dataloader())
        path = this.folder / PREDICTIONS
        test = roles.split("test")
        scores = fitting.tested(config, test, probabilities, targets, path=path, linked=linked)
        tracking.log_training(
            run, scores | facts, probabilities, targets, job=this, cohort=roles, pools=[]
        )
    taught = roles.split("train").table
    sources = ", ".join(sorted(taught["source"].unique()))
    fitting.forget_steps(this.folder)
    return {
        **scores,
        **facts,
        "trained_on": f"{len(taught)} real images of {patient_keys(taught).nunique()} other patients "
        f"({sources})",
    }
