"""The server of an images API: its address, its key, and the SDK's client for it."""

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from xraysynth.errors import ConfigError
from xraysynth.generation.images_api.answer_limits import (
    ACCEPTED_ENCODINGS,
    limit_answer,
    limit_synchronous_answer,
)
from xraysynth.options import Rule
from xraysynth.privacy import is_loopback, require_encrypted

OPENAI_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 20.0
"""Longest time in which a connection must be made."""

MIN_KEY_CHARACTERS = 8
"""Shorter texts are no keys but placeholders such as EMPTY, which servers without a key are sent."""


def _is_http_url(text: str) -> bool:
    address = urlsplit(text)
    has_secret_parts = "@" in address.netloc or address.query or address.fragment
    return not text or (address.scheme in ("http", "https") and not has_secret_parts)


URL_RULE = Rule(
    "be an http(s) address without user and password, and end before its '?' or '#'; a key belongs into "
    "the environment variable that api_key_env names",
    _is_http_url,
    choices=None,
)
VARIABLE_RULE = Rule(
    "be the name of an environment variable, never a key itself",
    re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}").fullmatch,
    choices=None,
)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """OpenAI, Azure, or another server with the same API.

    Attributes:
        base_url: Address of another server than OpenAI's, or None.
        azure_endpoint: Address of an Azure resource, or None.
        azure_api_version: Azure's version of the API.
        key_env: Name of the environment variable that holds the key.
        timeout_seconds: Longest time to wait for an answer.
    """

    base_url: str | None
    azure_endpoint: str | None
    azure_api_version: str
    key_env: str
    timeout_seconds: float

    @property
    def url(self) -> str:
        """Address of the server; the SDK's own variable OPENAI_BASE_URL is not read."""
        return self.base_url or self.azure_endpoint or OPENAI_URL

    @property
    def is_openai(self) -> bool:
        """Whether the server is OpenAI's, for which the catalogue's dates and limits hold."""
        return urlsplit(self.url).hostname == urlsplit(OPENAI_URL).hostname

    @property
    def is_local(self) -> bool:
        """Whether the server runs on this machine."""
        return is_loopback(self.url)

    @property
    def label(self) -> str:
        """Name of the server for people: "OpenAI", "Azure OpenAI (<host>)", or host and port."""
        host = urlsplit(self.url).netloc
        if self.azure_endpoint:
            return f"Azure OpenAI ({host})"
        return "OpenAI" if self.is_openai else host

    def require_key(self) -> str:
        """Returns the key; a server on this machine may do without one.

        Raises:
            ConfigError: If the variable holds no key, or a text that cannot be one, or if the key would
                be sent by plain http to another machine.
        """
        require_encrypted(self.url, "azure_endpoint" if self.azure_endpoint else "base_url")
        key = self._key
        if not key and self.is_local:
            return "none"
        if not key:
            raise ConfigError(
                f"the environment variable {self.key_env} holds no key for {self.label}; set it "
                f"(export {self.key_env}=…), name another with api_key_env, or score images made "
                "earlier with generator=archive"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"the key in {self.key_env} has characters that no key has; copy the key again"
            )
        if len(key) < MIN_KEY_CHARACTERS and (self.is_openai or self.azure_endpoint):
            raise ConfigError(
                f"the key in {self.key_env} must have at least {MIN_KEY_CHARACTERS} characters for "
                f"{self.label}; it has {len(key)}: copy the key again"
            )
        return key

    @property
    def _key(self) -> str:
        return os.environ.get(self.key_env, "").strip()

    @property
    def secret(self) -> str | None:
        """The key, which must not appear in any output; None where there is none.

        A placeholder is not secret, and could not be removed: its letters stand in every text.
        """
        return self._key if len(self._key) >= MIN_KEY_CHARACTERS else None

    def build_client(self, *, asynchronous: bool) -> Any:
        """Builds the SDK's client, which neither retries nor follows redirects.

        Raises:
            ConfigError: If there is no key.
        """
        import httpx2
        import openai

        http_client = openai.DefaultAsyncHttpxClient if asynchronous else openai.DefaultHttpxClient
        timeout = httpx2.Timeout(self.timeout_seconds, connect=CONNECT_SECONDS, pool=None)
        limit = limit_answer if asynchronous else limit_synchronous_answer
        options: dict[str, Any] = {
            "api_key": self.require_key(),
            "max_retries": 0,
            "timeout": timeout,
            "http_client": http_client(
                timeout=timeout,
                headers={"accept-encoding": ACCEPTED_ENCODINGS},
                event_hooks={"response": [limit]},
                verify=_load_ssl_context(),
                follow_redirects=False,
                trust_env=not self.is_local,
            ),
        }
        if self.azure_endpoint:
            return openai.AsyncAzureOpenAI(
                azure_endpoint=self.azure_endpoint, api_version=self.azure_api_version, **options
            )
        client = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        return client(base_url=self.url, **options)


@cache
def _load_ssl_context() -> Any:
    """Reads the certificates once: that takes longer than a call to a server on this machine."""
    import httpx2

    return httpx2.create_ssl_context()
