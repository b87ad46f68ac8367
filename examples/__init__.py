"""Programs that use samplerd on real data. Run them from the repository's root: `python -m examples.NAME --help`."""

import os

# Read when numpy is first imported. The model's matrices are small: a second thread makes a step 15 % faster on an idle
# machine, and three times slower on one that also runs the server, for which it waits at every product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
