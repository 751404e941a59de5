import shlex
from collections import Counter

import pytest

from xraysynth import compose
from xraysynth.errors import ConfigError
from xraysynth.generation.prompts import PromptBank, iterate_requests


@pytest.fixture(scope="module")
def bank() -> PromptBank:
    return compose().prompts


def test_requests_are_deterministic_and_only_appended_to(bank):
    few = list(iterate_requests(bank, {"normal": 3, "covid19": 3}, seed=0))
    many = {r.image_id: r for r in iterate_requests(bank, {"covid19": 9, "normal": 5}, seed=0)}
    assert all(many[request.image_id] == request for request in few)
    assert len({request.seed for request in many.values()}) == len(many)


def test_view_sex_and_age_do_not_tell_the_class(bank):
    made = list(iterate_requests(bank, dict.fromkeys(bank.findings, 12), seed=0))
    for words in (bank.views, bank.sexes, [f"{age} year" for age in bank.ages]):
        counts = {
            label: Counter(
                w
                for r in made
                if r.label == label
                for w in words
                if f" {w} " in f" {r.prompt} ".replace(",", " ").replace(":", " ")
            )
            for label in bank.findings
        }
        assert len({tuple(sorted(count.items())) for count in counts.values()}) == 1


def test_every_prompt_names_its_own_condition_and_no_other(bank):
    names = {
        "normal": "normal",
        "pneumonia": "pneumonia",
        "covid19": "covid-19",
        "tuberculosis": "tuberculosis",
    }
    for request in iterate_requests(bank, dict.fromkeys(names, 20), seed=1):
        assert [
            label for label, name in names.items() if name in request.prompt.split(":")[-1]
        ] == [request.label]


def test_several_phrasings_occur(bank):
    assert len({r.prompt for r in iterate_requests(bank, {"covid19": 40}, seed=0)}) > 20


def test_prompts_fit_into_a_text_encoder(bank):
    assert (
        max(
            len(r.prompt.split())
            for r in iterate_requests(bank, dict.fromkeys(bank.findings, 50), seed=0)
        )
        < 40
    )


@pytest.mark.parametrize("label", ["Lung Opacity", "Lungenentzündung", "正常", "{a} %s"])
def test_the_name_of_a_class_without_phrases_is_its_phrase(bank, label):
    for request in iterate_requests(bank, {label: 5}, seed=0):
        assert label in request.prompt
    assert bank.digest([label]) != bank.digest(["other"])


@pytest.mark.parametrize("label", ["1", "-1?", "+"])
def test_a_class_whose_name_says_nothing_says_how_to_add_phrases(bank, label):
    with pytest.raises(ConfigError, match="no phrase for class") as raised:
        list(iterate_requests(bank, {label: 1}, seed=0))
    (remedy,) = shlex.split(str(raised.value).partition("add some: ")[2])
    with_phrases = compose([remedy]).prompts
    assert with_phrases.phrases(label) == ["first phrase", "second phrase"]
    assert list(iterate_requests(with_phrases, {label: 1}, seed=0))
