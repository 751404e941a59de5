"""The stage `probe`: what it finds in a cohort, and that it finds it once."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_study import CLASSES

from xraysynth import compose
from xraysynth.cli import STAGES
from xraysynth.errors import ConfoundingError
from xraysynth.evaluation.metrics import classification
from xraysynth.stages import Workspace, _label_fidelity, evaluate, prepare, probe, train

NOISE = np.random.default_rng(0)


def written(folder, *, marked):
    """160 images of noise, half of each source; `marked` are (source, class) pairs with a corner."""
    rows = []
    for number in range(160):
        label, source = CLASSES[number % 2], "ab"[number // 2 % 2]
        pixels = NOISE.integers(0, 200, (48, 48)).astype(np.uint8)
        if (source, label) in marked:
            pixels[:3, :20] = 220
        name = f"{number}.png"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
        rows.append({"path": name, "label": label, "source": source, "patient_id": number // 4})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def overrides_of(folder, *more):
    return [
        "source=table",
        f"source.table.path={folder / 'cohort' / 'manifest.csv'}",
        "classes=[normal,pneumonia]",
        f"paths.output={folder / 'outputs'}",
        "size_px=48",
        "evaluate.replicates=100",
        *more,
    ]


def found(folder, *more):
    overrides = overrides_of(folder, *more)
    return probe.run(Workspace(compose(overrides), overrides))


def test_a_mark_of_a_class_is_reported_and_not_probed_twice(tmp_path, capfd):
    written(tmp_path / "cohort", marked=[("a", "pneumonia"), ("b", "pneumonia")])
    result = found(tmp_path)
    assert result["state"] == "done"
    assert result["images"] == 160
    told = {(row["target"], row["view"]): row for row in result["shortcuts"]}
    assert told["class", "borders"]["low"] > 0.8
    assert told["class", "borders"]["chance"] == 0.5
    assert any(text.startswith("class from borders: AUROC ") for text in result["findings"])
    assert not any(text.startswith("class from thumbnail") for text in result["findings"])
    assert "probe" in capfd.readouterr().err
    again = found(tmp_path)
    assert again["skipped"]
    assert again["shortcuts"] == result["shortcuts"]
    assert found(tmp_path, "evaluate.replicates=50")["key"] != result["key"]


def test_nothing_is_told_where_nothing_is_marked(tmp_path):
    written(tmp_path / "cohort", marked=[])
    result = found(tmp_path)
    assert result["findings"] == []
    assert {row["view"] for row in result["shortcuts"]} == {
        "thumbnail", "borders", "background", "grain",
    }  # fmt: skip


def written_twice(folder):
    """80 images of noise, each of two patients: whoever has seen one knows the class of the other."""
    written(folder, marked=[])
    table = pd.read_csv(folder / "manifest.csv").iloc[:80].assign(patient_id=range(80))
    copies = table.assign(
        path=[f"copy-{path}" for path in table["path"]], patient_id=range(80, 160)
    )
    for original, copy in zip(table["path"], copies["path"], strict=True):
        (folder / copy).write_bytes((folder / original).read_bytes())
    pd.concat([table, copies]).to_csv(folder / "manifest.csv", index=False)


def test_patients_with_the_same_images_are_in_one_fold(tmp_path):
    written_twice(tmp_path / "cohort")
    result = found(tmp_path, "tracking=none")
    assert result["findings"] == []
    (record,) = (tmp_path / "outputs").glob("probe/*/run.json")
    assert json.loads(record.read_text())["identity"]["patients"] == "linked"
    (path,) = (tmp_path / "outputs" / "cohorts").glob("audit-*.json")
    report = json.loads(path.read_text())
    assert len(report["linked_patients"]) == 80
    # The audit of an earlier version has pairs, but does not say whose they are.
    path.write_text(json.dumps({k: v for k, v in report.items() if k != "linked_patients"}))
    shutil.rmtree(record.parent)
    again = found(tmp_path, "tracking=none")
    assert not again["skipped"]
    assert again["key"] == result["key"]
    assert again["shortcuts"] == result["shortcuts"]


def test_every_stage_takes_linked_patients_for_one_person(tmp_path, monkeypatch):
    """By the audit, or by looking again where that of an earlier version does not say."""
    written_twice(tmp_path / "cohort")
    overrides = overrides_of(tmp_path, "tracking=none", "classifier.backbone=test_resnet")
    overrides += ["trainer.max_steps=2", "data.batch_size=8", "trainer.accelerator=cpu"]
    config = compose(overrides)
    workspace = Workspace(config, overrides)
    cohort, report = workspace.cohort, workspace.audit
    linked = prepare.resolve_linked_patients(cohort, report)
    assert len(linked) == 80
    earlier = replace(report, linked_patients=None)
    assert prepare.resolve_linked_patients(cohort, earlier) == linked
    alone = replace(earlier, near_duplicates=0)
    with monkeypatch.context() as patched:
        patched.setattr(prepare, "fingerprint_files", None)  # nothing is looked for
        assert prepare.resolve_linked_patients(cohort, alone) == []
    scored = []
    original = classification.score_run

    def seen(probabilities, targets, patients, **options):
        scored.append(list(patients))
        return original(probabilities, targets, patients, **options)

    monkeypatch.setattr(classification, "score_run", seen)
    train.run(Workspace(config, overrides))
    _label_fidelity.run(workspace)
    assert len(scored) == 2
    for patients in scored:
        assert len(set(patients)) == len(patients) / 2
    assert evaluate.build_job(workspace, cohort).identity["patients"] == "linked"
    monkeypatch.setattr(prepare, "load_audit", lambda workspace: alone)
    assert "patients" not in evaluate.build_job(Workspace(config, overrides), cohort).identity


def test_cohorts_without_linked_patients_keep_their_probes(tmp_path):
    written(tmp_path / "cohort", marked=[])
    found(tmp_path, "tracking=none")
    (record,) = (tmp_path / "outputs").glob("probe/*/run.json")
    assert "patients" not in json.loads(record.read_text())["identity"]


def test_the_rules_of_a_cohort_hold(shared_data, tmp_path):
    """Real collections, each mostly of one class, are not probed unless that is acknowledged."""
    overrides = [
        "source=table",
        f"source.table.path={shared_data / 'cxr-mini' / 'manifest.csv'}",
        "classes=[normal,pneumonia,covid19]",
        "source.table.labels={tuberculosis: null}",
        f"paths.output={tmp_path / 'outputs'}",
        "size_px=32",
    ]
    with pytest.raises(ConfoundingError, match="acknowledge_confounding=true"):
        probe.run(Workspace(compose(overrides), overrides))
    overrides += ["acknowledge_confounding=true", "evaluate.replicates=100"]
    result = probe.run(Workspace(compose(overrides), overrides))
    assert any(text.startswith("source from borders") for text in result["findings"])


def test_the_stage_is_listed():
    assert "shortcuts" in STAGES["probe"]
