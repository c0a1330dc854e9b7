"""What a folder of replicates knows of its run: the program, what replaced numbers of it, and the options.

`run.json` has the text and the options, `given.npz` the arrays that the caller gave. `sampled.json` says which outputs are
sampled, and why: the first process decides, so that a slower machine does not sample what a faster one found by formulas.
"""

from __future__ import annotations

import json
import os
import shlex
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, ProgramError, Source
from tp_compiler.evaluate.options import Options
from tp_compiler.files import whole
from tp_compiler.ir.model import Compiled
from tp_compiler.ir.program import Program

RUN, GIVEN, SAMPLED = "run.json", "given.npz", "sampled.json"
#: Options that say what is computed, and the device; the others say how.
_OPTIONS = (
    "samples",
    "max_samples",
    "replicates",
    "seed",
    "method",
    "rtol",
    "atol",
    "f0",
    "backend",
    "device",
    "dtype",
)


@dataclass(frozen=True)
class Record:
    """A run that is stored in a folder. `folder` is that of the program, which its imports and data are relative to."""

    path: Path
    key: str
    name: str
    text: str
    folder: str
    allow_outside: bool
    settings: Mapping[str, float]
    given: Mapping[str, Any]
    options: Mapping[str, Any]
    parts: bool  # were they begun by a range?

    @property
    def source(self) -> Source:
        """The program under its own name if that still means the same folder, so that messages are also the same."""
        same = _folder(self.name) == self.folder
        name = self.name if same else str(Path(self.folder) / Path(self.name).name)
        return Source(name, self.text, self.allow_outside)

    @property
    def chosen(self) -> Options:
        """The options that say what is computed."""
        return Options(**{name: self.options[name] for name in _OPTIONS})

    def command(self, begin: int | None = None, end: int | None = None) -> str:
        """The command that computes replicates, or all that a run without a range needs."""
        words = ["tpc", "limit", self.name]
        defaults = Options()
        for option in _OPTIONS:
            value = self.options[option]
            if value != getattr(defaults, option):
                words += [f"--{option.replace('_', '-')}", str(value)]
        words += [word for name, value in self.settings.items() for word in ("--set", f"{name}={value!r}")]
        words += [word for name in self.given for word in ("--data", f"{name}={self.path / GIVEN}:{name}")]
        words += [word for name in self.options["only"] or () for word in ("--only", name)]
        words += ["--allow-outside"] if self.allow_outside else []
        if begin is not None:
            words += ["--replicate-range", f"{begin}:{end}"]
        return shlex.join([*words, "--checkpoint", str(self.path)])


def write(program: Program, options: Options, only: Collection[str] | None, key: str) -> None:
    """Writes the record of a run into its folder, before any work. `key`: what the digits of its replicates depend on.

    What parts of a run belong to stays, whatever a run without a range chooses that shares their replicates.
    Raises ProgramError NX434 if the folder has replicates of another run, or if a range is asked for and the run there has other
    options; NX435 if the folder cannot be written.
    """
    assert options.checkpoint is not None
    path = Path(options.checkpoint)
    chosen = {name: getattr(options, name) for name in _OPTIONS} | {"only": sorted(only) if only is not None else None}
    source = program.source
    given = program.given if isinstance(program, Compiled) else {}
    settings = program.settings if isinstance(program, Compiled) else {}
    part = options.replicate_range is not None
    document = {
        "tpc": __version__,
        "key": key,
        "program": {
            "name": source.name,
            "text": source.text,
            "folder": _folder(source.name),
            "allow_outside": source.allow_outside,
            "settings": {name: float(value) for name, value in settings.items()},
            "given": sorted(given),
        },
        "options": chosen,
        "parts": part,
    }
    try:
        path.mkdir(exist_ok=True)
        if (path / RUN).exists():
            stored = read(path)
            _compare(stored, key, chosen, part=part)
            if stored.parts and not part and stored.options != chosen:
                return  # what the parts belong to
            document["parts"] = part or stored.parts
        if given:
            with whole(path / GIVEN) as file:
                np.savez(file, **given)
        with whole(path / RUN) as file:
            file.write(json.dumps(document, indent=1).encode())
    except OSError as error:
        message = f"the checkpoint `{path}` cannot be written: {error.strerror or error}"
        remedy = "choose a folder in an existing, writable one with free space"
        raise ProgramError([Diagnostic("NX435", message, None, remedy)]) from None


def _folder(name: str) -> str:
    """The folder that a program of this name reads files from."""
    return str(Path(name).parent.resolve())


def _compare(stored: Record, key: str, chosen: Mapping[str, Any], part: bool) -> None:
    """Refuses to add to a folder what does not belong there. `part`: of a run, which has the same options everywhere."""
    # Each process may compute on its own device.
    other = [name for name in chosen if name != "device" and stored.options.get(name) != chosen[name]]
    shown = ", ".join(f"{name} = {stored.options.get(name)} there, {chosen[name]} here" for name in other)
    if stored.key != key and not other:
        message = f"the folder `{stored.path}` has replicates of another program"
        raise ProgramError([Diagnostic("NX434", message, None, "choose another folder, or remove this one")])
    if stored.key != key or (part and other):
        message = (
            f"the replicates of `{stored.path}` belong to a run with other options, or of another program: {shown}"
        )
        raise ProgramError([Diagnostic("NX434", message, None, "choose another folder, or the same options")])


def read(path: Path) -> Record:
    """The record of a folder. Raises ProgramError NX434 if there is none, or one of another version."""
    try:
        document = json.loads((path / RUN).read_text(encoding="utf-8"))
        program, options = document["program"], document["options"]
        given: dict[str, Any] = {}
        if program["given"]:
            with open(path / GIVEN, "rb") as file, np.load(file, allow_pickle=False) as stored:
                given = {name: stored[name] for name in program["given"]}
        name, text, folder, settings = (program[key] for key in ("name", "text", "folder", "settings"))
        found = Record(
            path,
            document["key"],
            name,
            text,
            folder,
            program["allow_outside"],
            settings,
            given,
            options,
            bool(document.get("parts")),
        )
        version = document["tpc"]
    except (FileNotFoundError, NotADirectoryError):
        message = f"`{path}` is not a folder of replicates: it has no `{RUN}`"
        remedy = "name the folder that `tpc limit --checkpoint` has filled"
        raise ProgramError([Diagnostic("NX434", message, None, remedy)]) from None
    except Exception:  # whatever a damaged file leads to
        message = f"`{path / RUN}` is not the record of a run, or is damaged"
        remedy = "remove this file, and run one of the ranges again, or choose another folder"
        raise ProgramError([Diagnostic("NX434", message, None, remedy)]) from None
    if version != __version__:
        message = f"the replicates of `{path}` were computed by tpc {version}; this is {__version__}"
        raise ProgramError([Diagnostic("NX434", message, None, "use the same version, or another folder")])
    return found


def sampled(path: Path) -> dict[str, str]:
    """The outputs that are sampled, with the reasons, if a process has decided it."""
    with suppress(OSError, ValueError):
        return {str(k): str(v) for k, v in json.loads((path / SAMPLED).read_text(encoding="utf-8")).items()}
    return {}


def decide(path: Path, reasons: Mapping[str, str]) -> None:
    """Says which outputs are sampled, unless it has been said."""
    beside = path / f".{SAMPLED}.{uuid.uuid4().hex}.part"
    with suppress(OSError):  # the folder is read-only or full, or it has been said
        beside.write_text(json.dumps(dict(reasons)), encoding="utf-8")
        os.link(beside, path / SAMPLED)
    beside.unlink(missing_ok=True)
