"""Who is calling: API keys, and the tenant that each belongs to."""

import hmac
import os

from starlette.datastructures import Headers
from starlette.types import Scope

from mmrag.config import AccessConfig
from mmrag.errors import ConfigurationError, Unauthorized
from mmrag.types import DEFAULT_TENANT


class Access:
    """Finds the tenant of a request by its key. With no keys configured everyone is the `DEFAULT_TENANT`.

    Raises:
        ConfigurationError: the environment variable is set, but does not hold `key=tenant` pairs.
    """

    def __init__(self, config: AccessConfig):
        self._tenants = _read_keys(config.api_keys_env)

    def tenant(self, headers: Headers) -> str:
        """The tenant whose key is in `Authorization: Bearer KEY` or `x-api-key`; raises Unauthorized."""
        if not self._tenants:
            return DEFAULT_TENANT
        found = self._tenant_of(_given_key(headers))
        if found is None:
            raise Unauthorized("give a valid API key: `Authorization: Bearer KEY` or `x-api-key: KEY`")
        return found

    def caller(self, scope: Scope) -> str:
        """Whom a request counts for: its key, where that is a valid one, else the address that it comes from."""
        key = _given_key(Headers(scope=scope))
        return f"key {key}" if self._tenant_of(key) else f"address {(scope.get('client') or ('',))[0]}"

    def _tenant_of(self, key: str) -> str | None:
        given, found = key.encode("utf-8", "surrogateescape"), None
        for known, tenant in self._tenants:  # all of them, so that the time taken says nothing about any
            if hmac.compare_digest(known, given):
                found = tenant
        return found


def _given_key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _read_keys(variable: str) -> list[tuple[bytes, str]]:
    value = os.environ.get(variable, "")
    pairs = [pair.strip() for pair in value.split(",") if pair.strip()]
    if value and not pairs:  # somebody meant to close the door: leaving it open would be the worst reading
        raise ConfigurationError(f"{variable} is set, but holds no key=tenant pair; unset it to let everyone in")
    keys = []
    for pair in pairs:
        # A key may end in "=" (base64), a tenant's name has none.
        key, separator, tenant = pair.rpartition("=")
        if not (key and separator and tenant):
            raise ConfigurationError(f"{variable} must hold key=tenant pairs, separated by commas")
        keys.append((key.encode(), tenant))
    return keys
