"""A worker for the tests of the pool: says back what it is asked, sleeps, ends or grows on request."""

import json
import os
import resource
import sys
import time


def main() -> None:
    if sys.argv[1:] == ["broken"]:
        print(json.dumps({"failed": "no library"}), flush=True)
        return
    if sys.argv[1:] == ["silent"]:
        return
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        time.sleep(request.get("sleep", 0))
        busy_until = time.process_time() + request.get("work", 0)
        while time.process_time() < busy_until:
            pass
        if "signal" in request:
            os.kill(os.getpid(), request["signal"])
        if "exit" in request:
            sys.exit(request["exit"])
        if "spin" in request:
            resource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
            while True:
                pass
        # Only the first process that sees the mark dies of it.
        if "die_once" in request and not os.path.exists(request["die_once"]):
            open(request["die_once"], "w").close()
            os.kill(os.getpid(), 9)
        print(json.dumps({"said": request["say"], "pid": os.getpid()}), flush=True)


if __name__ == "__main__":
    main()
