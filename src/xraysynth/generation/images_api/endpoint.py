"""Where an images API answers, and the SDK's client for it."""

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from xraysynth.errors import ConfigError
from xraysynth.records import Rule

OPENAI_URL = "https://api.openai.com/v1"
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


def _is_http_url(text: str) -> bool:
    address = urlsplit(text)
    return not text or (address.scheme in ("http", "https") and address.username is None)


URL_RULE = Rule("be an http(s) address without user and password", _is_http_url, choices=None)
VARIABLE_RULE = Rule(
    "be the name of an environment variable, never a key itself",
    re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}").fullmatch,
    choices=None,
)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """OpenAI, or another server at `base_url`, or Azure; `key_env` names the variable with the key."""

    base_url: str | None
    azure_endpoint: str | None
    azure_api_version: str
    key_env: str
    timeout_seconds: float

    @property
    def url(self) -> str:
        """What is called; the SDK's own variable for it is not read."""
        return self.base_url or self.azure_endpoint or OPENAI_URL

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI itself, to which the catalogue's dates and limits apply."""
        return urlsplit(self.url).hostname == urlsplit(OPENAI_URL).hostname

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine."""
        return urlsplit(self.url).hostname in LOOPBACK_HOSTS

    @property
    def label(self) -> str:
        """Who answers."""
        place = urlsplit(self.url).netloc
        if self.azure_endpoint:
            return f"Azure OpenAI ({place})"
        return "OpenAI" if self.is_openai else place

    def require_key(self) -> str:
        """The key; a server on this machine may do without."""
        key = os.environ.get(self.key_env, "").strip()
        if not key and self.is_local:
            return "none"
        if not key:
            raise ConfigError(
                f"the environment variable {self.key_env} holds no key for {self.label}; set it "
                f"(export {self.key_env}=…), name another with api_key_env, or score images made "
                "earlier with generator=archive"
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"the key in {self.key_env} has characters that no key has")
        return key

    @property
    def secret(self) -> str | None:
        """The key that must appear nowhere."""
        return os.environ.get(self.key_env, "").strip() or None

    def build_client(self, *, asynchronous: bool) -> Any:
        """The SDK's client. It neither tries again nor follows redirects."""
        import httpx2
        import openai

        http = openai.DefaultAsyncHttpxClient if asynchronous else openai.DefaultHttpxClient
        timeout = httpx2.Timeout(self.timeout_seconds, connect=20.0, pool=None)
        options: dict[str, Any] = {
            "api_key": self.require_key(),
            "max_retries": 0,
            "timeout": timeout,
            "http_client": http(
                timeout=timeout,
                verify=_load_ssl_context(),
                follow_redirects=False,
                trust_env=not self.is_local,
            ),
        }
        if self.azure_endpoint:
            return openai.AsyncAzureOpenAI(
                azure_endpoint=self.azure_endpoint, api_version=self.azure_api_version, **options
            )
        kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        return kind(base_url=self.url, **options)


@cache
def _load_ssl_context() -> Any:
    """Read once: it takes longer than a call to a server nearby."""
    import httpx2

    return httpx2.create_ssl_context()
