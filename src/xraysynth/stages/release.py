"""A study's weights, images and report with their cards, ready for the Hugging Face Hub.

Writes paths.output/releases/<study.name>/{model-<generator>, data-<generator>, study}, and nothing
that tells a patient, this machine or its user; what a data use agreement binds is refused until its
terms are acknowledged. With release.push=true each part goes to a repository of its own, by the
token in HF_TOKEN; started again, only what is missing is sent. The folder holds the last release
of that name only. Needs: pip install 'xraysynth[hub]'.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xraysynth import __version__
from xraysynth.config import Config
from xraysynth.errors import ConfigError, PrivacyError, XraysynthError
from xraysynth.files import atomic_path, exclusive, remove_leftovers, write_atomically
from xraysynth.generation import pool
from xraysynth.generation.generators.base import Generator, Learner
from xraysynth.jobs.job import Job
from xraysynth.jobs.provenance import environment
from xraysynth.manifest import Manifest
from xraysynth.privacy import Scrubber, require_clean
from xraysynth.records import LEARNED, sha256_bytes
from xraysynth.release import croissant, hub
from xraysynth.release.origin import trained_on
from xraysynth.release.parts import (
    Background,
    Made,
    weight_files,
    write_data,
    write_model,
    write_study,
)
from xraysynth.release.recipe import ReleaseRecipe
from xraysynth.seeds import digest
from xraysynth.stages import finetune, generate, plan, prepare, report

SECTIONS = ("release", "study", "source", "generator", "prompts", "generate", "data")
"""The options that this stage reads, besides those of the study."""

CARDS = 1
"""Raised whenever a card changes, so that old releases are written anew."""


def run(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Write the release, or find it written; then send it, if it is to be sent."""
    recipe = config.release
    token = hub.token() if recipe.push else ""  # before anything is written
    if "data" in recipe.parts:
        croissant.mlcroissant()
    cohort, audit = prepare.cohort(config, overrides)
    made = _collect(plan.with_count(config, cohort), cohort, overrides)
    _require_terms(config, made)
    names = _names(recipe, made)
    study = report.run(config, overrides) if "study" in recipe.parts else {}
    about = _background(config, cohort, audit)
    this = _job(config, cohort, made, study, audit)
    result = this.run(
        lambda: _work(config, cohort, about, made, study, names, this, overrides),
        config=config.plain(),
        overrides=overrides,
    )
    if not recipe.push:
        return result
    sent = hub.push(_folder(config), names, repo=recipe.repo, private=recipe.private, token=token)
    return result | {"pushed": sent}


def _collect(config: Config, cohort: Manifest, overrides: Sequence[str]) -> list[Made]:
    """Every selected generator with what it learned, made, and was measured to do."""
    parts = config.release.parts
    learners = {n: finetune.job(config, g, cohort) for n, g in finetune.untaught(config).items()}
    bound = finetune.bound(config, cohort)
    counts = generate.counts(config, overrides)
    found = []
    for key, (name, generator) in zip(config.generator, bound.items(), strict=True):
        one = replace(config, generator={key: config.generator[key]})
        images = _pool(one, name, counts, overrides, needed="data" in parts)
        store = generate.store(config, generator)
        taught = learners.get(name)
        made = Made(
            key=key,
            generator=generator,
            images=images,
            outcomes=pool.outcomes(store),
            refusals=pool.refusals(store),
            learned=pool.learned(store) or _learned(taught),
            evaluated=_evaluated(config, cohort, images) if images is not None else {},
        )
        if taught and "model" in parts:
            result = taught.result(" ".join(["xraysynth finetune", *overrides]))
            made = replace(made, weights=taught.folder, taught=result)
        found.append(made)
    return found


def _pool(
    config: Config, name: str, counts: Mapping[str, int], overrides: Sequence[str], *, needed: bool
) -> Manifest | None:
    try:
        return generate.pools(config, overrides, counts)[name]
    except XraysynthError:
        if needed:
            raise
        return None


def _learned(taught: Job | None) -> dict[str, Any]:
    if taught is None or not taught.done:
        return {}
    found: dict[str, Any] = json.loads((taught.folder / LEARNED).read_text())
    return found


def _evaluated(config: Config, cohort: Manifest, images: Manifest) -> dict[str, Any]:
    """The newest evaluation of exactly these images on exactly this cohort, by any settings."""
    inputs = {"cohort": cohort.digest(), "pool": images.digest()}
    records = [json.loads(p.read_text()) for p in config.output.glob("evaluate/*/run.json")]
    done = [
        record
        for record in records
        if record.get("state") == "done" and inputs.items() <= record.get("identity", {}).items()
    ]
    newest = max(done, key=lambda record: str(record.get("started")), default=None)
    return dict(newest["result"]) if newest else {}


def _credentialed(config: Config) -> list[str]:
    """Sources under a data use agreement."""
    return [s.name for s in (*config.sources(), *config.test_sources()) if s.credentialed]


def _require_terms(config: Config, made: Sequence[Made]) -> None:
    """Refuse what comes from bound sources until their terms are acknowledged.

    The results of a study are numbers of many patients and may go out without, but then without
    pictures.
    """
    recipe, bound = config.release, _credentialed(config)
    derived = [m.generator.name for m in made if m.derived]
    offends = [
        f"{part}-{name}" for part in ("model", "data") if part in recipe.parts for name in derived
    ]
    if bound and offends and not recipe.acknowledge_terms:
        raise PrivacyError(
            f"source {', '.join(bound)} is under a data use agreement that lets nothing of it reach third "
            f"parties, and {', '.join(offends)} come from generators that learned from it or may have. If "
            "the agreement allows to release them, say so with release.acknowledge_terms=true, which the "
            "cards then state; or leave them out with release.parts=[study]"
        )


def _background(config: Config, cohort: Manifest, audit: Mapping[str, Any]) -> Background:
    recipe = config.release
    simulated = list(audit["simulated"])
    return Background(
        study=config.study.name,
        classes=config.classes,
        simulated=simulated if len(simulated) == len(config.sources()) else [],
        trained=trained_on(cohort),
        bound=_credentialed(config) if recipe.acknowledge_terms else (),
        licence=recipe.licence,
        notes=[
            f"Real images were put into one format: grey, square, {config.size_px} px.",
            *(f"Confounded: {sentence}." for sentence in audit["acknowledged"]),
            *audit["notes"],
        ],
        repo=recipe.repo,
    )


def _names(recipe: ReleaseRecipe, made: Sequence[Made]) -> list[str]:
    """The folders of a release."""
    found = [f"model-{m.generator.name}" for m in made if m.weights is not None]
    if "data" in recipe.parts:
        found += [f"data-{m.generator.name}" for m in made]
    found += ["study"] if "study" in recipe.parts else []
    if not found:
        raise ConfigError(
            f"release.parts={recipe.parts}: there is nothing of that kind; only generators that the "
            "study fine-tunes (generator=sd_lora) have weights of their own"
        )
    return found


def _folder(config: Config) -> Path:
    return config.output / "releases" / config.study.name


def _job(
    config: Config,
    cohort: Manifest,
    made: Sequence[Made],
    study: Mapping[str, Any],
    audit: Mapping[str, Any],
) -> Job:
    decides = {
        "study": config.study.name,
        "recipe": {k: v for k, v in asdict(config.release).items() if k not in ("push", "private")},
        "cohort": cohort.digest(),
        "audit": digest(audit),
        "made": {m.key: _digests(m) for m in made},
        "report": study.get("key", ""),
        "version": __version__,
        "cards": CARDS,
    }
    this = Job("release", decides, config.output)
    return replace(this, leaves=(_folder(config) / _mark(this.key),))


def _digests(made: Made) -> dict[str, Any]:
    weights = weight_files(made.weights) if made.weights else {}
    return {
        "weights": {name: sha256_bytes(path.read_bytes()) for name, path in weights.items()},
        "images": made.images.digest() if made.images is not None else "",
        "pool": digest([made.outcomes, made.refusals, made.learned]),
        "generator": digest(_described(made.generator)),
        "evaluated": digest(made.evaluated),
    }


def _described(generator: Generator) -> list[Any]:
    return [asdict(generator.card), isinstance(generator, Learner), generator.name]


def _mark(key: str) -> str:
    """The file in a release that says which job wrote it."""
    return f"release-{key}.json"


def _work(
    config: Config,
    cohort: Manifest,
    about: Background,
    made: Sequence[Made],
    study: Mapping[str, Any],
    names: Sequence[str],
    this: Job,
    overrides: Sequence[str],
) -> dict[str, Any]:
    target, scrubber = _folder(config), Scrubber.of(config.output)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = exclusive(target.parent / f".{target.name}.lock")
    with lock, atomic_path(target) as partial:
        _require_own(target)
        remove_leftovers(target)
        for name in names:
            (partial / name).mkdir(parents=True)
        for one in made:
            _write_one(config, partial, about, one)
        if study:
            _write_study(config, partial, about, made, study, scrubber, overrides)
        require_clean(partial, scrubber, ids=_ids(cohort))
        files = {name: _listed(partial / name) for name in names}
        write_atomically(partial / _mark(this.key), json.dumps(files, indent=1).encode())
    return {"release": str(target), "parts": {name: len(found) for name, found in files.items()}}


def _write_one(config: Config, partial: Path, about: Background, made: Made) -> None:
    recipe, name = config.release, made.generator.name
    if made.weights is not None:
        prompt = config.prompts.prompt(config.classes[-1], 0, seed=config.generate.seed)
        write_model(partial / f"model-{name}", about, made, prompt=prompt)
    if "data" in recipe.parts:
        now = datetime.now(UTC)
        folder = partial / f"data-{name}"
        write_data(folder, about, made, with_originals=recipe.originals, published=now)


def _write_study(
    config: Config,
    partial: Path,
    about: Background,
    made: Sequence[Made],
    study: Mapping[str, Any],
    scrubber: Scrubber,
    overrides: Sequence[str],
) -> None:
    folder = Path(study["folder"])
    write_study(
        partial / "study",
        about,
        made,
        report=folder,
        config=_public(config),
        overrides=overrides,
        environment=_environment(folder),
        scrubber=scrubber,
        with_pictures=config.release.acknowledge_terms or not _credentialed(config),
    )


def _require_own(target: Path) -> None:
    if target.exists() and not list(target.glob(_mark("*"))):
        raise XraysynthError(
            f"{target} is no release by xraysynth, and would be replaced; move it, or choose another "
            "study.name"
        )


def _public(config: Config) -> dict[str, Any]:
    """The configuration without what is about this machine, its user and this release."""
    private = ("paths", "tracking", "release", "real", "synthetic", "trained_on")
    return {name: value for name, value in config.plain().items() if name not in private}


def _environment(folder: Path) -> dict[str, Any]:
    """What the report was made with."""
    path = folder / "run.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return dict(found.get("environment") or environment())


def _ids(cohort: Manifest) -> set[str]:
    table = cohort.table
    return {str(v) for name in ("image_id", "patient_id", "sha256") for v in table[name]}


def _listed(folder: Path) -> dict[str, str]:
    """Every file of a part and its SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): sha256_bytes(p.read_bytes()) for p in files}
