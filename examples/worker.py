#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
import json, sys
for line in sys.stdin:  # nanoq work --stream -- examples/worker.py
    task = json.loads(line)
    to = task["payload"].get("to") if isinstance(task.get("payload"), dict) else None
    if to is not None:
        print("hello,", to, file=sys.stderr, flush=True)
    answer = {"discard": task["id"], "error": "nobody to greet"} if to is None else {"done": task["id"]}
    print(json.dumps(answer), flush=True)
