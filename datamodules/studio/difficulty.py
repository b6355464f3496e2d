"""How hard the synthetic videos are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from pseudolabel.types import DataError, nearest_name

_LATER = ("heights", "coats")


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """How hard the videos are.

    Attributes:
        several: share of videos with a second actor-action pair.
        absent: share of videos in which the camera leaves the actors for a while.
        occlusion: share of videos with a foreground occluder.
        distractors: largest number of moving things that are no actor.
        clutter: amount of shapes in the background, 0 = none.
        camera: strength of pan, zoom and shake, 0 = fixed.
        light: strength of illumination changes, 0 = constant.
        blur: shutter time of the motion blur in frames, 0 = none.
        noise: strength of sensor noise, 1 = sigma 1.5 to 7 grey levels.
        min_area: smallest area of an actor as a share of the frame.
        max_area: largest area of an actor as a share of the frame.
        heights: share of the actors that act at any height of the frame; the others act where their action usually is
            (what flies is high), so that a network may read the action from the place and look beside the actor.
        coats: share of the actors that wear a coat, which nothing else does: it tells that there is an actor, not
            which. The others' bodies wear textures as the scenery does, and only their outline tells where they end.
    """

    several: float = 0.25
    absent: float = 0.15
    occlusion: float = 0.4
    distractors: int = 3
    clutter: float = 1.0
    camera: float = 1.0
    light: float = 1.0
    blur: float = 0.5
    noise: float = 1.0
    min_area: float = 0.1
    max_area: float = 0.28
    heights: float = 0.0
    coats: float = 0.0

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The options as they enter the fingerprint of a data set: those that came later count if not 0."""
        return {name: value for name, value in asdict(self).items() if value or name not in _LATER}

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Difficulty:
        """Build from keyword arguments.

        Raises:
            DataError: an unknown option (names the nearest one), no number of at least 0, areas out of order.
        """
        known = [item.name for item in fields(cls)]
        for name, value in options.items():
            if name not in known:
                raise DataError(
                    f"Synthetic videos have no option '{name}'{nearest_name(name, known)} Known: {', '.join(known)}."
                )
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise DataError(f"Synthetic videos: option '{name}' must be a number of at least 0, got {value!r}.")
        made = cls(**options)
        for name in _LATER:
            if (share := getattr(made, name)) > 1:
                raise DataError(
                    f"Synthetic videos: {name} is a share of the actors, expected at most 1, got {share!r}."
                )
        if not 0 < made.min_area <= made.max_area <= 0.5:
            raise DataError(
                f"Synthetic videos: expected 0 < min_area <= max_area <= 0.5, got {made.min_area} and {made.max_area}."
            )
        return made
