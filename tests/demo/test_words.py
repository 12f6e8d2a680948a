from __future__ import annotations

from itertools import combinations

from launcher.demo.words import CHAT_WORDS, DETERMINERS, OPENERS, PREPOSITIONS, THEMES, Theme


def own_words(theme: Theme) -> set[str]:
    return {*theme.subjects, *theme.verbs, *theme.adjectives, *theme.objects}


def test_no_two_themes_share_a_word() -> None:
    assert len(THEMES) >= 2
    for one, other in combinations(THEMES.values(), 2):
        assert not own_words(one) & own_words(other)


def test_a_word_has_one_part_in_a_sentence() -> None:
    common = [*OPENERS, *DETERMINERS, *PREPOSITIONS, *CHAT_WORDS]
    assert len(common) == len(set(common))
    for theme in THEMES.values():
        parts = [*theme.subjects, *theme.verbs, *theme.adjectives, *theme.objects, *common]
        assert len(parts) == len(set(parts))


def test_words_are_plain_letters() -> None:
    for theme in THEMES.values():
        assert all(word.isascii() and word.isalpha() for word in own_words(theme))
