"""A worker whose runtime sleeps: what a slow, a hanging and a dying one do, in fractions of a second.

It is started in the place of `ttsopt_lib.measure.worker` and answers the same requests. The row's model is a JSON file
that says how it behaves (`Sleeper` in `sleepers.py`); `log` is a file in which it notes when it did what.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    how: dict = {}
    name, said, passes = "", set(), 0

    def note(what: str, began: float) -> None:
        with open(how["log"], "a", encoding="utf-8") as file:
            file.write(json.dumps([name, what, began, time.monotonic()]) + "\n")

    def go_through(what: str, seconds: float) -> None:
        began = time.monotonic()
        if how["hangs_at"] == what:
            time.sleep(3600)  # a test that waited for it would not end
        if how["dies_at"] == what:
            sys.exit("it fell over")
        time.sleep(seconds)
        note(what, began)

    for line in sys.stdin:
        request = json.loads(line)
        reply: dict = {}
        if "row" in request:
            name = request["row"]["variant"]
            how = json.loads(Path(request["row"]["model"]).read_text(encoding="utf-8"))
        if request["do"] == "prepare":
            go_through("import", how["import_seconds"])
        elif request["do"] == "load":
            go_through("open", how["open_seconds"])
            reply = {"load_seconds": [how["open_seconds"]], "idle_memory_mb": 10.0, "clock": "wall"}
        elif request["do"] == "time new length":
            go_through("new length", how["speak_seconds"])
            reply = {"seconds": how["speak_seconds"]}
        elif request["do"] == "repeat":
            go_through("repeat", request["seconds"])
            reply = {"seconds": max(request["seconds"], 0.001), "audio_seconds": 1.0}
        elif request["do"] == "open batches":
            go_through("alone", how["speak_seconds"])
            reply = {"seconds": how["speak_seconds"]}
        elif request["do"] == "speak batches":
            go_through(f"batches of {request['size']}", max(request["seconds"], how["speak_seconds"]))
            reply = {"seconds": max(request["seconds"], 0.001), "audio_seconds": 1.0, "padding": 0.1}
        else:
            number = request["sentence"]
            first = number not in said
            said.add(number)
            passes += number == 0
            go_through("first run" if first else f"pass {passes}", how["speak_seconds"])
            seconds = how["speak_seconds"] * (1 + passes % 2 if how["restless"] else 1)
            reply = {"seconds": seconds, "audio_seconds": 1.0, "peak_memory_mb": 20.0, "first_seconds": 7 * seconds}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
