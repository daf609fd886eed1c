"""Local stores that are gone, damaged or somebody else's: they are made again from the changelogs, and nobody notices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.kafka.app_topics import delete_topics
from tests.kafka.endings import AppName, MakeLoad, MakeWorkers, Say, after_some, finish, now_ms
from tests.kafka.stores import copies_of
from tests.kafka.workers import Workers

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Harm = Callable[[Path], None]


def delete(store: Path) -> None:
    shutil.rmtree(store)


def truncate(store: Path) -> None:
    """Half of every file of data is gone, as a disk that was full or a copy that was cut leaves it."""
    files = [path for path in store.iterdir() if path.suffix in (".sst", ".log") and path.stat().st_size]
    assert files, "there is nothing to truncate"
    for path in files:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def forget_what_is_where(store: Path) -> None:
    """The file that names all others is gone."""
    (store / "CURRENT").unlink()


def only_store(workers: Workers) -> Path:
    (store,) = copies_of(workers.state / workers.app) or copies_of(workers.state)
    return store


@pytest.mark.parametrize(
    ("harm", "how"),
    [
        (delete, "killed"),
        (forget_what_is_where, "stopped"),
        pytest.param(truncate, "killed", marks=pytest.mark.thorough),
        (truncate, "stopped"),
    ],
)
def test_a_store_that_was_harmed_while_its_worker_was_down_is_made_again(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, say: Say, harm: Harm, how: str
) -> None:
    workers = make_workers(app_name("harmed"), broker)
    first = workers.begin().ready()
    load = make_load(workers, 72)
    load.press(after_some(load, 0.6))
    fault = now_ms()
    if how == "killed":
        first.kill()
    else:
        first.stop()

    harm(only_store(workers))
    second = workers.begin()

    finish(workers, load, say, f"{harm.__name__}, {how}", [fault])
    if harm is forget_what_is_where:
        assert "is put aside as" in second.said


def test_the_store_of_another_app_in_the_place_of_ones_own_is_not_taken_for_it(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, say: Say
) -> None:
    others, workers = make_workers(app_name("other"), broker), make_workers(app_name("own"), broker)
    loads = [make_load(each, 72) for each in (others, workers)]
    for each, load in zip((others, workers), loads, strict=True):
        first = each.begin().ready()
        load.press(after_some(load, 0.6))
        first.kill()

    own = workers.state / workers.app / "slot-0" / "store"
    shutil.rmtree(own)
    shutil.copytree(others.state / others.app / "slot-0" / "store", own)
    fault = now_ms()
    workers.begin()
    loads[1].press(after_some(loads[1], 0.2))
    assert "one of other topics" in workers.all[-1].said
    others.begin()
    loads[0].finish()

    others.stop()
    # Both apps keep their state in one folder, so all of it is compared with each app's own changelogs.
    workers.state = workers.state / workers.app
    finish(workers, loads[1], say, "store of another app", [fault])


def test_a_store_of_topics_that_were_deleted_and_made_again_is_not_taken_for_theirs(
    broker: str, app_name: AppName, make_workers: MakeWorkers, make_load: MakeLoad, say: Say
) -> None:
    """The same ids run again: a marker of one that had ended before would make a duplicate of it."""
    workers = make_workers(app_name("again"), broker)
    first = workers.begin().ready()
    load = make_load(workers, 36)
    load.finish()
    first.stop()
    admin = AdminClient({"bootstrap.servers": broker})
    delete_topics(admin, workers.app)
    admin.delete_consumer_groups([workers.app])[workers.app].result(30)

    workers.begin().ready()
    again = make_load(workers, 36)

    finish(workers, again, say, "topics deleted and made again")
