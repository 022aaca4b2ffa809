"""The process that tells Weights & Biases of a run. The only file that imports wandb; nothing imports this file.

wandb changes the process that it is in (hooks at exit, on imports and on errors) and may wait for its server as long as
it likes. So it has one of its own, which the sink starts with this file, and leaves when it takes too long. Reads lines
of JSON from stdin: first the run, then what is told of it; ends with stdin, also where the sink was killed. What goes
wrong is the last line of stderr.
"""

import base64
import io
import json
import os
import sys
from typing import Any


def main() -> int:
    """Tell all that comes; returns the exit code."""
    start = json.loads(sys.stdin.readline())
    try:
        import wandb

        run = _begin(wandb, start)
        for line in sys.stdin:
            _tell(wandb, run, json.loads(line))
        run.finish()
    except Exception as error:  # noqa: BLE001 - whatever it is, the sink tells it
        sys.stderr.write(f"\n{' '.join(str(error).split()) or type(error).__name__}\n")
        return 1
    return 0


def _begin(wandb: Any, start: dict[str, Any]) -> Any:
    settings = wandb.Settings(
        silent=True,
        console="off",
        # The command line and the environment may hold secrets; the configuration that is told does not.
        x_disable_meta=True,
        disable_git=True,
        disable_code=True,
        x_save_requirements=False,
        x_disable_stats=True,
        init_timeout=start["start_s"],
        finish_timeout=start["end_s"],
        finish_timeout_raises=True,
    )
    place = {name: start[name] for name in ("entity", "project", "id", "name", "dir", "config")}
    return wandb.init(**place, resume="allow", job_type="train", settings=settings)


def _tell(wandb: Any, run: Any, told: dict[str, Any]) -> None:
    values: dict[str, Any] = told["values"]
    if "png" in told:
        from PIL import Image

        picture = Image.open(io.BytesIO(base64.b64decode(told["png"])))
        values = {**values, "samples": wandb.Image(picture)}
    run.log(values, step=told["seen_images"])


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Without wandb's own farewell, which may wait for its server again.
    os._exit(code)
