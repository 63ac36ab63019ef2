"""Two replicas on one PostgreSQL behind a balancer with nothing sticky, one killed every ten seconds.

    python tests/faults/replicas.py --seconds 300 --kill-every 10
    python tests/faults/replicas.py --seconds 30 --kill-every 0 --replicas 1     throughput of one

Needs the PostgreSQL of this machine; works in a schema of its own, dropped afterwards.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from functools import partial
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from replicas import replicated


def main() -> int:
    import psycopg

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill-every", type=float, default=10)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--postgresql", default="postgresql://root@127.0.0.1:5432/test")
    options = parser.parse_args()
    schema = f"usrland_{secrets.token_hex(6)}"
    with psycopg.connect(options.postgresql, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"'.encode())
    try:
        with tempfile.TemporaryDirectory() as folder:
            work = partial(
                replicated,
                Path(folder),
                f"{options.postgresql}?options=-csearch_path%3D{schema}",
                seconds=options.seconds,
                kill_every=options.kill_every,
                callers=options.callers,
                count=options.replicas,
            )
            tally = anyio.run(work)
    finally:
        with psycopg.connect(options.postgresql, autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())
    for line in [*tally.wrong, *tally.lost, *tally.doubled, *tally.problems][:20]:
        sys.stdout.write(f"  {line}\n")
    facts = {
        "kills": tally.kills,
        "answers": tally.answered,
        "a second": round(tally.answered / tally.seconds, 1),
        "by replica": dict(tally.by_replica),
        "asked again": tally.asked_again,
        "acknowledged writes that stand": len(tally.acknowledged),
        "lost": len(tally.lost),
        "doubled": len(tally.doubled),
        "wrong answers": len(tally.wrong),
        "confirmations spent twice": tally.spent_twice,
        "problems of journal and log": len(tally.problems),
    }
    said = ", ".join(f"{name} {value}" for name, value in facts.items())
    sys.stdout.write(f"{options.replicas} replicas, {tally.seconds:.0f} s: {said}\n")
    return 0 if tally.good else 1


if __name__ == "__main__":
    sys.exit(main())
