"""Region proposals from files: another program's masks take the place of our own."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from pseudolabel.palette import read_mask
from pseudolabel.proposal_set import Proposals
from pseudolabel.types import BoolArray, DataError

_EXPECTED = (
    "Expected an .npz with 'masks' (R, H, W), or with 'regions' (H, W) and 'members' (R, S), or a folder of mask "
    "images (.png), one per proposal, not 0 = inside."
)


def read_proposals(path: str | Path) -> Proposals:
    """Read the proposals of one frame.

    Args:
        path: an ``.npz`` with ``masks`` (R, H, W), not 0 = inside, or with ``regions`` int (H, W) and ``members``
            (R, S), or as :meth:`Proposals.to_arrays` gives them; or a folder of PNGs, one mask each, read in the order
            of their names. An empty folder has no size, so it is an error; an empty pool is ``masks`` (0, H, W).

    Raises:
        DataError: missing, unreadable, or of other content or sizes.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise DataError(f"Proposals '{path}' do not exist. {_EXPECTED} Check the path.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"Proposals '{path}' cannot be read ({error}). {_EXPECTED}") from error
    try:
        if {"regions", "packed", "shape"} <= set(arrays):
            return Proposals.from_arrays(arrays)
        if {"regions", "members"} <= set(arrays):
            return Proposals.from_members(arrays["regions"], arrays["members"] != 0)
        if "masks" in arrays:
            return Proposals.from_masks(arrays["masks"] != 0)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    raise DataError(f"Proposals '{path}' hold {', '.join(sorted(arrays)) or 'nothing'}. {_EXPECTED}")


def _read_folder(path: Path) -> Proposals:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
    if not files:
        raise DataError(f"Proposals '{path}': the folder holds no .png. {_EXPECTED}")
    masks: list[BoolArray] = []
    for file in files:
        mask = read_mask(file)
        if masks and mask.shape != masks[0].shape:
            raise DataError(
                f"Proposals '{path}': {file.name} is {mask.shape}, {files[0].name} is {masks[0].shape}. Expected masks "
                "of one size, that of the frame."
            )
        masks.append(mask != 0)
    return Proposals.from_masks(np.stack(masks))
