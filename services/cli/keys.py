"""All keys, and those of each service in a folder of its own, for whoever is to hold no others."""

import shutil
from pathlib import Path

from shared import messaging, pseudonym
from shared.database import SERVICES
from shared.http.identity import KEY
from shared.keys import retired_files, secret, signing_key, write_public_key

_OF_ALL = ("token.pub", *(f"{name}.key" for name in messaging.key_names()))
KEYS_OF = {
    "intake": (*_OF_ALL, f"{pseudonym.KEY}.key", "content.key", "reporter.key"),
    "escalation": (*_OF_ALL, f"{pseudonym.KEY}.key", "link.key"),
    "ledger": (*_OF_ALL, "ledger.pem"),
}
"""The files that each service opens. A service checks tokens with the public half, and makes none."""


def make_keys(keys: Path) -> None:
    """Make those that are not there, so that services can be given them read-only."""
    for name in sorted({name for names in KEYS_OF.values() for name in names}):
        stem, _, kind = name.rpartition(".")
        if kind == "key":
            secret(keys, stem)
        elif kind == "pem":
            signing_key(keys, stem)
        else:
            write_public_key(keys, stem)


def deal_keys(keys: Path) -> list[str]:
    """Copy its keys into each folder in `keys` that has the name of a service. Returns those services.

    A file that another version has put there is replaced. Earlier keys of tokens are there before the new one, so that
    no token is refused meanwhile, and go when they verify no more. Idempotent.
    """
    found = [service for service in SERVICES if (keys / service).is_dir()]
    earlier = retired_files(keys, KEY)
    for service in found:
        for name in (*earlier, *KEYS_OF[service]):
            target = keys / service / name
            if not target.exists() or target.read_bytes() != (keys / name).read_bytes():
                draft = target.with_name(f".{name}")
                draft.unlink(missing_ok=True)
                draft.touch(mode=0o600)
                shutil.copyfile(keys / name, draft)
                draft.replace(target)
        for name in set(retired_files(keys / service, KEY)) - set(earlier):
            (keys / service / name).unlink(missing_ok=True)
    return found
