import pytest
from hub_server import Hub

from xraysynth.errors import ConfigError, XraysynthError
from xraysynth.release import hub

SECRET = "hf_verysecrettoken"


@pytest.fixture
def server(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with Hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


@pytest.fixture
def folder(tmp_path):
    for name in ("model-a/README.md", "model-a/w.safetensors", "study/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"---\nlicense: mit\n---\n{name}")
    return tmp_path


def push(folder, **options):
    given = {"repo": "me/mine", "private": True, "token": SECRET} | options
    return hub.push(folder, ["model-a", "study"], **given)


def test_every_part_goes_to_a_repository_of_its_own(server, folder):
    found = push(folder)
    assert found == {
        "model-a": f"{server.url}/me/mine-model-a",
        "study": f"{server.url}/datasets/me/mine-study",
    }
    assert set(server.files["models/me/mine-model-a"]) == {"README.md", "w.safetensors"}
    assert server.files["datasets/me/mine-study"]["README.md"].endswith(b"study/README.md")
    assert {asked["visibility"] for asked in server.created} == {"private"}
    assert server.tokens == {f"Bearer {SECRET}"}


def test_what_is_there_is_not_sent_again(server, folder):
    push(folder)
    (folder / "model-a" / "README.md").write_text("---\nlicense: mit\n---\nnew")
    server.sent.clear()
    push(folder)
    assert server.sent == ["models/me/mine-model-a/README.md"]


def test_a_refusal_says_where_the_folder_is_and_no_secret(server, folder):
    server.refuse = True
    with pytest.raises(XraysynthError, match="me/mine-model-a") as error:
        push(folder)
    assert str(folder) in str(error.value)
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


def test_a_missing_token_is_named(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="HF_TOKEN"):
        hub.read_token()


def test_offline_nothing_is_tried(folder):
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        push(folder)


def test_no_token_is_sent_by_plain_http(folder, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:{SECRET}@hub.example.org")
    with pytest.raises(
        ConfigError, match=r"HF_ENDPOINT calls hub.example.org by plain http"
    ) as raised:
        push(folder)
    assert SECRET not in str(raised.value)


def test_an_address_holds_no_secret(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"https://me:{SECRET}@hub.example.org/?token={SECRET}")
    assert hub.repo_url("me/mine", "model-a") == "https://hub.example.org/me/mine-model-a"
