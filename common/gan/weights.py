"""The weights in a generator's file, whichever Keras wrote it and whatever the file is called.

A file is read once, as bytes, and everything else from these: HDF5 would lock the file, which not
all file systems allow, and would follow links to other files. Weights are assigned by the rules
that Keras itself has for its formats, so nothing in a file chooses what code runs.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from common.errors import UserError, first_line
from common.files import kind_of

Shape = tuple[int, ...]

# The first bytes of a file say what it is.
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_ARCHIVED_WEIGHTS, _ARCHIVED_CONFIG = "model.weights.h5", "config.json"
# Larger files, and weights, are no generator's.
_MAX_BYTES = 2**31
# Weights hardly compress. So where a small file unpacks to more than this and to more than this
# many times its size, it is made to fill the memory.
_ALWAYS_UNPACKED, _MAX_RATIO = 2**26, 100
_MAX_CONFIG = 2**24
# Keras writes a few entries for each layer, at most this deep for models within models.
_MAX_ENTRIES, _MAX_DEPTH = 20_000, 20


class Stored(NamedTuple):
    """What a file holds; its arrays are not yet read.

    Attributes:
        path: The file.
        layers: The weights of each layer, by the layer's name.
        by_class: Whether these names are Keras 3's paths, made of the class and the number of a
            layer, `layers/dense_1`. Otherwise layers are in the order of the network.
        config: The configuration of the model, parsed JSON; None in a file of weights alone.
    """

    path: Path
    layers: dict[str, list[h5py.Dataset]]
    by_class: bool
    config: Any

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of all weights, in the order of layers of the same class."""
        return [x.shape or () for datasets in self.layers.values() for x in datasets]


@contextmanager
def stored_in(path: Path) -> Iterator[Stored]:
    """Opens a file of Keras 2 or 3: a whole model, or weights alone, in HDF5 or as an archive.

    Raises:
        UserError: The file cannot be read, is none of these, or is larger than any generator.
    """
    content = _content_of(path)
    config: bytes | str = b""
    in_memory, size = content, len(content)
    try:
        if content.startswith(_ZIP):
            in_memory, config = _unzipped(path, content)
        file = h5py.File(io.BytesIO(in_memory), "r")
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file can make zipfile and h5py raise
        raise _damaged(path, error) from error
    with file:
        try:
            entries = _entries(path, file, size)
            config = config or file.attrs.get("model_config", b"")
            stored = Stored(path, *_layers(file, entries), _parsed(config))
        except UserError:
            raise
        except Exception as error:
            raise _damaged(path, error) from error
        yield stored


def assign(generator: keras.Model, stored: Stored) -> None:
    """Gives a generator the weights of a file; all of them, or none if there is an error.

    Raises:
        UserError: They cannot be read, do not fit the generator, or are not finite.
    """
    variables, arrays = [], []
    for name, own, datasets in _pairs(generator, stored):
        expected = [tuple(variable.shape) for variable in own]
        found = [dataset.shape or () for dataset in datasets]
        if expected != found:
            raise UserError(
                f"{stored.path} does not hold this program's generator (weights of shape "
                f"{_listed(expected)} expected for the layer {name}, {_listed(found)} found): "
                "give a file saved by its training"
            )
        variables += own
        arrays += [_read(stored.path, dataset) for dataset in datasets]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(
            f"{stored.path} holds NaN or infinity: its training has diverged, train another"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _content_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise UserError(
                    f"generator {path}: {size} bytes found, at most {_MAX_BYTES} expected: give "
                    "the file of a generator"
                )
            if not file.read(len(_HDF5)).startswith((_HDF5, _ZIP)):
                named = kind_of(path) in (".h5", ".hdf5", ".keras")
                kind = f"not a {path.suffix} file" if named else "neither an .h5 nor a .keras file"
                raise UserError(f"{path} is {kind}: give one saved by training")
            file.seek(0)
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise UserError(f"generator {path} cannot be read: {error.strerror or error}") from error


def _unzipped(path: Path, content: bytes) -> tuple[bytes, bytes]:
    """The weights and the configuration in a .keras file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if _ARCHIVED_WEIGHTS not in sizes:
            raise UserError(
                f"{path} is an archive, but not a .keras file ({_ARCHIVED_WEIGHTS} expected in "
                "it, not found): give one saved by training"
            )
        _check_size(path, sizes[_ARCHIVED_WEIGHTS], len(content))
        config = b""
        if sizes.get(_ARCHIVED_CONFIG, _MAX_CONFIG) < _MAX_CONFIG:
            config = archive.read(_ARCHIVED_CONFIG)
        return archive.read(_ARCHIVED_WEIGHTS), config


def _check_size(path: Path, unpacked: int, size: int) -> None:
    most = min(_MAX_BYTES, max(_ALWAYS_UNPACKED, _MAX_RATIO * size))
    if unpacked > most:
        raise UserError(
            f"{path} does not hold this program's generator (at most {most} bytes of weights "
            f"expected, {unpacked} found in a file of {size}): give a file saved by its training"
        )


def _entries(path: Path, file: h5py.File, size: int) -> dict[str, h5py.Group | h5py.Dataset]:
    """All groups and data sets of a file by their paths, if they are as few as Keras writes."""
    found: dict[str, h5py.Group | h5py.Dataset] = {}
    waiting = [("", file)]
    unpacked = 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            entry = f"{prefix}{name}"
            links = not isinstance(group.get(name, getlink=True), h5py.HardLink)
            if links or len(found) >= _MAX_ENTRIES or entry.count("/") >= _MAX_DEPTH:
                raise UserError(
                    f"{path} is not a file that Keras writes (at most {_MAX_ENTRIES} entries, "
                    f"{_MAX_DEPTH} deep, without links expected; others found): give one saved by "
                    "training"
                )
            item = group[name]
            # older versions have written Windows' separator
            found[entry.replace("\\", "/")] = item
            if isinstance(item, h5py.Group):
                waiting.append((f"{entry}/", item))
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise UserError(f"{path} has its weights in other files: save it as one file")
                unpacked += math.prod(item.shape or ()) * item.dtype.itemsize
    _check_size(path, unpacked, size)
    return found


def _layers(
    file: h5py.File, entries: dict[str, h5py.Group | h5py.Dataset]
) -> tuple[dict[str, list[h5py.Dataset]], bool]:
    """The weights of each layer, and whether layers are named by their class."""
    is_whole_model = isinstance(entries.get("model_weights"), h5py.Group)
    top = "model_weights/" if is_whole_model else ""
    names = _names(entries["model_weights"] if is_whole_model else file, "layer_names")
    if names is not None:
        return {
            name: [entries[f"{top}{name}/{weight}"] for weight in weights]
            for name in names
            if (weights := _names(entries[f"{top}{name}"], "weight_names"))
        }, False
    layers: dict[str, list[h5py.Dataset]] = {}
    for path in sorted(entries, key=_natural_order):
        # an optimizer's state, and that of random numbers, are no weights
        if isinstance(entries[path], h5py.Dataset) and not re.search(
            r"(^|/)(optimizer|seed_generator)", path
        ):
            layer = path.replace("_layer_checkpoint_dependencies", "layers").rpartition("/vars/")
            layers.setdefault(layer[0] or path, []).append(entries[path])
    return layers, True


def _names(group: h5py.Group, attribute: str) -> list[str] | None:
    """A list of names beside a group, which Keras splits where HDF5 has no room for it."""
    attributes = group.attrs
    if attribute in attributes:
        names = list(attributes[attribute])
    elif f"{attribute}0" in attributes:
        names, part = [], 0
        while f"{attribute}{part}" in attributes:
            names += list(attributes[f"{attribute}{part}"])
            part += 1
    else:
        return None
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _pairs(
    generator: keras.Model, stored: Stored
) -> Iterator[tuple[str, list[keras.Variable], list[h5py.Dataset]]]:
    """The layers of a generator with their variables, and the weights for these in a file."""
    if stored.by_class:
        for path, layer in _paths(generator, "layers"):
            yield path, layer.weights, stored.layers.get(path, [])
        return
    found = list(stored.layers.values())
    for i, layer in enumerate(layer for layer in generator.layers if layer.weights):
        variables = layer.trainable_weights + layer.non_trainable_weights
        yield layer.name, variables, found[i] if i < len(found) else []


def _paths(model: keras.Model, prefix: str) -> Iterator[tuple[str, keras.Layer]]:
    """The layers of a model with weights of their own, with Keras 3's paths for them."""
    numbers: dict[str, int] = {}
    for layer in model.layers:
        name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W", "", type(layer).__name__))
        name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
        number = numbers[name] = numbers.get(name, -1) + 1
        path = f"{prefix}/{name}_{number}" if number else f"{prefix}/{name}"
        if isinstance(layer, keras.Model):
            yield from _paths(layer, f"{path}/layers")
        elif layer.weights:
            yield path, layer


def _read(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """An array as float32."""
    if dataset.dtype.kind != "f":
        raise UserError(f"{path} holds weights of type {dataset.dtype}: float32 expected")
    try:
        with np.errstate(all="ignore"):  # what is too large is infinite, and refused as such
            return dataset[()].astype(np.float32)
    except Exception as error:  # whatever damaged or unknown compression can make h5py raise
        raise UserError(
            f"the weights in {path} cannot be read ({first_line(error)}): save it again"
        ) from error


def _parsed(config: str | bytes) -> Any:
    """The configuration of a model; None if there is none that can be read."""
    try:
        return json.loads(config)["config"] if len(config) < _MAX_CONFIG else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _natural_order(name: str) -> list[tuple[str, int]]:
    """Sorts dense_2 before dense_10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _listed(shapes: list[Shape]) -> str:
    return ", ".join(map(str, shapes)) or "none"


def _damaged(path: Path, error: Exception) -> UserError:
    if "already open for" in str(error):
        return UserError(f"{path} is being written: try again when that has ended, or copy it")
    return UserError(f"{path} is cut short or damaged ({first_line(error)}): save it again")
