"""Where an images API answers, and the SDK's client for it."""

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from xraysynth.errors import ConfigError
from xraysynth.records import Rule

OPENAI = "https://api.openai.com/v1"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _is_address(text: str) -> bool:
    address = urlsplit(text)
    return not text or (address.scheme in ("http", "https") and address.username is None)


ADDRESS = Rule("be an http(s) address without user and password", _is_address, known=None)
VARIABLE = Rule(
    "be the name of an environment variable, never a key itself",
    re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}").fullmatch,
    known=None,
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
    def address(self) -> str:
        """What is called; the SDK's own variable for it is not read."""
        return self.base_url or self.azure_endpoint or OPENAI

    @property
    def vendor(self) -> bool:
        """Whether it is OpenAI itself, to which the catalogue's dates and limits apply."""
        return urlsplit(self.address).hostname == urlsplit(OPENAI).hostname

    @property
    def local(self) -> bool:
        """Whether it runs on this machine."""
        return urlsplit(self.address).hostname in LOOPBACK

    @property
    def label(self) -> str:
        """Who answers."""
        place = urlsplit(self.address).netloc
        if self.azure_endpoint:
            return f"Azure OpenAI ({place})"
        return "OpenAI" if self.vendor else place

    def key(self) -> str:
        """The key; a server on this machine may do without."""
        key = os.environ.get(self.key_env, "").strip()
        if not key and self.local:
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

    def client(self, *, asynchronous: bool) -> Any:
        """The SDK's client. It neither tries again nor follows redirects."""
        import httpx2
        import openai

        http = openai.DefaultAsyncHttpxClient if asynchronous else openai.DefaultHttpxClient
        timeout = httpx2.Timeout(self.timeout_seconds, connect=20.0, pool=None)
        options: dict[str, Any] = {
            "api_key": self.key(),
            "max_retries": 0,
            "timeout": timeout,
            "http_client": http(
                timeout=timeout,
                verify=_certificates(),
                follow_redirects=False,
                trust_env=not self.local,
            ),
        }
        if self.azure_endpoint:
            return openai.AsyncAzureOpenAI(
                azure_endpoint=self.azure_endpoint, api_version=self.azure_api_version, **options
            )
        kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        return kind(base_url=self.address, **options)


@cache
def _certificates() -> Any:
    """Read once: it takes longer than a call to a server nearby."""
    import httpx2

    return httpx2.create_ssl_context()
