#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A worker that takes any payload: nanoq work --stream -- python3 worker.py"""
import base64
import hashlib
import json
import sys

sys.setrecursionlimit(100_000)  # or JSON of a thousand levels ends the worker
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(100_000)  # or a number of 5000 digits does; more take too long


def handle(task, payload):
    """What it answers is the task's result. An exception: the attempt failed, and is made again later."""
    if task["type"] == "fail":
        raise ValueError("no such customer")
    if isinstance(payload, bytes):
        return {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    return payload


def main():
    # Bytes, not text: the encoding of text is the environment's.
    for line in sys.stdin.buffer:
        task = json.loads(line)
        if "cancel" in task:
            continue
        try:
            payload = base64.b64decode(task["payload_base64"]) if "payload_base64" in task else task["payload"]
            answer = json.dumps({"done": task["id"], "result": handle(task, payload)}, allow_nan=False)
        except Exception as error:
            answer = json.dumps({"retry": task["id"], "error": f"{type(error).__name__}: {error}"})
        print(answer, flush=True)


main()
