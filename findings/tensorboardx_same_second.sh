#!/usr/bin/env bash
# tensorboardX: a second writer in a folder, begun within the second, writes over what the first has written and closed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorboardX==2.6.5 numpy==2.4.6 protobuf==6.33.2
cat > "$folder/two.py" <<'PYTHON'
import pathlib
import sys
import time

from tensorboardX import SummaryWriter

folder = pathlib.Path(sys.argv[1])
while time.time() % 1 > 0.3:  # so that one second holds all of it
    time.sleep(0.01)
for number in (1, 2):
    writer = SummaryWriter(str(folder))
    writer.add_scalar(f"run{number}/loss", number, 1)
    writer.close()
files = sorted(folder.iterdir())
content = b"".join(path.read_bytes() for path in files)
print(len(files), "file;", *(f"run {n}: {content.count(b'run%d/loss' % n)} events;" for n in (1, 2)))
PYTHON
found=$("$folder/venv/bin/python" "$folder/two.py" "$folder/events")
echo "$found"
[ "$found" = "1 file; run 1: 0 events; run 2: 1 events;" ] # a change here is news
