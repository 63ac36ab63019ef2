"""Values for `IN`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from usrland.database import in_batches


@given(st.integers(min_value=0, max_value=2_000))
def test_batches_hold_every_value_and_have_few_lengths(count: int) -> None:
    batches = list(in_batches(range(count)))

    assert [value for batch in batches for value in dict.fromkeys(batch)] == list(range(count))
    assert {len(batch) for batch in batches} <= {2**power for power in range(10)}
