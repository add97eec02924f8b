"""A double of the Hugging Face Hub on loopback, which the unmodified huggingface_hub client talks to over HTTP.

It keeps repositories in memory, answers as the Hub does (status codes, headers and error codes, with large files behind
a second server as behind a CDN), writes down every request, and fails where a test asks it to.
"""

from hub_server import reading as reading  # its routes
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
