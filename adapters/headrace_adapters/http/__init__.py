"""The HTTP side of a worker, and the client for it. See ``README.md`` beside this."""

from headrace_adapters.http.answers import Answers
from headrace_adapters.http.client import WorkerClient
from headrace_adapters.http.questions import Health, NotOwned, OwnedRuns, OwnerQuestions, Unanswered
from headrace_adapters.http.server import HttpServer

__all__ = [
    "Answers",
    "Health",
    "HttpServer",
    "NotOwned",
    "OwnedRuns",
    "OwnerQuestions",
    "Unanswered",
    "WorkerClient",
]
