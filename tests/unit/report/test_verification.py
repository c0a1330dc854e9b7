"""What `tpc verify` prints."""

from __future__ import annotations

import dataclasses
import json as standard_json
import math

from tp_compiler.finite.converge import Verification
from tp_compiler.report import json


def test_text(verification: Verification) -> None:
    lines = str(verification).splitlines()
    assert lines[0].split("  ")[0] == "output" and "|z| (n = 1024)" in lines[0]
    assert lines[1].startswith("nngp") and lines[1].endswith("-0.50 [-0.60, -0.40]  pass")
    assert lines[2].endswith("FAIL") and "f: it deviates" in lines
    assert lines[-1].startswith("verify: FAIL")


def test_json(verification: Verification) -> None:
    first = dataclasses.replace(verification.checks[0], z=(1.0, math.inf, 2.0))
    checked = dataclasses.replace(verification, checks=(first, *verification.checks[1:]))
    document = standard_json.loads(json.dumps(json.verification_document(checked, "mlp.nexort")))
    assert document["program"] == "mlp.nexort" and document["command"] == "verify"
    assert document["passed"] is False and document["level"] == 1e-3
    assert document["checks"]["nngp"]["z"] == [1.0, None, 2.0]
    assert document["checks"]["f"]["slope"] is None
