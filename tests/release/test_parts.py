import ast
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from xraysynth.errors import DataNotFoundError, XraysynthError
from xraysynth.generation.pool import Refusals
from xraysynth.images import read_image
from xraysynth.privacy import Scrubber
from xraysynth.records import LearningRecord, sha256_bytes
from xraysynth.release import croissant
from xraysynth.release.dataset import write_dataset
from xraysynth.release.model import write_model
from xraysynth.release.origin import GroupCounts, compute_training_digest, describe_origin
from xraysynth.release.study import StudyRecord, write_study

LEARNED = LearningRecord(patients=["clinic/MRN-00417"], sha256=["ab" * 32])
WEIGHTS = "pytorch_lora_weights.safetensors"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def card(folder):
    _, header, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), body


def released(folder, about, made, **options):
    folder.mkdir()
    write_model(folder, about, made, prompt="PA view, covid19", **options)
    return card(folder)


def data(folder, about, made, **options):
    folder.mkdir()
    write_dataset(folder, about, made, **{"with_originals": False, "published": NOW} | options)
    return card(folder)


def test_the_weights_go_out_as_they_were_taught_and_nothing_beside_them(about, made, tmp_path):
    header, body = released(tmp_path / "m", about, made)
    names = {p.name for p in (tmp_path / "m").iterdir()}
    assert names == {WEIGHTS, "adapter_config.json", "lesson.json", "README.md"}
    data = (tmp_path / "m" / WEIGHTS).read_bytes()
    assert data == (made.weights / WEIGHTS).read_bytes()
    assert sha256_bytes(data) in body
    assert header["library_name"] == "diffusers"
    assert header["pipeline_tag"] == "text-to-image"
    assert "base_model" not in header  # a local folder is no id of the Hub
    assert str(made.generator.model) not in body


def test_the_lines_of_the_model_card_load_the_weights(about, made, tmp_path, tiny_sd):
    import torch

    _, body = released(tmp_path / "m", about, made)
    code = "\n".join(re.findall(r"```python\n(.*?)```", body, re.S))
    code = code.replace(f"path/to/{tiny_sd.name}", str(tiny_sd)).replace(
        'folder = "."', f"folder = {str(tmp_path / 'm')!r}"
    )
    found = {}
    exec(code, found)
    assert found["image"].size == (32, 32)
    noise, text = torch.randn(1, 4, 16, 16), torch.randn(1, 77, 32)
    base = found["DiffusionPipeline"].from_pretrained(str(tiny_sd))
    with torch.no_grad():
        drawn = [p.unet(noise, 1, text).sample for p in (found["pipeline"], found["model"], base)]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-5)
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-3)


def test_the_model_card_counts_but_names_nobody(about, made, tmp_path):
    _, body = released(tmp_path / "m", about, made)
    text = " ".join(body.split())
    assert "9 chest radiographs of 7 patients" in text
    assert "| clinic | 9 | 7 | CC BY 4.0 |" in text
    assert "not for diagnosis" in text
    assert "345 trained parameters" in text
    assert "| memorised share | embedded | 0.0123 | 0.01 to 0.02 | 6 | 0.011 |" in text
    assert "77.7" not in text
    assert "66.6" not in text
    everything = b"".join(p.read_bytes() for p in (tmp_path / "m").iterdir())
    assert b"MRN-00417" not in everything
    assert b"abababab" not in everything
    assert compute_training_digest(made.learning_record.sha256) in text


def test_one_lora_a_class(about, made, tmp_path):
    for label in ("covid19", "normal"):
        (made.weights / label).mkdir()
        (made.weights / label / WEIGHTS).write_bytes((made.weights / WEIGHTS).read_bytes())
    (made.weights / WEIGHTS).unlink()
    _, body = released(tmp_path / "m", about, made)
    assert (tmp_path / "m" / "normal" / "adapter_config.json").exists()
    assert f'weight_name="covid19/{WEIGHTS}"' in body
    assert "one LoRA per class" in body


def test_what_was_not_measured_is_not_claimed(about, made, tmp_path):
    cases = {
        "a": ({}, "not measured"),
        "b": ({"assessable": "training set unknown"}, "training set unknown"),
        "c": ({"assessable": "", "measures": []}, "not measured"),
    }
    for name, (evaluated, words) in cases.items():
        _, body = released(tmp_path / name, about, replace(made, evaluation=evaluated))
        assert f"Memorisation of training images: {words}." in body


def test_the_seen_images_are_one_digest_whatever_their_order():
    hashes = ["aa" * 32, "bb" * 32]
    assert compute_training_digest(hashes) == compute_training_digest(hashes[::-1])
    assert compute_training_digest(hashes) != compute_training_digest(hashes[:1])


def test_a_hub_model_is_named_with_its_commit(made):
    generator = replace(made.generator, model="owner/name", revision="f" * 40)
    found = describe_origin(generator)
    assert (found.model, found.revision, found.on_hub) == ("owner/name", "f" * 40, True)
    local = describe_origin(made.generator)
    assert local.model == Path(made.generator.model).name
    assert local.revision.startswith("digest ")


def test_the_data_card_and_croissant(about, made, tmp_path):
    import mlcroissant

    header, body = data(tmp_path / "d", about, made)
    assert header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["text-to-image", "image-classification"]
    assert header["license"] == "other"  # the base model's licence is not known by name
    text = " ".join(body.split())
    assert "| class | image | refused |" in text
    assert "| normal | 3 | 2 |" in text
    assert "| a rude prompt | 2 | 5 |" in text
    assert "synthetic and not for diagnosis" in text
    assert "Confounded: normal comes from one source." in text
    assert "{{" not in body
    assert "{%" not in body
    found = mlcroissant.Dataset(tmp_path / "d" / "croissant.json")
    assert not found.metadata.ctx.issues.errors
    assert "7 patients" in json.dumps(found.metadata.to_json()["rai:personalSensitiveInformation"])
    records = list(found.records("images"))
    table = made.images.table.set_index("prompt")
    assert len(records) == 6
    for record in records:
        row = table.loc[record["images/prompt"].decode()]
        assert record["images/seed"] == row["seed"]
        assert record["images/label"].decode() == row["label"]
        pixels = read_image(made.images.folder / row["path"])
        assert (pixels == _array(record["images/image"])).all()


def _array(image):
    import numpy as np

    return np.asarray(image.convert("L"))


@pytest.mark.parametrize(
    ("learned", "words", "licence"),
    [
        (None, "That is not recorded", "not recorded"),
        (
            LearningRecord(patients=["x/1"], sha256=["cc" * 32]),
            "1 radiographs of 1 patients",
            "not recorded",
        ),
        (LEARNED, "Radiographs of 7 patients: the real train split", "CC BY 4.0"),
    ],
)
def test_what_was_seen_is_said_only_where_it_is_known(
    about, made, tmp_path, learned, words, licence
):
    _, body = data(tmp_path / "d", about, replace(made, learning_record=learned))
    assert words in body
    assert f"| {licence} |" in body.split("## Licence")[1]
    assert ("| clinic |" in body) == (licence == "CC BY 4.0")


def test_a_wrong_croissant_is_found(about, made, tmp_path):
    data(tmp_path / "d", about, made)
    path = tmp_path / "d" / "croissant.json"
    found = json.loads(path.read_text())
    found["recordSet"][0]["field"][2]["source"]["fileObject"] = {"@id": "nowhere.csv"}
    path.write_text(json.dumps(found))
    with pytest.raises(XraysynthError, match="not valid Croissant"):
        croissant.require_valid_croissant(path)


def test_without_mlcroissant_the_error_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(DataNotFoundError, match=r"pip install 'xraysynth\[hub\]'"):
        croissant.require_mlcroissant()


def test_originals_go_out_only_when_asked_for(about, made, tmp_path):
    (made.images.folder / "archive").mkdir()
    (made.images.folder / "archive" / "normal-000001.webp").write_bytes(b"as it came")
    (made.images.folder / "archive" / "normal-000001.json").write_text('{"account": "x"}')
    data(tmp_path / "without", about, made)
    assert not (tmp_path / "without" / "originals").exists()
    data(tmp_path / "with", about, made, with_originals=True)
    kept = list((tmp_path / "with" / "originals").iterdir())
    assert [path.name for path in kept] == ["normal-000001.webp"]


def test_a_stated_licence_and_acknowledged_terms_are_in_the_card(about, made, tmp_path):
    bound = replace(about, licence="CC BY-NC 4.0", credentialed_sources=("mimic",))
    header, body = data(tmp_path / "d", bound, made)
    assert header["license"] == "cc-by-nc-4.0"
    assert "Stated by whoever released this: CC BY-NC 4.0." in body
    assert "comes from mimic, which is under a data use agreement" in body
    _, body = data(tmp_path / "e", about, made)
    assert "data use agreement" not in body


PICTURE = '<img src="data:image/jpeg;base64,/9j/4AAQ" alt="{}, normal, image 1 of 8">'


def study(folder, about, made, *, overrides=(), **options):
    report = folder / "report"
    report.mkdir(parents=True)
    page = PICTURE.format("real") + PICTURE.format("sd_lora") + f"<p>{folder}/out/x is gone</p>"
    (report / "report.html").write_text(page)
    (report / "results.csv").write_text(f"arm,value\n{folder}/out/a,1\n")
    record = StudyRecord(
        report=report,
        config={"source": {"table": {"path": f"{folder}/private/x.csv"}}, "seed": 0},
        overrides=[
            f"source.table.path={folder}/private/my x.csv",
            f"paths.output={folder}/out",
            *overrides,
        ],
        environment={"python": "3.12", "platform": "Linux", "versions": {"torch": "2.9"}},
    )
    options = {"scrubber": Scrubber.from_folders(folder / "out"), "with_pictures": True} | options
    write_study(folder / "study", about, [made], study=record, **options)
    return {p.name: p.read_text(encoding="utf-8") for p in (folder / "study").iterdir()}


def test_the_study_can_be_repeated_and_names_no_folder(about, made, tmp_path):
    found = study(tmp_path, about, made)
    assert set(found) == {
        *("README.md", "report.html", "results.csv", "config.yaml", "versions.txt"),
    }
    assert not any(str(tmp_path) in text for text in found.values())
    assert yaml.safe_load(found["config.yaml"]) == {
        "source": {"table": {"path": "…/x.csv"}},
        "seed": 0,
    }
    assert "xraysynth study 'source.table.path=…/my x.csv'\n" in found["README.md"]
    assert "torch==2.9" in found["versions.txt"]
    assert found["report.html"].count("<img") == 1
    assert 'alt="real' not in found["report.html"]
    assert "Pictures of real radiographs were taken out" in found["README.md"]


def test_of_simulated_studies_all_pictures_stay_of_bound_ones_none(about, made, tmp_path):
    simulated = replace(about, simulated=("simulated",))
    assert study(tmp_path / "a", simulated, made)["report.html"].count("<img") == 2
    found = study(tmp_path / "b", about, made, with_pictures=False)
    assert "<img" not in found["report.html"]
    assert "All pictures were taken out" in found["README.md"]


HOSTILE = (
    "<script>alert(1)</script>\n# [see](javascript:alert(1)) ![](http://example.org/x.png) & more"
)


def outside_code(body):
    return re.sub(r"```.*?```|`[^`\n]*`", "", body, flags=re.S)


def test_no_text_from_outside_is_html_or_a_link_in_a_card(about, made, tmp_path):
    sources = [GroupCounts(HOSTILE, images=9, patients=7, licence=HOSTILE)]
    split = replace(about.train_split, sources=sources)
    about = replace(
        about,
        train_split=split,
        simulated=(HOSTILE,),
        credentialed_sources=(HOSTILE,),
        notes=(HOSTILE,),
        licence=HOSTILE,
    )
    made = replace(
        made,
        evaluation={"assessable": HOSTILE},
        outcomes={"normal": {HOSTILE: 2}},
        refusals=Refusals({"normal": (2, 5)}, {HOSTILE: (2, 5)}),
    )
    _, model_card = released(tmp_path / "m", about, made)
    _, data_card = data(tmp_path / "d", about, made)
    study_card = study(tmp_path / "s", about, made, overrides=[f"release_note={HOSTILE}"])[
        "README.md"
    ]
    for body in (model_card, data_card, study_card.split("---\n", 2)[2]):
        text = outside_code(body)
        assert "&lt;script&gt;" in text
        assert not re.search(r"<(?!this folder|the base)", text)
        assert "[see]" not in text
        assert "![" not in text
        assert "\n# &#91;" not in text
    assert HOSTILE.splitlines()[1] not in study_card.splitlines()
    croissant_text = (tmp_path / "d" / "croissant.json").read_text(encoding="utf-8")
    assert "<" not in croissant_text
    assert HOSTILE in json.loads(croissant_text)["license"]


def test_no_name_is_code_in_a_model_card(about, made, tmp_path):
    label = 'x{exit()}"'
    (made.weights / label).mkdir()
    (made.weights / WEIGHTS).rename(made.weights / label / WEIGHTS)
    model = 'owner/x"); exit("'
    generator = replace(made.generator, model=model, revision="f" * 40)
    _, body = released(tmp_path / "m", about, replace(made, generator=generator))
    code = "\n".join(re.findall(r"```python\n(.*?)```", body, re.S))
    tree = ast.parse(code)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "exit" not in {call.id for call in calls if isinstance(call, ast.Name)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {model, f"{label}/{WEIGHTS}", f"/{label}/{WEIGHTS}"} <= texts
