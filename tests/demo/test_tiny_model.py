"""."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from launcher.demo.tiny_model import (
    CHAT_WORDS,
    CLASSES,
    CONTEXT,
    DETERMINERS,
    GRAMMAR,
    KITCHEN,
    OPENERS,
    PREPOSITIONS,
    SEA,
    THEMES,
    Theme,
    byte_alphabet,
    embeddings,
    vocabulary,
    write_tiny_model,
)


def test_alphabet_spells_every_byte_with_one_printable_character() -> None:
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert all(len(letter) == 1 and not letter.isspace() for letter in alphabet)
    # As GPT-2 has them.
    assert alphabet[ord("A")] == "A"
    assert alphabet[ord(" ")] == "Ġ"
    assert alphabet[ord("\n")] == "Ċ"


@pytest.mark.parametrize("theme", THEMES.values(), ids=lambda theme: theme.name)
def test_vocabulary_holds_each_token_once_and_every_class(theme: Theme) -> None:
    vocab = vocabulary(theme)
    assert len(vocab.tokens) == len(set(vocab.tokens)) == len(vocab.types) == len(vocab.classes)
    assert set(vocab.classes) == set(CLASSES)
    assert vocab.tokens[vocab.end] == "<|im_end|>"


def test_a_theme_says_its_own_words_only() -> None:
    vocab = vocabulary(SEA)
    classes = dict(zip(vocab.tokens, vocab.classes, strict=True))
    assert classes["Ġgull"] == "subject"
    assert classes["Ġbaker"] == "other"
    assert vocabulary(KITCHEN).tokens == vocab.tokens


def test_each_merge_extends_what_earlier_merges_made() -> None:
    made = set(byte_alphabet())
    for merge in vocabulary(SEA).merges:
        left, right = merge.split(" ")
        assert left in made
        assert right in made
        made.add(left + right)
    assert {"Ġlighthouse", "assistant", "The"} <= made


def test_grammar_is_a_distribution_over_known_classes() -> None:
    for followers in GRAMMAR.values():
        assert set(followers) <= set(CLASSES)
        assert sum(followers.values()) == pytest.approx(1.0)


def test_weights_make_the_grammar_likely() -> None:
    vocab = vocabulary(SEA)
    embedding, output = embeddings(vocab, np.random.default_rng(1))
    verb = vocab.tokens.index("Ġfollows")
    hidden = embedding[verb] / np.sqrt(np.mean(embedding[verb] ** 2))
    logits = output @ hidden
    likeliest = {vocab.classes[token] for token in np.argsort(logits)[-6:]}
    assert likeliest == {"determiner"}


def test_file_is_small_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sea.gguf"
    write_tiny_model(path, SEA)
    assert path.stat().st_size < 600_000
    fields = GGUFReader(path).fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["tokenizer.ggml.model"].contents() == "gpt2"
    assert fields["llama.context_length"].contents() == CONTEXT
    assert "<|im_start|>assistant" in fields["tokenizer.chat_template"].contents()


def test_same_seed_same_file_and_nothing_left_beside_it(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        write_tiny_model(tmp_path / name, SEA, seed=seed)
    one, two, three = ((tmp_path / name).read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]


def own_words(theme: Theme) -> set[str]:
    return {*theme.subjects, *theme.verbs, *theme.adjectives, *theme.objects}


def test_no_two_themes_share_a_word() -> None:
    assert len(THEMES) >= 2
    for one, other in combinations(THEMES.values(), 2):
        assert not own_words(one) & own_words(other)


def test_each_word_has_one_class() -> None:
    common = [*OPENERS, *DETERMINERS, *PREPOSITIONS, *CHAT_WORDS]
    assert len(common) == len(set(common))
    for theme in THEMES.values():
        parts = [*theme.subjects, *theme.verbs, *theme.adjectives, *theme.objects, *common]
        assert len(parts) == len(set(parts))


def test_words_are_plain_letters() -> None:
    for theme in THEMES.values():
        assert all(word.isascii() and word.isalpha() for word in own_words(theme))
