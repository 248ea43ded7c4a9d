"""Run a command inside a memory control group (version 1): in_cgroup.py 1GiB COMMAND..."""

import os
import subprocess
import sys
from pathlib import Path

from outsize.quantities import parse_bytes

group = Path(f"/sys/fs/cgroup/memory/outsize-bench-{os.getpid()}")
group.mkdir()
(group / "memory.limit_in_bytes").write_text(str(parse_bytes(sys.argv[1])))
try:
    code = subprocess.run(
        sys.argv[2:],
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
    ).returncode
finally:
    group.rmdir()
sys.exit(code)
