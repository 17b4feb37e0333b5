"""claim: a sentence about an outcome, held to its number. The rows "measured here" of the claims tables are these.

A text says "random masks do as well"; the cell beside it says by how much, and how much is asked for:

    se.claim("06.chance_does_as_well", by=random - literal, at_least=-1.0)

It prints whether that holds in this run. What was recorded (build_notebooks.py --record) stands in bands.json beside
the bands, from every machine that recorded; tests/test_claims.py reads it and goes red when a sentence stops being
true, or has no claim, or is true by less than another processor changes.
"""

from . import bands

POINT = "points"


def claim(name: str, *, by: float, at_least: float = 0.0, unit: str = POINT) -> None:
    """Print whether `by` is `at_least` what the sentence needs. `name` is such as "06.abs_below_chance".

    `by` is a difference that the sentence speaks of, positive where the sentence is right: ahead - behind. `at_least`
    is what makes the sentence worth saying: more than the spread, so that it does not hang on an image. For what is
    exactly so or not, `by=float(torch.equal(a, b)), at_least=1.0, unit=""`. NaN does not hold.
    """
    by = float(by)
    holds = by >= at_least
    bands.record_if_asked(f"claim {name}", by)
    print(f"claim {name} {'holds' if holds else 'DOES NOT HOLD'}: {by:.3g}{unit and ' ' + unit} (asked: {at_least:g})")
