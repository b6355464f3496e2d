from __future__ import annotations

import re

import numpy as np

from datamodules.studio.web_words import make_id, make_keywords, make_title


def test_ids_are_safe_names_of_files_and_differ() -> None:
    ids = {make_id(np.random.default_rng(number)) for number in range(300)}
    assert len(ids) == 300
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", name) for name in ids)


def test_titles_name_the_class_and_are_untidy() -> None:
    titles = [make_title(np.random.default_rng(number), "cat") for number in range(300)]
    assert all("cat" in title.lower() for title in titles)
    for sign in (",", "/", "\\", '"', "'", ";", "../"):
        assert any(sign in title for title in titles), sign
    assert any(not title.isascii() for title in titles)


def test_keywords_hold_the_names_among_words_of_no_meaning() -> None:
    found = [make_keywords(np.random.default_rng(number), ["cat", "dog"]) for number in range(50)]
    assert all({"cat", "dog"} <= set(words) and len(set(words)) == len(words) for words in found)
    assert {len(words) for words in found} == {2, 3, 4, 5}
    assert {words.index("cat") for words in found} >= {0, 1, 2}
    assert not any(";" in word or "bird" in word for words in found for word in words)
