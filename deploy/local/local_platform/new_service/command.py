"""`make new-service`: writes a service and says what comes next."""

from local_platform.layout import REPOSITORY
from local_platform.new_service.registration import CALLER
from local_platform.new_service.writing import LISTS, write_service
from opskit.catalog import Store

_DONE = """\
wrote {name}/ and added it to {lists}

next:
  make run                    starts it with the others: http://127.0.0.1:8080/api/v1/{name}
  make test SERVICE={name}{pad}runs its tests, on real stores
  make clients                adds its routes to the API's description and the clients
  docs/add-a-service.md       what each file is for, and what to change first
  deploy/services.toml        the services that it calls, and its callers (at first: {caller})
"""


def write_and_explain(name: str, store: Store) -> int:
    """Write a service and print the next steps. Raises GeneratorError."""
    write_service(REPOSITORY, name, store)
    pad = " " * max(1, 10 - len(name))
    print(_DONE.format(name=name, lists=", ".join(LISTS), pad=pad, caller=CALLER), end="")
    return 0
