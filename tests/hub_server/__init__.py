"""A double of the Hugging Face Hub on loopback, which the unmodified huggingface_hub client talks to over HTTP.

It keeps repositories in memory, answers as the Hub does (status codes, headers and error codes, with large files behind
a second server as behind a CDN), writes down every request, and fails where a test asks it to. Large files come in by
LFS, whole and in parts; the Hub's newer way, Xet, it does not speak, so that is switched off by the client's own
variable (HF_HUB_DISABLE_XET).
"""

from hub_server import collections as collections  # its routes; so are the next ones
from hub_server import reading as reading
from hub_server import uploads as uploads
from hub_server import writing as writing
from hub_server.log import Request, RequestLog
from hub_server.repositories import Repositories, Repository
from hub_server.server import Fault, HubServer, hub_variables, use_hub

__all__ = [
    "Fault",
    "HubServer",
    "Repositories",
    "Repository",
    "Request",
    "RequestLog",
    "hub_variables",
    "use_hub",
]
