"""``python -m stt_anyio`` is the ``stt`` command."""

from __future__ import annotations

import sys

from stt_anyio.cli import main

sys.exit(main())
