"""Events as sentences: what ``events`` prints, and what ``run`` tells where there is no terminal."""

from __future__ import annotations

__all__ = ["Sentence", "sentence_of"]

from collections.abc import Callable
from typing import Any, NamedTuple

from headrace_adapters.cli.output import clock_text, compact, one_line

_VALUE_CHARS_MAX = 60


class Sentence(NamedTuple):
    """*subject* is the node, empty for the run; *state* gives the colour. What is *detail* is of no use in passing."""

    subject: str
    text: str
    state: str = ""
    detail: bool = False


def sentence_of(event: dict[str, Any]) -> Sentence:
    """The sentence of an event, also of one that this version does not know."""
    say = _SENTENCES.get(event["type"])
    if say is None:
        rest = {name: value for name, value in event.items() if name not in ("seq", "at", "type")}
        return Sentence("", f"{event['type']} {compact(rest)}")
    sentence = say(event)
    if event.get("item", -1) >= 0:
        return sentence._replace(subject=f"{sentence.subject}[{event['item']}]", detail=event["type"] in _PASSING)
    return sentence


# Of the items of a batch nobody wants to read that each of them began and ended well.
_PASSING = frozenset(("nodeScheduled", "nodeStarted", "nodeCompleted"))


def _value(event: dict[str, Any], name: str) -> str:
    return compact(event.get(name), _VALUE_CHARS_MAX)


def _attempt(event: dict[str, Any]) -> str:
    attempt = event.get("attempt", 1)
    return "" if attempt == 1 else f", attempt {attempt}"


def _reason(event: dict[str, Any]) -> str:
    return f": {event['reason']}" if event.get("reason") else ""


def _message(event: dict[str, Any]) -> str:
    return one_line(str(event.get("message", "")))


def _run_started(e: dict[str, Any]) -> Sentence:
    version = f" version {e['version']}" if e.get("version") else ""
    return Sentence("", f"run of {e['blueprintId']}{version} started with {_value(e, 'input')}", "running")


def _completed(e: dict[str, Any]) -> Sentence:
    action = f", action {e['action']}" if e.get("action") is not None else ""
    return Sentence(e["node"], f"completed{action} with {_value(e, 'output')}", "completed")


def _failed(e: dict[str, Any]) -> Sentence:
    by = f"; its fallback {e['recoveredBy']} takes over" if e.get("recoveredBy") else ""
    return Sentence(e["node"], f"failed{_attempt(e)} ({e.get('code', '')}): {_message(e)}{by}", "failed")


def _retrying(e: dict[str, Any]) -> Sentence:
    text = f"attempt {e.get('attempt', 1)} is due at {clock_text(e['due'])} ({e.get('code', '')}: {_message(e)})"
    return Sentence(e["node"], text, "retrying")


def _cancelled(e: dict[str, Any]) -> Sentence:
    why = f": its predecessor {e['predecessor']} was lost" if e.get("predecessor") else ""
    return Sentence(e["node"], f"cancelled{why}", "cancelled")


def _signal(e: dict[str, Any]) -> Sentence:
    kept = ", kept for the first wait that asks" if e.get("kept") else ""
    return Sentence("", f"signal {e['event']} received{kept} with {_value(e, 'payload')}", "awaiting")


def _edge(word: str) -> Callable[[dict[str, Any]], Sentence]:
    return lambda e: Sentence("", f"edge {e['source']} -> {e['target']} {word}", "", detail=True)


def _child_changed(e: dict[str, Any]) -> Sentence:
    waits = ", ".join(path for path, _ in e.get("waits", ()))
    return Sentence(e["node"], f"its run awaits {waits}" if e.get("awaiting") else "its run goes on", detail=True)


def _context_changed(e: dict[str, Any]) -> Sentence:
    writes = ", ".join(f"{operation[0]} {operation[1]}" for operation in e.get("operations", ()))
    return Sentence(e["node"], f"context: {writes}", detail=True)


def _ignored(e: dict[str, Any]) -> Sentence:
    return Sentence(e.get("node", ""), f"{e.get('command', 'command')} ignored{_reason(e)}", "skipped")


_SENTENCES: dict[str, Callable[[dict[str, Any]], Sentence]] = {
    "runStarted": _run_started,
    "runParked": lambda e: Sentence("", f"run parked{_reason(e)}", "parked"),
    "runUnparked": lambda e: Sentence("", f"run goes on with version {e.get('version', '')}", "running"),
    "runAwaiting": lambda _: Sentence("", "run awaits an answer", "awaiting"),
    "runResumed": lambda _: Sentence("", "run goes on", "running", detail=True),
    "runPaused": lambda e: Sentence("", f"run paused{_reason(e)}", "paused"),
    "runUnpaused": lambda _: Sentence("", "run unpaused", "running"),
    "runCompleted": lambda e: Sentence("", f"run completed with {_value(e, 'output')}", "completed"),
    "runFailed": lambda e: Sentence("", f"run failed{_reason(e)}", "failed"),
    "runCancelled": lambda e: Sentence("", f"run cancelled{_reason(e)}", "cancelled"),
    "runDuplicate": lambda _: Sentence("", "a second start of this run changed nothing", "skipped"),
    "commandIgnored": _ignored,
    "commandRejected": _ignored,
    "nodeScheduled": lambda e: Sentence(e["node"], f"scheduled{_attempt(e)}", detail=True),
    "nodeStarted": lambda e: Sentence(e["node"], f"started{_attempt(e)}", "running"),
    "nodeCompleted": _completed,
    "nodeFailed": _failed,
    "nodeRetrying": _retrying,
    "nodeSkipped": lambda e: Sentence(e["node"], "skipped", "skipped"),
    "nodePoisoned": lambda e: Sentence(
        e["node"], f"not executed: its predecessor {e.get('predecessor')} failed", "poisoned"
    ),
    "nodeCancelled": _cancelled,
    "nodeFallback": lambda e: Sentence(e["node"], f"its fallback {e['fallback']} is scheduled", "retrying"),
    "edgeTaken": _edge("taken"),
    "edgeDead": _edge("not taken"),
    "edgeFailed": _edge("failed"),
    "actionUnheard": lambda e: Sentence(e["node"], f"no edge listens to its action {e['action']}", "skipped"),
    "joinFired": lambda e: Sentence(e["node"], "join fired", detail=True),
    "timerSet": lambda e: Sentence(e["node"], f"timer set to {clock_text(e['due'], with_date=True)}", "sleeping"),
    "timerFired": lambda e: Sentence(e["node"], "timer fired", detail=True),
    "waitOpened": lambda e: Sentence(
        e["node"], f"waits for {'the event ' + e['event'] if e.get('event') else 'a resume'}", "waiting"
    ),
    "signalReceived": _signal,
    "signalTaken": lambda e: Sentence(e["node"], "took a signal that was kept", detail=True),
    "waitResumed": lambda e: Sentence(e["node"], f"resumed{' with key ' + e['key'] if e.get('key') else ''}", "running"),
    "resumeClaimed": lambda e: Sentence(e["node"], f"the resume with key {e['key']} went on to its run", detail=True),
    "resumeForwarded": lambda e: Sentence("", f"a child applied the resume with key {e['key']}", detail=True),
    "resumeReleased": lambda e: Sentence("", f"no child applied the resume with key {e['key']}", detail=True),
    "childStarted": lambda e: Sentence(e["node"], f"run {e['child']} started", "running"),
    "childChanged": _child_changed,
    "childEnded": lambda e: Sentence(e["node"], f"run {e['child']} ended: {e['status']}", e["status"]),
    "loopIteration": lambda e: Sentence(e["node"], f"iteration {e['iteration']} begins", "running"),
    "loopEnded": lambda e: Sentence(e["node"], f"loop ended after {e['iterations']} iterations", detail=True),
    "batchStarted": lambda e: Sentence(e["node"], f"batch of {len(e['items'])} items started", "running"),
    "batchFinished": lambda e: Sentence(
        e["node"], f"batch finished{', item ' + str(e['failed']) + ' failed' if e.get('failed', -1) >= 0 else ''}"
    ),
    "contextChanged": _context_changed,
}
