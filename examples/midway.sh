#!/usr/bin/env bash
# midway.sh FILE LINES COMMAND...: starts the command and, once FILE has so many lines, ends it as a scheduler would
# (SIGTERM); it saves what it does and says how to go on. Fails where it was not ended so.
set -euo pipefail
file=$1 lines=$2
shift 2
"$@" & command=$!
until [ -f "$file" ] && [ "$(wc -l < "$file")" -ge "$lines" ]; do
  kill -0 "$command" 2> /dev/null || { echo "midway.sh: it was over too early" >&2; exit 1; }
  sleep 0.05
done
kill -TERM "$command"
status=0
wait "$command" || status=$?
[ "$status" = 143 ] || { echo "midway.sh: it ended with status $status, not stopped (143)" >&2; exit 1; }
