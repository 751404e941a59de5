"""Work that version 0.1 has done is found: jobs keep the keys that name their folders."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from xraysynth import compose
from xraysynth.manifest import Manifest
from xraysynth.records import CLASSES, SPLITS
from xraysynth.stages import Workspace, finetune, prepare, probe, train
from xraysynth.stages._study import arm_configs

GOLDEN = Path(__file__).parent / "golden" / "keys-0.1.json"
"""Keys by job, as version 0.1 gave them to the configuration and the cohort below."""

LORA = "generator.sd_lora.lora"
DEFAULTS_OF_0_1 = (
    "generator.stable_diffusion.steps=20",
    "generator.stable_diffusion.guidance=2.0",
    "generator.sd_lora.steps=20",
    "generator.sd_lora.guidance=3.0",
    "generator.sd_lora.scale=1.0",
    f"{LORA}.targets=[to_q,to_k,to_v,to_out.0,conv1,conv2,ff.net.0.proj,ff.net.2]",
    f"{LORA}.steps=250",
    f"{LORA}.val_every_steps=125",
    "trainer.max_steps=300",
    "study.seeds=[0,1,2]",
)
"""The recipe of the generators and the quickstart's trainings, which have changed since."""


def cohort() -> Manifest:
    """Two sources with nine patients of every class."""
    rows = [
        {
            "image_id": f"{source}-{label}-{number}",
            "path": f"{source}/{label}-{number}.png",
            "label": label,
            "source": source,
            "patient_id": f"{label}{number}",
            "split": SPLITS[number % 3],
            "sha256": f"{source}{label}{number}".ljust(64, "0"),
        }
        for source in ("a", "b")
        for label in CLASSES
        for number in range(9)
    ]
    return Manifest(pd.DataFrame(rows), Path("cohort"), CLASSES)


def keys() -> dict[str, str]:
    options = ("study.leave_one_source_out=true", "study.modes=[replace,add]")
    fractions = "study.real_fractions=[0.5,1]"
    config = compose(["experiment=quickstart", *DEFAULTS_OF_0_1, *options, fractions])
    workspace = Workspace(config).with_images(cohort())
    found = {"prepare": prepare.build_job(workspace).key, "probe": probe.build_job(workspace).key}
    for name in workspace.generators_to_finetune:
        found[f"finetune {name}"] = finetune.build_job(workspace, name).key
    for name in workspace.generators:
        found[f"generate {name}"] = workspace.pool_store(name).key
    for arm in arm_configs.build_arms(config, workspace.cohort):
        own = workspace.with_config(replace(arm.config, seed=1))
        found[f"train {arm.title}"] = train.build_job(own).key
    return found


def test_jobs_of_version_0_1_keep_their_keys() -> None:
    golden = json.loads(GOLDEN.read_text())
    found = keys()
    assert len(golden) > 20
    assert {name: found.get(name) for name in golden} == golden


def test_what_decides_a_result_is_in_its_key() -> None:
    """One patient more in the cohort names other trainings and another fine-tuning."""
    images = cohort()
    fewer = images.where(images.table["patient_id"] != "normal0")
    config = compose(["experiment=quickstart"])
    one, other = (Workspace(config).with_images(those) for those in (images, fewer))
    (name,) = one.generators_to_finetune
    assert finetune.build_job(one, name).key != finetune.build_job(other, name).key
    assert train.build_job(one).key != train.build_job(other).key
