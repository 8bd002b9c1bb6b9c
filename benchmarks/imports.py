"""What `import minimask` adds to `import numpy`, in fresh processes: medians of 20, milliseconds of the wall clock, and
processor time as a share of NumPy's own.

Compiled bytecode is used, as pip installs it, even where PYTHONDONTWRITEBYTECODE is set.
"""

import os
import statistics
import subprocess
import sys

CODE = """
import time
begun = time.process_time()
import numpy
wall, between = time.perf_counter(), time.process_time()
import minimask
print(1e3 * (time.perf_counter() - wall), (time.process_time() - between) / (between - begun))
"""


def measured():
    """Milliseconds, and the share."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    return [float(word) for word in out.stdout.split()]


if __name__ == "__main__":
    measured()  # compiles
    times, shares = zip(*(measured() for _ in range(20)))
    print(f"import minimask adds {statistics.median(times):.1f} ms to import numpy (median of {len(times)}; "
          f"{min(times):.1f} to {max(times):.1f}) and {statistics.median(shares):.2f} of its processor time "
          f"({min(shares):.2f} to {max(shares):.2f})")
