"""What `import minimask` adds to `import numpy`, in fresh processes: the median of 20, in milliseconds.

Compiled bytecode is used, as pip installs it, even where PYTHONDONTWRITEBYTECODE is set.
"""

import os
import statistics
import subprocess
import sys

CODE = ("import time, numpy; start = time.perf_counter(); import minimask; "
        "print(1e3 * (time.perf_counter() - start))")


def milliseconds():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    return float(out.stdout)


if __name__ == "__main__":
    milliseconds()  # compiles
    times = [milliseconds() for _ in range(20)]
    print(f"import minimask adds {statistics.median(times):.1f} ms to import numpy "
          f"(median of {len(times)}; {min(times):.1f} to {max(times):.1f})")
