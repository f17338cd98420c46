"""The ``rayline`` command: verbs in the order of the flow.

Exit codes: 0 done; 1 a check, gate or rollout said no; 2 wrong usage or configuration; 3 the environment failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import cyclopts
from rich.console import Console

from rayline.cli import doctor_verbs, features_verbs, project_verbs, rollout_verbs, service_verbs
from rayline.errors import EnvironmentFailed, RaylineError

INTERRUPTED = 130

app = cyclopts.App(
    name="rayline",
    help="From a table of data to live traffic on one Ray cluster, and back when a model misbehaves.",
    version_flags=["--version"],
    help_format="plaintext",
)
_INIT, *_STEPS = project_verbs.VERBS
_BEFORE: tuple[Callable[..., object], ...] = (_INIT, doctor_verbs.doctor, *_STEPS, service_verbs.deploy)
for _place, _verb in enumerate(_BEFORE):
    if _verb is service_verbs.deploy:
        app.command(features_verbs.features)
    app.command(_verb, sort_key=_place)
app.command(rollout_verbs.rollout)
for _place, _last in enumerate(service_verbs.VERBS, start=len(_BEFORE) + 1):
    app.command(_last, sort_key=_place)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what is wrong goes to the standard error stream."""
    errors = Console(stderr=True, highlight=False)
    try:
        code = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        errors.print(f"[bold red]wrong usage[/]: {_plain(error)}\nTry `rayline --help`.", soft_wrap=True)
        return 2
    except RaylineError as error:
        errors.print("[bold red]error[/]: ", end="")
        errors.print(str(error), markup=False, soft_wrap=True)
        return error.exit_code
    except OSError as error:
        errors.print("[bold red]error[/]: ", end="")
        errors.print(_where_and_why(error), markup=False, soft_wrap=True)
        return EnvironmentFailed.exit_code
    except KeyboardInterrupt:
        errors.print("stopped; the same command resumes.")
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _where_and_why(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"the operating system refused: {reason}."
    return f"'{error.filename}': {reason}. Check that it exists, that it may be used, and that its disk has room."


def _plain(error: cyclopts.CycloptsError) -> str:
    return str(error).replace("[", "\\[").strip()


if __name__ == "__main__":
    main()
