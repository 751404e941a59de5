"""A CLIP tokenizer whose vocabulary is the prompt bank and the words of chest radiology."""

import json
from pathlib import Path

import yaml
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORD = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
WORDS = """
chest radiograph x-ray x ray xray image frontal view projection portable erect supine PA AP
posteroanterior anteroposterior of a an the with in and or no without patient adult man woman
male female years year old year-old consolidation opacity opacities opacification ground-glass
ground glass cavity cavitary cavitation nodule nodules nodular pneumonia pneumonic covid-19
covid covid19 pneumonitis tuberculosis pulmonary infection bacterial viral lobar lobe lobes left
right upper middle lower zone zones apical apex basal base bases bilateral unilateral both one
single multiple many small large mild moderate severe faint dense hazy patchy diffuse peripheral
central perihilar interstitial infiltrate infiltrates airspace air bronchogram bronchograms
pleural effusion pneumothorax atelectasis cardiomegaly heart mediastinum hilar hilum diaphragm
costophrenic angle angles rib ribs bone bones lung lungs clear normal study examination healthy
findings finding finding: disease active thick thin walled satellite fibrosis fibrocavitary
miliary scar edema showing shows consistent features medical grey grayscale text letters arrows
watermark colour lateral drawing blurry low quality artifact
"""


def build_tokenizer(bank: Path, *, length: int = 48) -> CLIPTokenizer:
    """Byte-level BPE that knows every word of the bank whole, and any other text by its bytes."""
    texts = yaml.safe_load(bank.read_text())
    corpus = [WORDS, *texts["templates"], texts["negative"], *texts["views"], *texts["sexes"]]
    corpus += [phrase for phrases in texts["findings"].values() for phrase in phrases]
    corpus += [str(age) for age in range(100)]
    # the end of a word is a token of its own kind in CLIP: both forms of all bytes come first
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(corpus, alphabet)
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(m) for m in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=length,
    )


def _merges(corpus: list[str], alphabet: list[str]) -> list[tuple[str, str]]:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
