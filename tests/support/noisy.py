"""A server whose module writes to standard output while it is imported, in every way there is."""

import os
import subprocess
import sys

from toy import service

print("noise from print")  # noqa: T201
os.write(1, b"noise from a C library\n")
subprocess.run([sys.executable, "-c", "print('noise from a child')"], check=True)

__all__ = ["service"]
