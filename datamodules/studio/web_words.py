"""How videos are called on the synthetic web: ids, titles and search words, as untidy as on the real one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ID_LENGTH = 11

_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_TITLES = (
    "Funny {name} compilation, part {number}",
    "My {name} at home (HD)",
    '"{name}" – the full story | episode {number}/12',
    "{name} vs. vacuum cleaner!!! 😂😂",
    "Наш {name}, лето {year}",
    "かわいい {name} ★彡 {year}/{number}",
    "../raw footage/{name} {number}.mov",
    "C:\\Users\\me\\Videos\\{name}_{number}.avi",
    "Don't miss: {name}, music & more; 100% real",
    "{name}",
    "¿Qué hace el {name}? – vídeo nº {number}",
    " {name}  //  slow-motion * best of {year} ",
)

_SIDE_WORDS = (
    "funny",
    "cute",
    "compilation",
    "best of",
    "hd",
    "full video",
    "home",
    "2014",
    "vlog",
    "part 2",
    "été",
    "日本",
)


def make_id(rng: np.random.Generator) -> str:
    """Return an id of 11 letters, digits, ``-`` and ``_``; it may start with any of them."""
    return "".join(_ID_LETTERS[place] for place in rng.integers(len(_ID_LETTERS), size=ID_LENGTH))


def make_title(rng: np.random.Generator, name: str) -> str:
    """Return a title that names a class; commas, quotes, path separators and other scripts are common."""
    template = _TITLES[rng.integers(len(_TITLES))]
    shown = (name, name.capitalize(), name.upper())[rng.integers(3)]
    return template.format(name=shown, number=int(rng.integers(1, 40)), year=int(rng.integers(2007, 2017)))


def make_keywords(rng: np.random.Generator, names: Sequence[str]) -> tuple[str, ...]:
    """Return the search words of a video: the classes named, and up to three words that say nothing, in any order."""
    side = rng.choice(_SIDE_WORDS, int(rng.integers(0, 4)), replace=False)
    words = [*names, *side.tolist()]
    return tuple(words[place] for place in rng.permutation(len(words)))
