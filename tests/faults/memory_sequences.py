"""Random operations on a memory, compared with a simple model after each.

PYTHONPATH=tests/support python tests/faults/memory_sequences.py --sequences 1000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from memory_model import MemoryMachine, machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as home, start_blocking_portal() as portal:
        made = machine(portal, Path(home))
        run_state_machine_as_test(
            made,
            settings=settings(
                max_examples=options.sequences,
                stateful_step_count=options.steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, Phase.shrink],
                database=None,
            ),
        )
        made.memory.close()
    run = next(MemoryMachine.spaces)
    sys.stdout.write(f"{run} sequences of up to {options.steps} operations, all as the model says; ")
    sys.stdout.write(f"{time.monotonic() - begun:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
