from __future__ import annotations

from pathlib import Path

from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from memory_model import machine


def test_random_operations_leave_what_a_simple_model_says(tmp_path: Path) -> None:
    """Few of them here; `tests/faults/memory_sequences.py` runs as many as one likes."""
    with start_blocking_portal() as portal:
        made = machine(portal, tmp_path)
        run_state_machine_as_test(
            made,
            settings=settings(
                max_examples=10,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                database=None,
            ),
        )
        made.memory.close()
