"""Texts without the secrets in them. Pure."""

import re
from typing import Final

# Of a URI: `//user:password@` and `?query`. In a text, up to the next space or quote.
_USERINFO: Final = re.compile(r"//[^\s\"'<>?#]*@")
_QUERY: Final = re.compile(r"(\w://[^\s\"'<>?#]*)[?#][^\s\"'<>]*")
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]*\]|[^:\[\]]*)(:\d*)?")
# A JSON Web Token: three parts in base64, of which the first begins with `{"`.
_JWT: Final = re.compile(r"eyJ[\w-]{4,}\.[\w-]+\.[\w-]*")


def cleaned(text: str) -> str:
    """The text without tokens, and without user, query and fragment of the URIs in it."""
    if "://" in text or "//" in text:
        text = _QUERY.sub(r"\1", _USERINFO.sub("//", text))
    return _JWT.sub("", text)


def public_uri(text: str) -> str:
    """A path, or a URL without user, query and fragment. Where it cannot be told what is a user, less is left."""
    bare = re.split(r"[?#]", text, maxsplit=1)[0]
    scheme, slashes, rest = bare.partition("//")
    if not slashes:
        # `clip@2.mp4` is the name of a file.
        told = ":" not in bare.partition("@")[0] and "\\" not in bare
        return cleaned(bare) if told or "@" not in text else ""
    authority, slash, path = rest.partition("/")
    # A password with a slash or a question mark, or an @ elsewhere: the one is worse to keep than the other to lose.
    told = "@" not in path and "\\" not in bare and (slash != "" or text.count("@") == bare.count("@"))
    host = authority.rpartition("@")[2]
    return cleaned(f"{scheme}//{host}{slash}{path}" if told and _HOST.fullmatch(host) else f"{scheme}//")
