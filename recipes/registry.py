"""Recipes by name: a new paper is one file, one config and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recipes import ws2

RECIPES: dict[str, Callable[..., dict[str, Any]]] = {"ws2": ws2.run}
