"""The browser, for the tests of this folder too."""

from tests.clients.browser.conftest import chromium

__all__ = ["chromium"]
