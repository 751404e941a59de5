"""Pools against real images: fidelity (FD, KID) and diversity within class (SSIM, MS-SSIM).

The reference are the real test images, which no generator and no encoder has learned from. Without
any downloaded weights the encoder is the classifier of the real-only arm, and the result is called
FD(classifier), never FID. Each value stands beside real against real at the same N.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xraysynth import tracking
from xraysynth.config import Config
from xraysynth.errors import ConfigError
from xraysynth.job import Job
from xraysynth.manifest import Manifest
from xraysynth.stages import generate, prepare, train

SECTIONS = ("generator", "evaluate", "classifier", "trainer", "tracking")
"""The options that this stage reads, besides those of prepare and generate."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure the pool of every selected generator."""
    cohort, _ = prepare.cohort(config, overrides)
    command = " ".join(["xraysynth train", *overrides, "data.share=0"])
    classifier = train.job(train.real_only(config), cohort)
    weights = Path(classifier.result(command)["weights"])
    counts = generate.counts(config, overrides)
    results = {}
    for name, pool in generate.pools(config, overrides, counts).items():
        this = job(config, cohort, pool, classifier)
        results[name] = this.run(
            lambda pool=pool, this=this: _work(config, cohort, pool, weights, this),  # type: ignore[misc]
            config=config.plain(),
            overrides=overrides,
        )
    return {"stage": "evaluate", "state": "done", "pools": results}


def job(config: Config, cohort: Manifest, pool: Manifest, classifier: Job) -> Job:
    """The job that measures this pool against this cohort."""
    decides = {
        "cohort": cohort.digest(),
        "pool": pool.digest(),
        "size_px": config.size_px,
        "classifier": classifier.key,
        "evaluate": asdict(config.evaluate),
    }
    return Job("evaluate", decides, config.output)


def _work(
    config: Config, cohort: Manifest, pool: Manifest, weights: Path, this: Job
) -> dict[str, Any]:
    from xraysynth.data import pixels
    from xraysynth.metrics.diversity import within_class

    test = cohort.split("test")
    cache = config.output / "cache"
    real = pixels(test, size_px=config.size_px, folder=cache)
    synthetic = pixels(pool, size_px=config.size_px, folder=cache)
    patients = train.patient_keys(test.table).to_numpy()
    options: dict[str, Any] = {
        "classes": config.classes,
        "max_pairs": config.evaluate.pairs_per_class,
        "replicates": config.evaluate.replicates,
    }
    with tracking.tracked(config, this) as run:
        alike = within_class(synthetic, pool.targets, **options)
        real_alike = within_class(real, test.targets, patients=patients, **options)
        summary = {
            "pool": str(pool.folder),
            "images": len(pool),
            "fidelity": _fidelity(config, test, pool, real, synthetic, weights),
            "diversity": [
                dict(zip(("metric", "label"), name.split("/", 1), strict=True))
                | found.as_dict()
                | {"real": real_alike[name].value}
                for name, found in alike.items()
            ],
        }
        tracking.log_evaluation(run, summary)
    return summary


def _fidelity(
    config: Config, test: Manifest, pool: Manifest, real: Any, synthetic: Any, weights: Path
) -> list[dict[str, Any]]:
    from xraysynth.metrics.features import cached_features
    from xraysynth.metrics.fidelity import fidelity

    folder = config.output / "cache" / "features"
    patients = train.patient_keys(test.table)
    rows = []
    for encoder in _encoders(config, weights):
        sides = [
            cached_features(encoder, images, digest=manifest.digest(), folder=folder)
            for images, manifest in ((real, test), (synthetic, pool))
        ]
        found = fidelity(real=sides[0], synthetic=sides[1], patients=patients)
        measured = {
            found.name: (found.distance, found.floor, found.excess),
            found.kernel_name: (found.kernel, found.kernel_floor, found.kernel_excess),
        }
        for metric, (value, floor, excess) in measured.items():
            floors = {"floor": floor.value, "floor_low": floor.low, "floor_high": floor.high}
            excesses = {"excess_low": excess.low, "excess_high": excess.high}
            facts = {"encoder": encoder.name, "dimensions": found.dimensions}
            rows.append({"metric": metric, **facts, **value.as_dict(), **floors, **excesses})
    return rows


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
