"""`make remove-service`: removes a service and says what is left to do."""

from local_platform.layout import REPOSITORY
from local_platform.remove_service.removal import EXAMPLE, check_committed, example_calls, mentions, plan_removal

_DONE = """\
removed {name}/, and {name} from {files}

next:
  make clients                writes the description and the clients of what is left
  make check test             what is left works without it
  make lock                   drops the packages that only {name} needed
  git diff                    everything that changed; git restore --staged --worktree . undoes it
"""


def remove_and_explain(name: str, *, force: bool) -> int:
    """Remove a service and print what a person must decide. Raises GeneratorError."""
    removal = plan_removal(REPOSITORY, name)
    if not force:
        check_committed(REPOSITORY)
    removal.carry_out()
    changed = [path.relative_to(REPOSITORY) for path in (*removal.written, *removal.removed[1:])]
    print(_DONE.format(name=name, files=", ".join(map(str, sorted(changed)))), end="")
    for caller in removal.callers:
        print(f"  {caller}/{caller}_service  calls {name} no longer: look for what it did with the response")
    if calls := example_calls(REPOSITORY, removal.entry):
        print(f"  {EXAMPLE}  calls {', '.join(calls)}: take that out, or git rm -r {EXAMPLE}")
    if named := mentions(REPOSITORY, name):
        print(f"\nThese files still name {name}, as an example or in words:\n  " + "\n  ".join(named))
    return 0
