"""One thread for numerical libraries: results do not depend on the machine's cores, and small tensors run faster."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
