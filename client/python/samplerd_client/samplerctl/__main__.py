"""``python -m samplerd_client.samplerctl``."""

import sys

from samplerd_client.samplerctl import main

sys.exit(main())
