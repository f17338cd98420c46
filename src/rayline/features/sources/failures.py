"""Why Ray could not read a block, said in one sentence that names the file."""

from __future__ import annotations

import re

FILE = re.compile(r"^Failed to read fragment (.+?) after \d+/\d+ attempts", re.M)
OURS = re.compile(r"^rayline\.errors\.\w+: (.+)$", re.M)
DETAIL = re.compile(r"^pyarrow\.lib\.Arrow\w+: (.+)$", re.M)
UNREADABLE = "the data cannot be read"
RAYS_ADVICE = ("To change retry attempts", "Failed to apply UDF", "Failed to read", "ray::")


def sentence_of(error: Exception) -> str:
    """Return what to tell of an error of a Ray Data execution: our own words where a task raised them."""
    ours = OURS.findall(str(error))
    if ours:
        return str(ours[-1])
    return f"{UNREADABLE}: {reason_of(error)}. `rayline validate` tells which values break it."


def reason_of(error: Exception) -> str:
    """Return what an error of a Ray Data execution says, without Ray's advice, its traceback and a full stop."""
    text = str(error)
    file, detail, ours = FILE.search(text), DETAIL.findall(text), OURS.findall(text)
    reason = (ours or detail or [_own_words(error)])[-1].rstrip(".")
    return f"file '{file[1]}': {reason}" if file else str(reason)


def _own_words(error: Exception) -> str:
    """Return the last line that is the error's own: of its cause where Ray wrapped one."""
    for each in (getattr(error, "cause", None), error):
        lines = [line.strip() for line in str(each or "").splitlines() if line.strip()]
        own = [line for line in lines if not line.startswith(RAYS_ADVICE)]
        if own:
            return own[-1]
    return type(error).__name__
