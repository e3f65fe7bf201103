"""The one exception that is meant for the user."""

from __future__ import annotations


class UserError(ValueError):
    """Input that the user can mend.

    The text is one sentence that names the file or key and the fix. The command line prints it and
    exits with code 2; anything else that is raised is a defect of ours and keeps its traceback.
    """
