"""``python -m todm``."""

from todm.cli import main

raise SystemExit(main())
