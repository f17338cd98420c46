"""Why Ray could not read a block, said in one sentence that names the file."""

from __future__ import annotations

import re

FILE = re.compile(
    r"Failed to read (?:fragment|CSV file:|JSON file:|file:?) '?([^\s']+?)'?(?:\.? Please| after|\.?$)", re.M
)
DETAIL = re.compile(r"^pyarrow\.lib\.Arrow\w+: (.+)$", re.M)
RAYS_ADVICE = ("To change retry attempts", "Failed to apply UDF", "Failed to read", "ray::")


def reason_of(error: Exception) -> str:
    """Return what an error of a Ray Data execution says, without Ray's advice and its traceback."""
    text = str(error)
    file, detail = FILE.search(text), DETAIL.findall(text)
    reason = detail[-1] if detail else _own_words(error)
    return f"file '{file[1]}': {reason}" if file else reason


def _own_words(error: Exception) -> str:
    """Return the last line that is the error's own: of its cause where Ray wrapped one."""
    for each in (getattr(error, "cause", None), error):
        lines = [line.strip() for line in str(each or "").splitlines() if line.strip()]
        own = [line for line in lines if not line.startswith(RAYS_ADVICE)]
        if own:
            return own[-1]
    return type(error).__name__
