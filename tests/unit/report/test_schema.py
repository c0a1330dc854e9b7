"""The JSON of `limit`, `simulate`, `verify` and `scale` against the schema that is part of the package."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.unit.scale.programs import text
from tp_compiler import cli

SCHEMA = json.loads((files("tp_compiler") / "schemas" / "results.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

RANDOM = "ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)\noutput f = clt <v|u>\noutput bad = <exp(exp(exp(u)))>\noutput g = f^2\n"
COMMANDS: dict[str, list[str]] = {
    "limit": ["limit", str(EXAMPLES / "mlp.nexort")],
    "sampled": ["limit", str(EXAMPLES / "mlp.nexort"), "--samples", "64", "--method", "qmc"],
    "random": ["limit", "RANDOM", "--samples", "64"],
    "trained": ["limit", str(EXAMPLES / "train_mlp.nexort"), "--samples", "64", "--only", "loss"],
    "width": ["limit", "AVERAGES", "--width", "64"],
    "predicted": ["verify", "AVERAGES", "--widths", "16,32", "--seeds", "3", "--predicted"],
    "simulate": ["simulate", "RANDOM", "--width", "8", "--seeds", "3"],
    "one network": ["simulate", "RANDOM", "--width", "8", "--seeds", "1", "--dtype", "float32"],
    "verify": ["verify", str(EXAMPLES / "mlp.nexort"), "--widths", "16,32", "--seeds", "3", "--samples", "64"],
    "verify one width": ["verify", "RANDOM", "--widths", "16", "--seeds", "3", "--samples", "64"],
    "scale": ["scale", "GPT"],
    "scale untrained": ["scale", str(EXAMPLES / "transformer.nexort")],
    "scale Shampoo": ["scale", str(EXAMPLES / "scale_tied.nexort"), "--optimizer", "Shampoo"],
}
AVERAGES = "ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)\noutput f = clt <v|u>\noutput g = <u|u>\noutput kink = abs(<u>)\n"
PROGRAMS = {"RANDOM": RANDOM, "AVERAGES": AVERAGES, "GPT": text("gpt", "AdamW(lr = 0.1)")}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, found = tmp_path_factory.mktemp("json"), {}
    for name, program in PROGRAMS.items():
        (folder / name).write_text(program, encoding="utf-8")
    for name, command in COMMANDS.items():
        with pytest.MonkeyPatch.context() as patch:
            shown: list[str] = []
            patch.setattr(cli.terminal, "show", shown.append)
            cli.main([str(folder / c) if c in PROGRAMS else c for c in command] + ["--json"])
        found[name] = json.loads(shown[0])
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", COMMANDS)
def test_documents_fit_the_schema(documents: dict[str, Any], name: str) -> None:
    definition = VALIDATOR.evolve(schema={"$ref": f"#/$defs/{documents[name]['command']}", "$defs": SCHEMA["$defs"]})
    assert [f"{e.json_path}: {e.message}" for e in definition.iter_errors(documents[name])] == []
    assert VALIDATOR.is_valid(documents[name])


def test_the_documents_have_what_the_schema_describes(documents: dict[str, Any]) -> None:
    """Every optional property occurs, so that it is known to be right."""
    assert documents["random"]["failed"] and documents["simulate"]["outputs"]["f"]["law"] == "gaussian"
    assert documents["scale untrained"]["tables"].keys() == {"Adam", "SGD"}
    assert documents["scale"]["compared"]["standard"]["problems"]
    moves = {name: output["fluctuations"] for name, output in documents["width"]["outputs"].items()}
    assert moves["f"] is None and moves["g"]["bias"] and moves["kink"] is None
    assert documents["predicted"]["checks"]["g"]["predicted"] and documents["width"]["width"] == 64
    assert documents["one network"]["warnings"] and documents["verify"]["checks"]["nngp"]["slope"] is not None
    assert {o["method"] for d in documents.values() for o in d.get("outputs", {}).values()} >= {
        "qmc",
        "exact",
        "finite-width",
    }


@pytest.mark.parametrize("name", ["limit", "simulate", "verify", "scale"])
def test_the_schema_refuses_what_is_missing_and_what_is_new(documents: dict[str, Any], name: str) -> None:
    document = documents[name]
    for key in document:
        if key not in ("failed", "tables"):
            assert not VALIDATOR.is_valid({k: v for k, v in document.items() if k != key}), key
    assert not VALIDATOR.is_valid(document | {"surprise": 1})
    for inner in ("outputs", "checks", "parameters", "compared"):
        for part in document.get(inner, {}):
            changed = copy.deepcopy(document)
            changed[inner][part]["surprise"] = "x"
            assert not VALIDATOR.is_valid(changed), (inner, part)
