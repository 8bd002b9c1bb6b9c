"""The command line, with MNIST's place taken by a few images on a server: python command.py URL WORDS...

A process of its own, so that test_kills.py can stop it.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import hostile

from minimask.__main__ import main
from minimask.data import fetch
from minimask.data import files as datafiles

if __name__ == "__main__":
    address = sys.argv.pop(1)
    if address != "-":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
        sets, published, _, _ = hostile.small_mnist(20_000)
        datafiles.SETS["mnist"], fetch.PUBLISHED["mnist"], fetch.MIRRORS["mnist"] = sets, published, (address,)
    sys.exit(main())
