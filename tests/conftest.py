"""One thread for numerical libraries: results do not depend on the machine's cores, and small tensors run faster."""

import os

from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"

# A busy machine is slow now and then; a test that only fails then would say nothing about the code.
settings.register_profile("hwnas", deadline=None)
settings.load_profile("hwnas")
