import json
from pathlib import Path

import pandas as pd
import pytest
from images_server import ImagesServer
from small_study import overrides_for, write_cohort

from xraysynth import compose
from xraysynth.errors import ConfigError, PrivacyError, XraysynthError
from xraysynth.generation import pool
from xraysynth.generation.images_api.response_cache import ResponseCache
from xraysynth.stages import Workspace, evaluate, generate, study, train

SECRET = "sk-test-0123456789abcdefghij"


@pytest.fixture
def server():
    with ImagesServer() as running:
        yield running


def composed(folder, tiny_sd, server, *more, generators="stable_diffusion,dalle"):
    write_cohort(folder / "cohort")
    overrides = overrides_for(
        folder,
        tiny_sd,
        f"generator=[{generators}]",
        f"generator.dalle.base_url={server.address}",
        "generator.dalle.price_usd_per_image=0.01",
        "generator.dalle.budget_usd=1",
        "generator.dalle.api_key_env=MY_IMAGES_KEY",
        *more,
    )
    return compose(overrides), overrides


def only_dalle(folder, tiny_sd, server, *more):
    _, overrides = composed(folder, tiny_sd, server, *more)
    kept = [t for t in overrides if "stable_diffusion" not in t]
    return compose([*kept, "generator=dalle"]), [*kept, "generator=dalle"]


def evaluated(folder):
    paths = (folder / "outputs" / "evaluate").glob("*/run.json")
    return [json.loads(path.read_text()) for path in paths]


def test_a_study_with_a_service_counts_its_money_and_names_who_served(
    tmp_path, tiny_sd, server, monkeypatch
):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)
    config, overrides = composed(tmp_path, tiny_sd, server, "study.seeds=[0]")
    result = study.run(Workspace(config, overrides))
    assert result["state"] == "done"
    assert "dalle 50% (replace)" in result["macro_f1"]
    page = Path(result["report"]).read_text()
    assert f"served by {server.address.split('/')[2]}" in page.replace("<wbr>", "")
    costs = pd.read_csv(Path(result["report"]).with_name("tradeoffs.csv"))
    paid = costs[costs["quantity"].eq("1,000 images, dollars") & costs["generator"].eq("dalle")]
    assert paid["value"].tolist() == [pytest.approx(10)]
    assert (
        page.count(evaluate.UNKNOWN_TRAINING_SET.removesuffix(": not assessable")) >= 1
    )  # of dalle alone
    found = [r["result"]["not_assessable_reason"] for r in evaluated(tmp_path)]
    assert sorted(found) == ["", evaluate.UNKNOWN_TRAINING_SET]
    store = Workspace(config).pool_store("dalle")
    found = pool.compute_ledger(store)
    assert found.images == len(server.images) == 24
    assert found.cost_usd == pytest.approx(0.24)
    assert len(list((store.folder / "archive").glob("*.json"))) == 24
    before = len(server.images)
    assert study.run(Workspace(config, overrides))["state"] == "done"
    assert len(server.images) == before  # nothing is paid for twice


def test_the_key_is_in_nothing_that_a_run_writes(tmp_path, tiny_sd, server, monkeypatch, capfd):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)
    config, overrides = only_dalle(tmp_path, tiny_sd, server, "generate.per_class=2")
    generate.run(Workspace(config, overrides))
    assert any(SECRET in str(r["headers"]) for r in server.images)  # it was used
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 20
    assert not [p for p in written if SECRET.encode() in p.read_bytes()]
    out, err = capfd.readouterr()
    assert SECRET not in out + err


def test_a_dry_run_calls_nobody_and_writes_no_pool(tmp_path, tiny_sd, server, monkeypatch, capfd):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)
    config, overrides = only_dalle(tmp_path, tiny_sd, server, "generate.dry_run=true")
    result = generate.run(Workspace(config, overrides))
    estimate = result["estimates"]["dalle"]
    assert estimate["images"] == 48
    assert estimate["usd"] == pytest.approx(0.48)
    assert "total: 48 images, $0.48" in capfd.readouterr().err
    assert server.images == []
    assert not (tmp_path / "outputs" / "pools").exists()
    free = [f"paths.output={tmp_path}", "generate.per_class=1", "generate.dry_run=true"]
    with pytest.raises(ConfigError, match="estimates paid services, and none is selected"):
        generate.run(Workspace(compose(free), free))


def test_without_a_key_the_variable_is_named_before_any_call(
    tmp_path, tiny_sd, server, monkeypatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    overrides = [f"paths.output={tmp_path}", "generator=dalle", "generate.per_class=1"]
    overrides += ["generator.dalle.budget_usd=1", "tracking=none"]
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds no key"):
        generate.run(Workspace(compose(overrides), overrides))


def test_what_was_spent_before_counts_against_the_budget(tmp_path, tiny_sd, server, monkeypatch):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)

    def run(per_class):
        options = [f"generate.per_class={per_class}", "generator.dalle.budget_usd=0.1"]
        config, overrides = only_dalle(tmp_path, tiny_sd, server, *options)
        generate.run(Workspace(config, overrides))
        return Workspace(config).pool_store("dalle")

    store = run(2)
    with pytest.raises(XraysynthError, match=r"budget_usd=0.1 does not allow the next call"):
        run(4)
    assert len(server.images) == 10
    assert pool.spent_usd(store) == pytest.approx(0.1)


def test_all_pools_share_the_budget_of_the_study(tmp_path, tiny_sd, server, monkeypatch):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)

    def run(model, *more):
        options = [f"generator.dalle.model={model}", "generate.per_class=2", *more]
        config, overrides = only_dalle(tmp_path, tiny_sd, server, *options)
        generate.run(Workspace(config, overrides))
        return Workspace(config).pool_store("dalle")

    store = run("one")  # $0.08 for eight images
    shared = "generate.budget_usd=0.1"
    with pytest.raises(XraysynthError, match=r"generate.budget_usd=0.1 is .*others .* \$0.0800"):
        run("two", shared)
    assert len(server.images) == 10
    ResponseCache(str(store.folder)).mark_sent("normal-000007", 0.01)  # a call that was lost
    with pytest.raises(XraysynthError, match=r"others have cost \$0.1100"):
        run("three", shared)
    assert len(server.images) == 10
    run("two", "generate.budget_usd=0.17")
    assert len(server.images) == 16
    only = ["generator.dalle.budget_usd=null", "generate.budget_usd=0.25"]
    run("four", *only)  # a paid generator needs one of both


def test_a_budget_is_not_spent_once_a_shard(tmp_path, tiny_sd, server, monkeypatch):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)
    options = ["generate.per_class=2", "shard.count=2"]
    config, overrides = only_dalle(tmp_path, tiny_sd, server, *options)
    with pytest.raises(
        ConfigError, match=r"budget of generator dalle .* one of 2; leave out shard.count"
    ):
        generate.run(Workspace(config, overrides))
    assert server.images == []


def test_credentialed_data_and_services_do_not_meet_in_one_run(
    tmp_path, tiny_sd, server, monkeypatch
):
    monkeypatch.setenv("MY_IMAGES_KEY", SECRET)
    options = ["generate.per_class=12", "data.synthetic_fraction=0.5"]
    config, overrides = only_dalle(
        tmp_path, tiny_sd, server, "source.table.credentialed=true", *options
    )
    with pytest.raises(PrivacyError, match="under a data use agreement") as refused:
        generate.run(Workspace(config, overrides))
    assert "source=simulated" in str(refused.value)
    assert server.images == []
    free, free_overrides = only_dalle(tmp_path, tiny_sd, server, *options)
    generate.run(Workspace(free, free_overrides))  # the same pool, made without that source …
    asked = len(server.images)
    assert asked == 48
    train.run(Workspace(config, overrides))  # … is used with it, and nothing more is sent
    assert len(server.images) == asked
