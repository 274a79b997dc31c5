"""Patroni's own modules for etcd, v2 and v3: leader, members, switchover and settings of a database cluster.

Two of Patroni's instances share a store; each case runs against etcd (3.4 for v2) and Quorate. patronictl, and the page
that tells the story, are run too.
"""

import doctest
import functools
import json
import logging
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from patroni.dcs import get_dcs
from patroni.exceptions import DCSError

from harness import CALL_LIMIT, Pair, eventually

TTL = 30
"""Seconds that a leader rules after its last word, in cases that wait for no end."""

TTL_SHORT = 5
"""The same where the end is waited for; etcd grants no lease below 2."""


# Patroni's followers outlive the cases and complain about the servers that are gone.
logging.getLogger("patroni").addHandler(logging.NullHandler())


@pytest.fixture(params=["etcd", "etcd3"])
def store(request):
    """Patroni's name for the interface, and a pair of fresh servers that have it."""
    pair = Pair(v2=request.param == "etcd")
    yield request.param, pair
    pair.remove()


def instance(side, interface, name, ttl=TTL):
    """What a Patroni of this name uses, made from its settings as Patroni does."""
    settings = {"scope": "pg", "name": name, "ttl": ttl, "loop_wait": 1, "retry_timeout": 10}
    return get_dcs({**settings, interface: {"host": side.server.endpoint}})


def sees(dcs, what, condition):
    """The cluster as the instance sees it once the condition holds: over v3 it follows by a watch."""

    def look():
        cluster = dcs.get_cluster()
        return [cluster] if condition(cluster) else []  # a list, as an empty cluster is false

    return eventually(what, look)[0]


def leader_is(name):
    return lambda cluster: (cluster.leader.name if cluster.leader else None) == name


def shown(cluster):
    """A cluster without leases and clocks; revisions and indexes are equal on equal histories."""
    leader, failover, config = cluster.leader, cluster.failover, cluster.config
    return {
        "initialize": cluster.initialize,
        "leader": leader and (leader.version, leader.name, bool(leader.session)),
        "members": sorted((m.version, m.name, bool(m.session), json.dumps(m.data)) for m in cluster.members),
        "failover": failover and (failover.version, failover.leader, failover.candidate),
        "config": config and (config.modify_version, config.data),
        "status": (cluster.status.last_lsn, cluster.status.slots),
        "sync": (cluster.sync.version, cluster.sync.leader, cluster.sync.sync_standby),
        "history": cluster.history and cluster.history.lines,
        "failsafe": cluster.failsafe,
    }


def case(ttl=TTL):
    """Makes a test of a function that takes a side and two instances on it, the first one the leader."""

    def wrap(script):
        @functools.wraps(script)
        def test(store):
            interface, pair = store

            def run(side):
                first, second = (instance(side, interface, name, ttl) for name in ["first", "second"])
                side.note("empty", sees(second, "an empty cluster", lambda cluster: True).is_empty())
                side.note("initialize", bool(first.initialize(sysid="4711")))
                side.note("initialize again", bool(second.initialize(sysid="4712")))
                for dcs, port in [(first, 5432), (second, 5433)]:
                    data = {"conn_url": f"postgres://127.0.0.1:{port}/postgres", "state": "running"}
                    side.note("touch", dcs.touch_member(data))
                side.note("acquire", bool(first.attempt_to_acquire_leader()))
                side.note("acquire what is held", bool(second.attempt_to_acquire_leader()))
                for dcs in [first, second]:
                    side.note("cluster", shown(sees(dcs, "the leader", leader_is("first"))))
                script(side, first, second)

            pair.both(run)

        del test.__wrapped__
        return test

    return wrap


@case()
def test_a_cluster_is_kept(side, first, second):
    first.set_config_value(json.dumps({"ttl": 30, "postgresql": {"use_slots": True}}))
    cluster = sees(first, "settings", lambda cluster: cluster.config)
    side.note("settings", shown(cluster))
    version = cluster.config.modify_version
    side.note("settings changed", first.set_config_value('{"ttl":20}', version))
    side.note("settings of an old version", second.set_config_value('{"ttl":10}', version))
    side.note("update", first.update_leader(cluster, 4711, {"slot": 12}, {"first": "http://127.0.0.1:8008"}))
    side.note("history", first.set_history_value('[[1,25623960,"no recovery target specified"]]'))
    sync = first.write_sync_state("first", ["second"], 1)
    side.note("synchronous", (sync.version, sync.leader, sync.sync_standby))
    side.note("of an old version", second.write_sync_state("second", [], 0, version=version))
    complete = lambda cluster: cluster.sync.leader and cluster.history and cluster.failsafe and cluster.status.last_lsn
    for dcs in [first, second]:
        side.note("cluster", shown(sees(dcs, "everything", complete)))
    side.note("synchronous no more", bool(first.delete_sync_state(sync.version)))
    side.note("deleted", bool(first.delete_cluster()))
    side.note("nothing", sees(second, "an empty cluster", lambda cluster: cluster.is_empty()).is_empty())


@case()
def test_a_switchover_is_asked_for_and_done(side, first, second):
    side.note("ask", first.manual_failover("first", "second"))
    cluster = sees(second, "the wish", lambda cluster: cluster.failover)
    side.note("asked", shown(cluster))
    eventually("no more news", lambda: not second.watch(None, 0.2))
    woken = []

    def wait():
        started = time.monotonic()
        woken.append((second.watch(cluster.leader.version, 2 * CALL_LIMIT), time.monotonic() - started < CALL_LIMIT))

    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    side.note("not the leader", bool(second.delete_leader(cluster.leader)))
    side.note("resign", bool(first.delete_leader(cluster.leader, 4712)))
    watcher.join(2 * CALL_LIMIT)
    side.note("woken in time", woken)
    side.note("acquire", bool(second.attempt_to_acquire_leader()))
    cluster = sees(second, "itself", leader_is("second"))
    side.note("settled", second.manual_failover("", "", version=cluster.failover.version))
    for dcs in [first, second]:
        seen = sees(dcs, "the new leader", lambda c: leader_is("second")(c) and not c.failover.candidate)
        side.note("done", shown(seen))
    side.note("the old one", bool(first.attempt_to_acquire_leader()))
    side.note("by force", bool(first.take_leader()))
    side.note("forced", shown(sees(second, "the first again", leader_is("first"))))


@case(ttl=TTL_SHORT)
def test_a_silent_leader_is_replaced(side, first, second):
    cluster = sees(second, "the leader", leader_is("first"))
    kept = cluster.get_member("second").data

    def alone():
        # The living one says so in every round, as Patroni does; the other says nothing.
        second.touch_member(kept)
        return second.attempt_to_acquire_leader()

    before = time.monotonic()
    eventually("the end of the first one's time", alone)
    assert time.monotonic() - before < CALL_LIMIT
    gone = sees(second, "the end of the silent member", lambda c: [m.name for m in c.members] == ["second"])
    side.note("leader and members", (gone.leader.name, [m.name for m in gone.members]))
    side.note("update as the old one", bool(first.update_leader(cluster, 4711)))
    side.note("the old one sees", sees(first, "the new leader", leader_is("second")).leader.name)


@case()
def test_a_leader_outlasts_a_restart_of_the_store(side, first, second):
    before = sees(first, "the leader", leader_is("first"))
    side.server.restart()

    def update():
        try:
            return first.update_leader(before, 4711)
        except DCSError:
            return False

    eventually("an update after the restart", update)
    side.note("still held", bool(second.attempt_to_acquire_leader()))
    known = lambda cluster: leader_is("first")(cluster) and cluster.status.last_lsn == 4711
    cluster = sees(second, "what was said after the restart", known)
    side.note("leader and members", (cluster.leader.name, sorted(m.name for m in cluster.members)))


PAGE = pathlib.Path(__file__).parents[2] / "docs" / "stories" / "patroni.md"

PAGE_ENDPOINT = "127.0.0.1:2379"
"""Where the page has its server."""


def test_the_page_is_true(store, monkeypatch):
    interface, pair = store
    monkeypatch.setenv("NO_PROXY", "*")

    def run(side):
        text = PAGE.read_text().replace(PAGE_ENDPOINT, side.server.endpoint)
        if interface == "etcd":
            text = text.replace("etcd3", "etcd")
            text = text.split("## Locks and groups")[0]
        page = doctest.DocTestParser().get_doctest(text.replace("```", "\n"), {}, "page", str(PAGE), 0)
        complaints = []
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page, out=complaints.append, clear_globs=False)
        assert result.failed == 0, "".join(complaints)
        side.note("lines of the page", result.attempted)

    for side in pair.sides:  # one after the other: doctest takes the program's standard output
        side.transcript = []
        run(side)
    pair.compare({})


@case()
def test_patronictl_sees_and_changes(side, first, second):
    interface = type(first).__name__.lower()
    settings = side.server.folder / "patronictl.yml"
    settings.write_text(json.dumps({"scope": "pg", interface: {"host": side.server.endpoint}}))

    def ctl(*arguments):
        command = [sys.executable, "-c", "from patroni.ctl import ctl; ctl()", "-c", str(settings), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * CALL_LIMIT)
        return side.note(arguments, (done.returncode, done.stdout.strip(), done.stderr.strip().splitlines()[-1:]))

    first.set_config_value('{"ttl":30}')
    status, listed, _ = ctl("list", "pg", "-f", "json")
    assert status == 0 and [row["Role"] for row in json.loads(listed)] == ["Leader", "Replica"]
    ctl("show-config", "pg")
    ctl("edit-config", "pg", "--force", "-q", "-s", "ttl=20")
    config = sees(second, "the change", lambda cluster: cluster.config and cluster.config.data["ttl"] == 20)
    side.note("changed", shown(config))
