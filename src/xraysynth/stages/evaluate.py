"""Pools against real images: fidelity (FD, KID), memorisation, diversity within class (SSIM).

The reference are the real test images; a pool whose generator has learned from any of them, or from
their patients, is refused. Without any downloaded weights the encoder is the classifier of the
real-only arm, and the result is called FD(classifier), never FID. Each value stands beside real
against real at the same N, and what the pool cost beside it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xraysynth import pool, tracking
from xraysynth.config import Config
from xraysynth.errors import ConfigError
from xraysynth.images import read_colour
from xraysynth.job import Job
from xraysynth.manifest import Manifest
from xraysynth.mixing import check_firewall
from xraysynth.stages import finetune, generate, prepare, train

SECTIONS = ("generator", "evaluate", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare and generate."""


MEASURES = ("fidelity", "memorization", "diversity", "appearance")
"""Tables in the result, part of the job's identity: a new one is measured on old pools too."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure the pool of every selected generator."""
    cohort, _ = prepare.cohort(config, overrides)
    command = " ".join(["xraysynth train", *overrides, "data.share=0"])
    classifier = train.job(train.real_only(config), cohort)
    weights = Path(classifier.result(command)["weights"])
    counts = generate.counts(config, overrides)
    stores = {n: generate.store(config, g) for n, g in finetune.bound(config, cohort).items()}
    results = {}
    for name, images in generate.pools(config, overrides, counts).items():
        learned = pool.learned(stores[name])
        check_firewall(cohort, {name: images}, {name: learned})
        this = job(config, cohort, images, classifier)
        results[name] = this.run(
            lambda images=images, this=this: _work(config, cohort, images, weights, this),  # type: ignore[misc]
            config=config.plain(),
            overrides=overrides,
        )
        results[name]["ledger"] = pool.ledger(stores[name])
    return {"stage": "evaluate", "state": "done", "pools": results}


def job(config: Config, cohort: Manifest, images: Manifest, classifier: Job) -> Job:
    """The job that measures this pool against this cohort."""
    decides = {
        "cohort": cohort.digest(),
        "pool": images.digest(),
        "size_px": config.size_px,
        "classifier": classifier.key,
        "evaluate": asdict(config.evaluate),
        "measures": MEASURES,
    }
    return Job("evaluate", decides, config.output)


def _work(
    config: Config, cohort: Manifest, images: Manifest, weights: Path, this: Job
) -> dict[str, Any]:
    from xraysynth.data import pixels
    from xraysynth.metrics.diversity import within_class

    test = cohort.split("test")
    cache = config.output / "cache"
    real = pixels(test, size_px=config.size_px, folder=cache)
    synthetic = pixels(images, size_px=config.size_px, folder=cache)
    patients = train.patient_keys(test.table).to_numpy()
    options: dict[str, Any] = {
        "classes": config.classes,
        "max_pairs": config.evaluate.pairs_per_class,
        "replicates": config.evaluate.replicates,
    }
    with tracking.tracked(config, this) as run:
        alike = within_class(synthetic, images.targets, **options)
        real_alike = within_class(real, test.targets, patients=patients, **options)
        summary = {
            "pool": str(images.folder),
            "images": len(images),
            **_measured(config, cohort, images, weights),
            "diversity": [
                dict(zip(("metric", "label"), name.split("/", 1), strict=True))
                | found.as_dict()
                | {"real": real_alike[name].value}
                for name, found in alike.items()
            ],
        }
        summary["appearance"] = _appearance(config, test, images)
        tracking.log_evaluation(run, summary)
    return summary


def _measured(config: Config, cohort: Manifest, made: Manifest, weights: Path) -> dict[str, Any]:
    """Fidelity, and memorisation of the train split, by every encoder."""
    from xraysynth.metrics.fidelity import fidelity

    held_out = cohort.where(cohort.table["split"].isin(["val", "test"]))
    test, train_split = cohort.split("test"), cohort.split("train")
    rows, copies = [], []
    for encoder in _encoders(config, weights):
        real, synthetic = (_features(config, encoder, m) for m in (test, made))
        found = fidelity(real=real, synthetic=synthetic, patients=train.patient_keys(test.table))
        rows += _fidelity_rows(encoder.name, found)
        seen, held = (_features(config, encoder, m) for m in (train_split, held_out))
        copies.append(_memorization(encoder.name, seen, held, synthetic, held_out, config))
    return {"fidelity": rows, "memorization": copies}


def _features(config: Config, encoder: Any, manifest: Manifest) -> Any:
    from xraysynth.data import pixels
    from xraysynth.metrics.features import cached_features

    cache = config.output / "cache"
    images = pixels(manifest, size_px=config.size_px, folder=cache)
    return cached_features(encoder, images, digest=manifest.digest(), folder=cache / "features")


def _fidelity_rows(encoder: str, found: Any) -> list[dict[str, Any]]:
    measured = {
        found.name: (found.distance, found.floor, found.excess),
        found.kernel_name: (found.kernel, found.kernel_floor, found.kernel_excess),
    }
    rows = []
    for metric, (value, floor, excess) in measured.items():
        floors = {"floor": floor.value, "floor_low": floor.low, "floor_high": floor.high}
        excesses = {"excess_low": excess.low, "excess_high": excess.high}
        facts = {"encoder": encoder, "dimensions": found.dimensions}
        rows.append({"metric": metric, **facts, **value.as_dict(), **floors, **excesses})
    return rows


def _memorization(
    encoder: str, seen: Any, held: Any, synthetic: Any, held_out: Manifest, config: Config
) -> dict[str, Any]:
    from xraysynth.metrics.memorization import LEVEL, memorization

    if len(held_out) < 1 / LEVEL:
        return {"encoder": encoder, "note": f"needs 100 held-out images, there are {len(held_out)}"}
    found = memorization(
        train=seen,
        held_out=held,
        synthetic=synthetic,
        patients=train.patient_keys(held_out.table),
        replicates=config.evaluate.replicates,
    )
    facts = {"expected": LEVEL, "held_out": found.n_null, "train": len(seen.values)}
    return {"encoder": encoder, **found.flagged.as_dict(), **facts}


def _appearance(config: Config, test: Manifest, made: Manifest) -> list[dict[str, Any]]:
    """What gives images away, on originals where the pool has kept them, beside real test images."""
    from xraysynth.metrics.appearance import MEASURES, SMALLEST_PX, of_images
    from xraysynth.metrics.statistics import bootstrap_mean

    if config.size_px < SMALLEST_PX:
        return []
    replicates = config.evaluate.replicates
    synthetic = of_images(read_colour(path) for path in pool.originals(made))
    real = of_images(read_colour(path) for path in test.files)
    return [
        {"measure": name, "meaning": meaning}
        | bootstrap_mean(synthetic[name], replicates).as_dict()
        | {"real": float(real[name].mean())}
        for name, meaning in MEASURES.items()
    ]


def _encoders(config: Config, classifier: Path) -> list[Any]:
    from xraysynth.classifier import XrayClassifier
    from xraysynth.metrics import encoders

    makers = {
        "inception": encoders.Inception,
        "xrv": encoders.XrvDenseNet,
        "rad_dino": encoders.RadDino,
    }
    chosen: list[Any] = []
    for name in config.evaluate.encoders:
        if name == "classifier":
            module = XrayClassifier.load(classifier, config.classes)
            chosen.append(encoders.ClassifierEncoder(module))
            continue
        path = getattr(config.evaluate, f"{name}_weights")
        if path is None:
            raise ConfigError(
                f"evaluate.{name}_weights must name the local weights of encoder {name!r}; or leave it "
                "out: evaluate.encoders=[classifier]"
            )
        chosen.append(makers[name](Path(path)))
    return chosen
