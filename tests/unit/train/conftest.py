"""The planner's small models serve the trainer's tests too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "plan"))
