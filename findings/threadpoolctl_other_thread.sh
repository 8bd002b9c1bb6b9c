#!/usr/bin/env bash
# threadpoolctl 3.8: once a Python thread has set OpenBLAS's threads, what another sets is dropped without a word.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet threadpoolctl==3.8.0 numpy==2.4.6
OPENBLAS_NUM_THREADS=2 "$folder/venv/bin/python" - <<'PYTHON'
import sys
import threading

import numpy
import threadpoolctl

blas, = (each for each in threadpoolctl.ThreadpoolController().lib_controllers if each.user_api == "blas")
found = []


def set_to(number):
    blas.set_num_threads(number)
    found.append(blas.get_num_threads())


def elsewhere(number):
    thread = threading.Thread(target=set_to, args=(number,))
    thread.start()
    thread.join()


def limits():
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        found.append(blas.get_num_threads())


set_to(2)
elsewhere(1)  # set_num_threads(1)
thread = threading.Thread(target=limits)  # with threadpool_limits(1)
thread.start()
thread.join()
blas.clear_controlling_thread(force=True)
elsewhere(1)
print(f"numpy {numpy.__version__}, threadpoolctl {threadpoolctl.__version__}, OpenBLAS on {blas.threading_layer}")
for what, number in zip(("the main thread sets 2", "another thread sets 1", "another thread: with threadpool_limits(1)",
                         "another thread sets 1, after clear_controlling_thread(force=True)"), found):
    print(f"{what:66} {number}")
sys.exit(0 if found == [2, 2, 2, 1] else "this is no longer so")
PYTHON
