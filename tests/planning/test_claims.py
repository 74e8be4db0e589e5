"""The project's claims come out as token counts, days and dollars."""

import re

from demiurgic_jax.planning import estimate
from demiurgic_jax.planning.claims import CLAIMS, claims_report


def test_every_claim_gets_a_verdict_and_every_size_a_row(monkeypatch):
    monkeypatch.setattr(estimate, "missing_compiler", lambda hardware: "none, so that the test is quick")
    report = claims_report()
    assert "ESTIMATE" in report
    lines = report.splitlines()
    for claim in CLAIMS:
        (line,) = [line for line in lines if line.startswith(f"| {claim.text} ")]
        assert re.search(r"\| (holds|does not hold)", line)
    # 140 B tokens through 7 B parameters: about 7e21 FLOP, at half of what eight A100s could do in 54 days.
    (row,) = [line for line in lines if line.startswith("| 7b on 8xA100-80GB ")]
    assert 40 < float(re.findall(r"([\d.]+) d, \$", row)[-1]) < 65
