"""What may be seen of one run, by its events alone: every result once, joins once, nothing begun that must not begin."""

from __future__ import annotations

from headrace import events as e
from headrace.execution import NO_ITEM
from headrace.plan import Plan
from headrace.state import RunState

DECIDED = (e.NodeCompleted, e.NodeFailed, e.NodeSkipped, e.NodePoisoned, e.NodeCancelled)


class RunWatch:
    """What was seen of one run, by its events alone."""

    def __init__(self) -> None:
        self.decided: dict[tuple[str, int], str] = {}
        self.fired: set[str] = set()
        self.last: dict[tuple[str, int], type[e.Event]] = {}
        self.started: set[tuple[str, int]] = set()
        self.resume_keys: set[str] = set()
        self.types: list[str] = []
        self.children: list[str] = []

    def note(self, state: RunState, plan: Plan, event: e.Event) -> None:
        self.types.append(type(event).__name__)
        if isinstance(event, e.LoopIteration):
            self._note_iteration(plan, event)
            self._forget(event.reset)
        elif isinstance(event, e.LoopEnded):
            self._note_iteration(plan, event)
        elif isinstance(event, DECIDED):
            item = getattr(event, "item", NO_ITEM)
            key = (event.node, item)
            assert key not in self.decided, f"{key} was {self.decided[key]} and now gets {event}"
            self.decided[key] = type(event).__name__
            if isinstance(event, e.NodeCancelled) and event.predecessor:
                assert key not in self.started, f"{event.node} had begun and is cancelled for its predecessor"
        elif isinstance(event, e.JoinFired):
            assert event.node not in self.fired, f"join {event.node} fired twice"
            self.fired.add(event.node)
            assert len(plan.nodes[event.node].entries) > 1
            assert set(event.edges) <= set(plan.nodes[event.node].entries)
        elif isinstance(event, e.NodeScheduled | e.NodeStarted):
            self._note_work(state, plan, event)
        elif isinstance(event, e.WaitResumed) and event.key is not None:
            assert event.key not in self.resume_keys, f"{event.node} is resumed with a key that was applied"
            self.resume_keys.add(event.key)
        elif isinstance(event, e.ChildStarted):
            assert event.child not in self.children, f"child {event.child} was started twice"
            self.children.append(event.child)

    def check_end(self, state: RunState, plan: Plan, event: e.Event) -> None:
        """A run that ended by itself, with this event, has left nothing undecided."""
        assert not any(error.code == "INTERNAL_ERROR" for error in state.errors), state.errors
        assert (state.ended == "failed") == bool(state.errors) or state.ended == "cancelled"
        if isinstance(event, e.RunCancelled) or (plan.fail_fast and isinstance(event, e.RunFailed)):
            return
        bodies = {member for node in plan.nodes.values() for member in node.body}
        for node in plan.nodes.values():
            if node.id not in bodies:
                assert (node.id, NO_ITEM) in self.decided, f"nothing was decided about {node.id}"
                join = state.joins.get(node.id)
                seen = {*join.arrived, *join.dead, *join.failed} if join is not None else set()
                assert seen >= set(node.entries), f"an edge into {node.id} was never decided"

    def _note_iteration(self, plan: Plan, event: e.LoopIteration | e.LoopEnded) -> None:
        body = plan.nodes[event.node].body
        open_ones = [key for key in self.last if key[0] in body and key not in self.decided]
        assert not open_ones, f"{event} came before {open_ones} were done"

    def _forget(self, nodes: tuple[str, ...]) -> None:
        gone = set(nodes)
        self.fired -= gone
        self.started = {key for key in self.started if key[0] not in gone}
        for seen in (self.decided, self.last):
            for key in [key for key in seen if key[0] in gone]:
                del seen[key]

    def _note_work(self, state: RunState, plan: Plan, event: e.NodeScheduled | e.NodeStarted) -> None:
        key = (event.node, event.item)
        node = plan.nodes[event.node]
        assert key not in self.decided, f"{key} was {self.decided[key]} and now gets {event}"
        assert 1 <= event.attempt <= node.max_retries
        if isinstance(event, e.NodeStarted):
            self.started.add(key)
            again = self.last.get(key) is e.NodeStarted
            assert again or not state.paused, f"{event.node} was started in a pause"
            assert not state.parked, f"{event.node} was started and its run is parked"
        elif event.item != NO_ITEM:
            batch = state.nodes[event.node].batch
            assert batch is not None
            assert batch.open <= node.params.get("chunkSize", len(batch.items))
        self.last[key] = type(event)
