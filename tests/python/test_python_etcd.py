"""The published client `python-etcd`, which speaks v2: the same cases against etcd 3.4 and Quorate."""

import threading
import time

import etcd
import etcd.auth
import pytest

from harness import CALL_LIMIT, Pair, eventually


def connect(side, user=None, password=None):
    client = etcd.Client(
        side.server.host, side.server.port, read_timeout=CALL_LIMIT, username=user, password=password, allow_reconnect=False
    )
    client.http.proxy = None
    return client


@pytest.fixture
def v2():
    """A pair of servers for one case, both at the index of a fresh member."""
    pair = Pair(v2=True)
    for side in pair.sides:
        eventually("index 3", lambda side=side: connect(side).read("/").etcd_index == 3)
    yield pair
    pair.remove()


def shown(node):
    """A node or an answer without what differs from clock to clock."""
    if node is None:
        return None
    children = [child for child in getattr(node, "_children", [])]
    seen = (node.action, node.key, node.value, node.dir, node.ttl is not None, node.createdIndex, node.modifiedIndex)
    return (*seen, getattr(node, "etcd_index", None), children and strip(children), shown(getattr(node, "_prev_node", None)))


def strip(nodes):
    """Nodes as they came, without their times."""
    kept = [{k: v for k, v in node.items() if k not in ("expiration", "ttl", "nodes")} for node in nodes]
    return [own | {"nodes": strip(node.get("nodes", []))} for own, node in zip(kept, nodes)]


def asked(side, name, call):
    """Records an answer, or how the call failed."""
    try:
        answer = call()
    except etcd.EtcdException as error:
        return side.note(name, (type(error).__name__, str(error).split(": ")[0], error.payload))
    return side.note(name, shown(answer) if isinstance(answer, etcd.EtcdResult) else answer)


def test_keys(v2):
    def case(side):
        client = connect(side)
        calls = {
            "write": lambda: client.write("/a", 1),
            "write again": lambda: client.write("/a", "2", ttl=100),
            "conditions": lambda: client.write("/a", "3", prevValue="2", prevExist=True),
            "a wrong value": lambda: client.write("/a", "3", prevValue="9"),
            "a wrong index": lambda: client.write("/a", "3", prevIndex=1),
            "both wrong": lambda: client.write("/a", "3", prevIndex=1, prevValue="9"),
            "an index": lambda: client.write("/a", "4", prevIndex=6),
            "exists": lambda: client.write("/a", "4", prevExist=False),
            "exists not": lambda: client.write("/none", "4", prevExist=True),
            "refresh": lambda: client.refresh("/a", 200),
            "refresh nothing": lambda: client.refresh("/none", 200),
            "directory": lambda: client.write("/d", None, dir=True),
            "directory again": lambda: client.write("/d", None, dir=True),
            "directory as file": lambda: client.write("/d", "x"),
            "below": lambda: client.write("/d/e/f", "\u00fc<&>"),
            "below a file": lambda: client.write("/a/b", "x"),
            "hidden": lambda: client.write("/d/_h", "x"),
            "append": lambda: client.write("/q", "1", append=True),
            "append more": lambda: client.write("/q", "2", append=True, ttl=50),
            "append to a file": lambda: client.write("/a", "2", append=True),
            "root": lambda: client.write("/", "x"),
            "read": lambda: client.read("/a"),
            "get": lambda: client.get("/d/e/f"),
            "read nothing": lambda: client.read("/none"),
            "list": lambda: client.read("/", recursive=True, sorted=True),
            "quorum": lambda: client.read("/d", quorum=True),
            "test and set": lambda: client.test_and_set("/a", "5", "4"),
            "test and set wrong": lambda: client.test_and_set("/a", "5", "4"),
            "set": lambda: client.set("/b", "x"),
            "contains": lambda: ["/a" in client, "/none" in client],
            "pop": lambda: client.pop("/b"),
            "pop nothing": lambda: client.pop("/b"),
            "delete a directory": lambda: client.delete("/d"),
            "delete a full one": lambda: client.delete("/d", dir=True),
            "delete a wrong value": lambda: client.delete("/a", prevValue="9"),
            "delete a value": lambda: client.delete("/a", prevValue="5"),
            "delete all": lambda: client.delete("/d", recursive=True),
            "delete nothing": lambda: client.delete("/none"),
        }
        for name, call in calls.items():
            asked(side, name, call)
        for index in range(4, 12):
            asked(side, f"history from {index}", lambda index=index: client.watch("/", index=index, recursive=True))

    v2.both(case)


def test_waiting(v2):
    def case(side):
        client, seen = connect(side), []
        last = client.write("/w/stop", "0").modifiedIndex

        def watch():
            for event in connect(side).eternal_watch("/w", index=last + 1, recursive=True):
                kept = shown(event)
                # Without the server's index: it is of the moment at which each wait began, before or after the write.
                seen.append((*kept[:7], *kept[8:]))
                if event.value == "stop":
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        client.write("/w/a", "1")
        client.write("/w/a", "2", ttl=1)
        eventually("the end of a time to live", lambda: "/w/a" not in client)
        client.write("/w/_hidden", "x")
        client.write("/w/d", None, dir=True)
        client.delete("/w/d", dir=True)
        client.write("/w/stop", "stop")
        watcher.join(CALL_LIMIT)
        assert not watcher.is_alive(), seen
        side.note("events", seen)
        started = time.monotonic()
        asked(side, "a watch that times out", lambda: client.watch("/w/none", timeout=1))
        assert time.monotonic() - started < CALL_LIMIT

    v2.both(case)


def test_cluster(v2):
    def case(side):
        client = connect(side)
        names = {f"http://{side.server.endpoint}": "CLIENT", f"http://{side.server.peer}": "PEER"}

        def plain(value):
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items() if k != "id"}
            if isinstance(value, list):
                return [plain(entry) for entry in value]
            return names.get(value, value)

        side.note("members", [plain(member) for member in client.members.values()])
        side.note("machines", plain(client.machines))
        side.note("leader", plain(client.leader))
        side.note("stats", sorted(key for key in client.stats if not key.endswith("Rate")))
        side.note("leader stats", sorted(client.leader_stats))
        side.note("store stats", sorted(client.store_stats))

    v2.both(case)


def test_locks(v2):
    def case(side):
        first, second = etcd.Lock(connect(side), "lock"), etcd.Lock(connect(side), "lock")
        side.note("acquire", first.acquire(lock_ttl=60))
        side.note("held", [first.is_acquired, second.acquire(blocking=False)])
        first.release()
        side.note("released", [first.is_acquired, second.acquire(lock_ttl=60), second.is_acquired])
        second.release()

    v2.both(case)


def test_users(v2):
    def case(side):
        client = connect(side)
        auth = etcd.auth.Auth(client)
        side.note("off", auth.active)
        asked(side, "enable without root", lambda: setattr(auth, "active", True))
        role = etcd.auth.EtcdRole(client, "r")
        role.grant("/r/*", "RW")
        role.grant("/read", "R")
        asked(side, "role", role.write)
        role.revoke("/r/*", "W")
        asked(side, "change the role", role.write)
        asked(side, "read the role", lambda: sorted(etcd.auth.EtcdRole(client, "r").acls) and None)
        for name in ["root", "u"]:
            user = etcd.auth.EtcdUser(client, name)
            user.password = f"{name}pw"
            asked(side, f"user {name}", user.write)
        user = etcd.auth.EtcdUser(client, "u")
        asked(side, "read the user", user.read)
        user.roles = ["r"]
        asked(side, "grant", user.write)
        side.note("names", [user.names, role.names])
        asked(side, "no user", lambda: etcd.auth.EtcdUser(client, "none").read())
        client.write("/r/a", "1")
        asked(side, "enable", lambda: setattr(auth, "active", True))
        everybody = [None, None], ["root", "rootpw"], ["root", "x"], ["u", "upw"], ["none", "x"]
        for name, password in everybody:
            other = connect(side, name, password)
            asked(side, f"read as {name}", lambda other=other: other.read("/r/a"))
            asked(side, f"write as {name}", lambda other=other: other.write("/r/a", "1"))
            asked(side, f"users as {name}", lambda other=other: etcd.auth.EtcdUser(other, "u").names)
        root = connect(side, "root", "rootpw")
        asked(side, "delete the user", lambda: etcd.auth.EtcdUser(root, "u").delete())
        asked(side, "delete the role", lambda: etcd.auth.EtcdRole(root, "r").delete())
        asked(side, "disable", lambda: setattr(etcd.auth.Auth(root), "active", False))

    v2.both(case)
