"""Re-exports `UserError`, which is defined in `todm.runtime` so that a copied runtime can raise it."""

from __future__ import annotations

from todm.runtime.errors import UserError

__all__ = ["UserError"]
