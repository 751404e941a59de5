import json

import pytest

from xraysynth.errors import PrivacyError
from xraysynth.privacy import Scrubber, key_variables, require_no_private_data, without_real_images

PIXEL = "data:image/jpeg;base64,/9j/4AAQ/home/anna/Zz+/tmp/x=="


@pytest.fixture
def scrubber(tmp_path):
    return Scrubber(folders=(str(tmp_path / "out"),), names=("anna", "box17"))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("pool {out}/pools/a-1 is gone", "pool pools/a-1 is gone"),
        ("source.table.path=/srv/data of/x.csv", "source.table.path=…/data of/x.csv"),
        ("see /home/anna/xrays/a.png.", "see …/a.png."),
        ("'/home/anna'", "'…/…'"),
        ("~/xrays and file:///mnt/xrays", "…/xrays and …/xrays"),
        (r"C:\Users\anna\x.csv", "…/x.csv"),
        ("ran by anna on box17", "ran by … on …"),
        ("{out}er/x", "…/x"),
        ("real/synthetic, 3/4, https://a.org/b/c, 1 / 2, savannah", None),
        ("relative/path/x.csv, ../up/x, </td><br/>", None),
    ],
)
def test_text(scrubber, tmp_path, text, clean):
    text = text.format(out=tmp_path / "out")
    assert scrubber.scrub_text(text) == (text if clean is None else clean)


def test_a_page_keeps_its_tags_and_pictures(scrubber, tmp_path):
    page = (
        "<style>/* a */ td { grid-row: 1/-1; } a/**/</style>"
        f'<p class="anna">{tmp_path}/out/x by anna</p><img src="{PIXEL}" alt="anna">'
    )
    found = scrubber.scrub_html(page)
    assert found == page.replace(f"{tmp_path}/out/", "").replace("by anna", "by …").replace(
        'alt="anna"', 'alt="…"'
    )


def test_values_of_a_configuration(scrubber, tmp_path):
    found = scrubber.scrub_values(
        {
            "path": f"{tmp_path}/out/cache/x",
            "root": "/mnt/St Mary/scans",
            "base_url": "http://box17:8000/v1",
            "azure_endpoint": None,
            "many": ["/etc/x", 3, {"seed": 0}],
        }
    )
    assert found == {
        "path": "cache/x",
        "root": "…/scans",
        "base_url": "…",
        "azure_endpoint": None,
        "many": ["…/x", 3, {"seed": 0}],
    }


def test_only_pictures_known_to_be_synthetic_stay():
    alts = [
        "real, normal, image 1",
        "sd_lora, normal, image 1",
        "training image nearest to sd_lora",
    ]
    alts += ["sd_lora, pair 1", "sd_lora_2, normal"]
    page = "".join(f'<img src="{PIXEL}" alt="{alt}, SHA-256 0a1b2c3d">' for alt in alts)
    assert without_real_images(page, ["sd_lora"]).count(PIXEL) == 2
    assert "real, normal" not in without_real_images(page, ["sd_lora", "real"])
    assert PIXEL not in without_real_images(page, [])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.md", "image clinic-scan_0007 (patient x)", "1 real images or patients"),
        ("a/b.json", json.dumps({"who": "MRN-00417"}), "1 real images or patients"),
        ("a.csv", "hf_abcdefghij", "secret"),
        ("a.html", "{out}/x", "a folder of this machine"),
    ],
)
def test_what_must_not_leave_is_found(scrubber, tmp_path, monkeypatch, name, text, message):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghij")
    folder = tmp_path / "release"
    (folder / name).parent.mkdir(parents=True)
    ids = {"clinic-scan_0007", "MRN-00417", "123456", "p1"}
    (folder / name).write_text("123456 of p1, normal, 0.25")
    require_no_private_data(folder, scrubber, ids=ids)
    (folder / name).write_text(text.replace("{out}", str(tmp_path / "out")))
    with pytest.raises(PrivacyError, match=message) as error:
        require_no_private_data(folder, scrubber, ids=ids)
    assert "hf_abc" not in str(error.value)


def test_a_secret_in_a_variable_of_any_name_is_found(scrubber, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI", "of-a-plain-variable")
    monkeypatch.setenv("OTHER", "sk-0123456789abcdefghijklmn")
    (tmp_path / "a.md").write_text("of-a-plain-variable")
    require_no_private_data(tmp_path, scrubber, ids=())
    variables = key_variables({"generator": {"dalle": {"api_key_env": "OPENAI"}}})
    with pytest.raises(PrivacyError, match=r"a.md contains the value of a secret"):
        require_no_private_data(tmp_path, scrubber, ids=(), secret_variables=variables)
    (tmp_path / "a.md").write_text("sk-0123456789abcdefghijklmn")
    with pytest.raises(PrivacyError, match=r"a.md contains the value of a secret"):
        require_no_private_data(tmp_path, scrubber, ids=())
