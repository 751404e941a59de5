"""A release of a small study, as the stage writes it; the report is a stand-in."""

import getpass
import json
import re
import socket
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
from hub_server import Hub
from small_study import overrides_for, write_cohort

from xraysynth import compose
from xraysynth.config import Config
from xraysynth.errors import ConfigError, DamageError, PrivacyError, XraysynthError
from xraysynth.release.recipe import ReleaseRecipe
from xraysynth.stages import Workspace, finetune, generate, release, report

SECRET = "hf_verysecrettoken"
PICTURE = '<img src="data:image/jpeg;base64,/9j/4AAQ" alt="{}, normal, image 1 of 8">'


@dataclass(frozen=True)
class Releasing(Config):
    release: ReleaseRecipe = field(default_factory=ReleaseRecipe)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_sd):
    """Folder and overrides of a study whose LoRA is taught and whose pools are filled."""
    folder = tmp_path_factory.mktemp("release")
    write_cohort(folder / "cohort", per_class=16)
    overrides = overrides_for(
        folder,
        tiny_sd,
        "generator=[stable_diffusion,sd_lora]",
        "source.table.license=CC BY 4.0",
        "generate.per_class=2",
        f"generator.sd_lora.model={tiny_sd}",
        "generator.sd_lora.steps=1",
        "generator.sd_lora.lora.steps=2",
        "generator.sd_lora.lora.per_class=false",
        "generator.sd_lora.lora.rank=2",
        "generator.sd_lora.lora.batch_size=2",
        "generator.sd_lora.lora.samples_per_class=0",
        "tracking=none",
    )
    config = compose(overrides)
    finetune.run(Workspace(config, overrides))
    generate.run(Workspace(config, overrides))
    return folder, overrides


@pytest.fixture(autouse=True)
def reported(monkeypatch, made):
    """The report of the study: a page that names a folder, a user and real images."""
    folder = made[0] / "outputs" / "report" / "0123"
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(getpass, "getuser", lambda: "annaschmidt")
    monkeypatch.setattr(socket, "gethostname", lambda: "ward7.hospital.org")
    page = f"<p>{made[0]}/outputs/x, annaschmidt@ward7.hospital.org and ward7</p>"
    page += PICTURE.format("real") + PICTURE.format("sd_lora")
    page += PICTURE.format("real, table, flagged: blank")
    (folder / "report.html").write_text(page)
    (folder / "results.csv").write_text("arm,value\nreal only,0.5\n")
    answer = {"folder": str(folder), "key": "0123", "state": "done"}
    monkeypatch.setattr(report, "run", lambda workspace: answer)
    return answer


def run(made, *more: str, **options):
    overrides = made[1]
    composed = compose([*overrides, *more])
    values = {f.name: getattr(composed, f.name) for f in fields(composed) if f.name != "release"}
    config = Releasing(**values, release=ReleaseRecipe(**options))
    return release.run(Workspace(config, [*overrides, *more]))


def texts(folder: Path):
    paths = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".png"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_the_parts_and_that_nothing_of_this_machine_is_in_them(made):
    result = run(made)
    folder = Path(result["release"])
    assert folder == made[0] / "outputs" / "releases" / "study"
    assert set(result["parts"]) == {
        *("model-sd_lora", "data-stable_diffusion", "data-sd_lora", "study"),
    }
    found = texts(folder)
    assert {"model-sd_lora/pytorch_lora_weights.safetensors", "study/report.html"} <= set(found)
    assert "data-sd_lora/croissant.json" in found
    assert len(list((folder / "data-sd_lora" / "train").glob("*/*.png"))) == 8
    cohort = Workspace(compose(made[1]), made[1]).cohort
    private = [str(made[0]), str(Path.cwd()), *cohort.table["image_id"], *cohort.table["sha256"]]
    private += ["annaschmidt", "ward7"]
    for name, data in found.items():
        assert not [text for text in private if text.encode() in data], name
    assert not list(folder.rglob("learned.json"))
    assert not list(folder.rglob("*screening*"))
    assert list((made[0] / "outputs" / "cohorts").glob("screening-*"))
    assert found["study/report.html"].count(b"<img") == 1


def test_a_generator_that_learned_and_one_that_did_not_say_so(made):
    folder = Path(run(made)["release"])
    learned, not_learned = (
        (folder / f"data-{name}" / "README.md").read_text()
        for name in ("sd_lora", "stable_diffusion")
    )
    assert "It has seen none of the study's real images." in not_learned
    assert "| table | " in learned
    assert "CC BY 4.0" in learned
    assert "CC BY 4.0" not in not_learned


def test_written_once_and_anew_when_the_study_changes(made, reported):
    first = run(made)
    stamp = Path(first["release"], "study", "README.md").stat().st_mtime_ns
    again = run(made)
    assert again["skipped"]
    assert Path(first["release"], "study", "README.md").stat().st_mtime_ns == stamp
    reported["key"] = "4567"
    changed = run(made)
    assert not changed["skipped"]
    assert changed["key"] != first["key"]
    reported["key"] = "0123"
    assert not run(made)["skipped"]  # the folder holds another release now


def test_the_newest_evaluation_of_these_images_gives_the_figures(made):
    workspace = Workspace(compose(made[1]), made[1])
    cohort, images = workspace.cohort, workspace.pools()["sd_lora"]
    before = run(made)
    rows = [{"encoder": "embedded", "metric": "memorised share", "label": "", "value": 0.3217}]
    folder = made[0] / "outputs" / "evaluate" / "abc"
    folder.mkdir(parents=True)
    record = {
        "state": "done",
        "started": "2026-01-01",
        "identity": {"cohort": cohort.digest(), "pool": images.digest()},
        "result": {"assessable": "", "measures": rows},
    }
    (folder / "run.json").write_text(json.dumps(record))
    after = run(made)
    assert after["key"] != before["key"]
    for part in ("model-sd_lora", "data-sd_lora"):
        assert "0.3217" in Path(after["release"], part, "README.md").read_text()
    other = Path(after["release"], "data-stable_diffusion", "README.md").read_text()
    assert "training images: not measured" in other


BOUND = ("source.table.credentialed=true", "study.name=bound")


def test_what_was_learned_from_bound_data_stays_until_terms_are_acknowledged(made):
    with pytest.raises(PrivacyError, match=r"source table .* model-sd_lora, data-sd_lora") as error:
        run(made, *BOUND)
    assert "data-stable_diffusion" not in str(error.value)
    assert not (made[0] / "outputs" / "releases" / "bound").exists()
    result = run(made, *BOUND, acknowledge_terms=True)
    for part in ("model-sd_lora", "data-sd_lora", "study"):
        card = Path(result["release"], part, "README.md").read_text()
        assert "acknowledge_terms=true" in card


def test_the_results_of_bound_data_go_out_without_pictures(made):
    result = run(made, "source.table.credentialed=true", "study.name=results", parts=["study"])
    assert list(result["parts"]) == ["study"]
    assert "<img" not in Path(result["release"], "study", "report.html").read_text()


def test_a_page_that_names_a_patient_is_not_released(made, reported):
    cohort = Workspace(compose(made[1]), made[1]).cohort
    name = cohort.table["image_id"].iloc[0]
    (Path(reported["folder"]) / "report.html").write_text(f"<li>leak: {name}</li>")
    with pytest.raises(PrivacyError, match=r"study/report\.html names 1 real images or patients"):
        run(made, "study.name=leak", parts=["study"])
    assert not (made[0] / "outputs" / "releases" / "leak").exists()


def test_a_report_that_leaves_damaged_work_out_is_not_released(made, reported):
    reported |= {"state": "failed", "failures": ["evaluate sd_lora: run.json was altered; run: it"]}
    with pytest.raises(
        DamageError, match=r"evaluate sd_lora: run\.json was altered; run: it\. "
    ) as error:
        run(made, "study.name=damaged")
    assert not (made[0] / "outputs" / "releases" / "damaged").exists()
    parts = re.search(r"release\.parts=\[(.*)\]", str(error.value))[1].split(",")
    assert set(run(made, "study.name=damaged", parts=parts)["parts"]) == {
        *("model-sd_lora", "data-stable_diffusion", "data-sd_lora"),
    }


def test_another_folder_is_never_replaced(made):
    folder = made[0] / "outputs" / "releases" / "mine"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(XraysynthError, match="no release by xraysynth"):
        run(made, "study.name=mine", parts=["study"])
    assert (folder / "thesis.txt").exists()


def test_there_may_be_no_weights(made):
    with pytest.raises(ConfigError, match="selects nothing"):
        run((made[0], [t for t in made[1] if "sd_lora" not in t]), parts=["model"])


def test_without_a_token_nothing_is_written(made, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        run(made, "study.name=unsent", push=True, repo="me/mine")
    assert not (made[0] / "outputs" / "releases" / "unsent").exists()


def test_pushed_with_the_token_nowhere_but_in_the_request(made, monkeypatch, capfd):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        options = {"push": True, "repo": "me/mine", "parts": ["model", "study"]}
        result = run(made, "study.name=sent", **options)
        assert result["pushed"]["study"] == f"{server.url}/datasets/me/mine-study"
        assert "README.md" in server.files["models/me/mine-model-sd_lora"]
        server.sent.clear()
        assert run(made, "study.name=sent", **options)["skipped"]
        assert server.sent == []
        assert server.tokens == {f"Bearer {SECRET}"}
    everything = b"".join(p.read_bytes() for p in made[0].rglob("*") if p.is_file())
    assert SECRET.encode() not in everything
    assert SECRET not in "".join([*capfd.readouterr(), json.dumps(result)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ["weights"]}, "release.parts must be one of model, data, study; got 'weights'"),
        ({"parts": []}, "release.parts must name"),
        ({"repo": "mine"}, "owner/name"),
        ({"push": True}, "needs release.repo"),
    ],
)
def test_a_recipe_that_cannot_be_followed(options, message):
    with pytest.raises(ConfigError, match=message):
        ReleaseRecipe(**options)
