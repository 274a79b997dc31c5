"""The published client `etcd3gw`, which speaks JSON to the gateway: the same cases against etcd and Quorate."""

import base64
import functools
import json
import queue
import threading

import etcd3gw
import requests
from etcd3gw.exceptions import Etcd3Exception
from etcd3gw.watch import Watcher

from harness import CALL_LIMIT, eventually

REVISIONS = ["revision", "create_revision", "mod_revision"]


def connect(side, token=None):
    session = requests.Session()
    session.trust_env = False
    if token:
        session.headers["Authorization"] = token
    return etcd3gw.client(side.server.host, side.server.port, timeout=CALL_LIMIT, session=session)


def case(servers):
    """Makes a test of a function that takes a side and a client."""

    def wrap(script):
        def run(side):
            script(side, connect(side))

        @functools.wraps(script)
        def test(request):
            request.getfixturevalue(servers).both(run)

        del test.__wrapped__
        return test

    return wrap


def refused(side, asked, call):
    """Records how a call that must fail does: the client's exception, the HTTP reason and the body."""
    try:
        answer = call()
    except Etcd3Exception as error:
        # Go's library varies these blanks from build to build of etcd.
        text = error.detail_text.replace(', "', ',"').replace("\u00a0", " ")
        return side.note(asked, (type(error).__name__, error.args, text))
    raise AssertionError(f"{asked} was answered: {answer}")


def code(text):
    return base64.b64encode(text.encode()).decode()


def revision(client):
    """The store's revision."""
    return int(client.post(client.get_url("/kv/range"), json={"key": code("any")})["header"]["revision"])


def plain(message, base):
    """A message without what differs between two clusters: revisions count from base, identities are left out."""
    if isinstance(message, dict):
        kept = {k: plain(v, base) for k, v in message.items() if k not in ("header", "lease", "ID", "member_id")}
        return kept | {k: int(kept[k]) - base for k in REVISIONS if k in kept}
    if isinstance(message, (list, tuple)):
        return [plain(part, base) for part in message]
    return message


@case("shared")
def test_keys(side, client):
    base = revision(client)
    side.note("put", [client.put("kv/a", "1"), client.put("kv/a", "2"), client.put("kv/b", b"\0\xff\n"), client.put("kv/c", "")])
    side.note("get", [client.get(key) for key in ["kv/a", "kv/b", "kv/c", "kv/none"]])
    side.note("metadata", plain(client.get("kv/a", metadata=True), base))
    side.note("prefix", plain(client.get_prefix("kv/"), base))
    for target in ["key", "version", "create", "mod", "value"]:
        for order in ["ascend", "descend"]:
            side.note(f"{order} {target}", plain(client.get_prefix("kv/", order, target), base))
    options = {
        "limit": {"limit": 2}, "older": {"revision": base + 2}, "keys only": {"keys_only": True},
        "own copy": {"serializable": True}, "modified": {"min_mod_revision": base + 3},
        "before": {"max_mod_revision": base + 3}, "created": {"min_create_revision": base + 3},
        "created before": {"max_create_revision": base + 1},
    }  # fmt: skip
    for name, option in options.items():
        side.note(name, plain(client.get("kv/", metadata=True, range_end="kv0", **option), base))
    counted = client.post(client.get_url("/kv/range"), json={"key": code("kv/"), "range_end": code("kv0"), "count_only": True})
    side.note("count", plain(counted, base))
    side.note("all", b"1" not in [value for value, _ in client.get_all()])
    side.note("replace", [client.replace("kv/a", "2", "3"), client.replace("kv/a", "2", "4"), client.get("kv/a")])
    side.note("create", [client.create("kv/a", "x"), client.create("kv/d", "x")])
    side.note("delete", [client.delete("kv/a", prev_kv=True), client.delete("kv/a"), client.delete_prefix("kv/")])
    assert side.note("revision", revision(client) - base) == 8


@case("shared")
def test_transactions(side, client):
    base = revision(client)
    key = code("txn/a")
    client.put("txn/a", "1")

    def ask(name, compare, success, failure=()):
        answer = client.transaction({"compare": compare, "success": success, "failure": list(failure)})
        side.note(name, plain(answer, base))
        return answer.get("succeeded", False)

    def equal(target, **value):
        return {"key": key, "result": "EQUAL", "target": target} | value

    get, delete = {"request_range": {"key": key}}, {"request_delete_range": {"key": key, "prev_kv": True}}
    put = {"request_put": {"key": key, "value": code("2"), "prev_kv": True}}
    assert ask("then", [equal("VALUE", value=code("1"))], [put, get], [delete])
    assert not ask("else", [equal("VALUE", value=code("1"))], [put], [get])
    kinds = [equal("VERSION", version=2), equal("CREATE", create_revision=base + 1), equal("MOD", mod_revision=base + 2)]
    assert ask("all comparisons", kinds, [delete])
    assert ask("nested", [], [{"request_txn": {"compare": [equal("VERSION", version=0)], "success": [put]}}, get])
    ask("nothing", [], [])
    refused(side, "a key twice", lambda: client.transaction({"success": [put, put]}))
    refused(side, "no key", lambda: client.transaction({"success": [{"request_put": {"value": code("2")}}]}))
    ask("an unknown field", [], [{"request_range": {"key": key, "nonsense": 1}}])
    side.note("revision", revision(client) - base)


class Watch:
    """A watch whose events are taken with a deadline."""

    def __init__(self, client, key, **options):
        self.events = queue.Queue()
        # The client ends a watch that is idle for as long as its calls may take.
        self.watcher = Watcher(client, key, self.events.put, **options)

    def take(self, count, base):
        return plain([self.events.get(timeout=CALL_LIMIT) for _ in range(count)], base)

    def stop(self):
        self.watcher.stop()


@case("shared")
def test_watches(side, client):
    base = revision(client)
    one, many = Watch(client, "watch/a", prev_kv=True), Watch(client, "watch/", range_end="watch0")
    client.put("watch/a", "1")
    client.put("watch/b", "2")
    client.put("watch/a", "3")
    client.delete("watch/a")
    lease = client.lease(60)
    client.put("watch/c", "4", lease)
    lease.revoke()
    side.note("one key", one.take(3, base))
    side.note("prefix", many.take(6, base))
    history = Watch(client, "watch/", range_end="watch0", start_revision=base + 2, prev_kv=True)
    side.note("history", history.take(5, base))
    puts = Watch(client, "watch/", range_end="watch0", start_revision=base + 1, filters=["NODELETE"])
    deletes = Watch(client, "watch/", range_end="watch0", start_revision=base + 1, filters=["NOPUT"])
    side.note("puts", puts.take(4, base))
    side.note("deletes", deletes.take(2, base))
    one.stop()
    client.put("watch/a", "6")
    side.note("the other watch", many.take(1, base))
    assert one.events.empty()
    events, cancel = client.watch_prefix("watch/", start_revision=base + 7)
    side.note("iterator", plain(next(events), base))
    cancel()
    side.note("after cancel", list(events))
    for watch in [many, history, puts, deletes]:
        watch.stop()
    side.note("once", plain(client.watch_once("watch/a", CALL_LIMIT, start_revision=base + 3), base))
    compact(client, base + 4)
    ask = {"create_request": {"key": code("watch/a"), "start_revision": base + 2}}
    # The client's own watch knows no refusal, so the answers are read as they come.
    with client.session.post(client.get_url("/watch"), json=ask, stream=True, timeout=CALL_LIMIT) as answer:
        lines = answer.iter_lines()
        created, canceled = json.loads(next(lines))["result"], json.loads(next(lines))["result"]
    side.note("compacted", (created["created"], canceled["canceled"], int(canceled["compact_revision"]) - base))


def compact(client, at, physical=False):
    return client.post(client.get_url("/kv/compaction"), json={"revision": at, "physical": physical})


@case("fresh")
def test_watch_through_a_restart(side, client):
    """The client's watch ends with the connection; the program watches on from the next revision."""
    base = revision(client)
    watch = Watch(client, "r/", range_end="r0")
    client.put("r/a", "1")
    side.note("before", watch.take(1, base))
    side.server.restart()
    watch.stop()

    def put():
        try:
            return client.put("r/b", "2")
        except etcd3gw.exceptions.ConnectionFailedError:
            return None

    eventually("the client reaches the server again", put)
    client.put("r/a", "3")
    again = Watch(client, "r/", range_end="r0", start_revision=base + 2)
    side.note("what was missed", again.take(2, base))
    client.delete("r/a")
    side.note("what comes then", again.take(1, base))
    again.stop()


@case("shared")
def test_leases(side, client):
    lease = client.lease(100)
    client.put("lease/a", "1", lease)
    client.put("lease/b", "1", lease)
    side.note("granted", (90 < lease.ttl() <= 100, sorted(lease.keys())))
    side.note("kept alive", lease.refresh())
    client.put("lease/b", "2")
    side.note("keys after a put without it", lease.keys())
    side.note("create", client.create("lease/c", "1", lease))
    side.note("revoked", (lease.revoke(), client.get("lease/a"), client.get("lease/b"), client.get("lease/c")))
    refused(side, "revoked again", lease.revoke)
    side.note("time to live of none", lease.ttl())
    side.note("keep alive of none", lease.refresh())
    refused(side, "put with none", lambda: client.put("lease/a", "1", lease))


@case("shared")
def test_leases_that_end(side, client):
    """The lease that is kept alive outlives one of the same age that is not, and ends when nobody keeps it."""
    kept, left = client.lease(1), client.lease(1)
    base = revision(client)
    client.put("end/kept", "1", kept)
    client.put("end/left", "1", left)
    ended = Watch(client, "end/", range_end="end0", start_revision=base + 1, filters=["NOPUT"])
    ttl = kept.refresh()

    def is_left_gone():
        assert kept.refresh() == ttl
        return not client.get("end/left")

    eventually("the lease ends", is_left_gone)
    side.note("kept", (ttl, client.get("end/kept")))
    side.note("ends", ended.take(2, base))
    side.note("time to live", [kept.ttl(), left.ttl()])
    ended.stop()


@case("shared")
def test_locks(side, client):
    other = connect(side)
    mine, theirs = client.lock("one", ttl=60), other.lock("one", ttl=60)
    side.note("taken", (mine.acquire(), mine.is_acquired(), client.get("/locks/one") == [mine.uuid.encode()]))
    side.note("not taken", (theirs.acquire(), theirs.is_acquired()))
    side.note("refreshed", mine.refresh())
    side.note("not theirs", (theirs.release(), mine.is_acquired()))
    side.note("released", mine.release())
    side.note("taken by the other", (theirs.acquire(), theirs.is_acquired(), mine.is_acquired()))
    theirs.release()
    with client.lock("two", ttl=1) as held:
        side.note("held", held.is_acquired())
        eventually("the lock ends with its lease", lambda: other.lock("two").acquire())
        side.note("lost", held.is_acquired())


@case("shared")
def test_elections(side, client):
    """The gateway's election calls, as programs make them with this client."""
    ask = lambda call, **body: client.post(client.get_url("/election/" + call), json=body)  # noqa: E731
    base = revision(client)
    refused(side, "no leader", lambda: ask("leader", name=code("vote")))
    first, second = client.lease(60), client.lease(60)
    leader = ask("campaign", name=code("vote"), lease=first.id, value=code("one"))["leader"]
    side.note("first", (leader["name"], int(leader["rev"]) - base, int(leader["lease"]) == first.id))
    side.note("leader", plain(ask("leader", name=code("vote"))["kv"] | {"key": ""}, base))
    answers = queue.Queue()
    waits = connect(side)
    campaign = {"name": code("vote"), "lease": second.id, "value": code("two")}
    asks = lambda: answers.put(waits.post(waits.get_url("/election/campaign"), json=campaign))  # noqa: E731
    threading.Thread(target=asks, daemon=True).start()
    eventually("the second waits", lambda: len(client.get_prefix("vote/")) == 2)
    ask("proclaim", leader=leader, value=code("again"))
    side.note("proclaimed", plain(ask("leader", name=code("vote"))["kv"] | {"key": ""}, base))
    ask("resign", leader=leader)
    after = answers.get(timeout=CALL_LIMIT)["leader"]
    side.note("second", (int(after["rev"]) - base, int(after["lease"]) == second.id))
    side.note("leader then", plain(ask("leader", name=code("vote"))["kv"] | {"key": ""}, base))
    refused(side, "proclaimed by who resigned", lambda: ask("proclaim", leader=leader, value=code("x")))


@case("fresh")
def test_users(side, client):
    def auth(call, by=client, **body):
        return plain(by.post(by.get_url("/auth/" + call), json=body), 0)

    client.put("mine/a", "1")
    client.put("theirs/a", "1")
    refused(side, "enabled without root", lambda: auth("enable"))
    for name in ["root", "user"]:
        side.note("user", auth("user/add", name=name, password=name + "-password"))
        side.note("role", auth("role/add", name=name))
        side.note("grant", auth("user/grant", user=name, role=name))
    refused(side, "a user twice", lambda: auth("user/add", name="user", password="x"))
    refused(side, "a role twice", lambda: auth("role/add", name="user"))
    mine = {"permType": "READWRITE", "key": code("mine/"), "range_end": code("mine0")}
    auth("role/grant", name="user", perm=mine)
    auth("role/grant", name="user", perm={"permType": "READ", "key": code("read")})
    side.note("role", auth("role/get", role="user"))
    auth("enable")
    log_in = {"name": "user", "password": "user-password"}
    refused(side, "nobody", lambda: client.get("mine/a"))
    refused(side, "a wrong password", lambda: auth("authenticate", name="user", password="wrong"))
    refused(side, "no such user", lambda: auth("authenticate", name="nobody", password="wrong"))
    refused(side, "a token of nobody", lambda: connect(side, "nonsense").get("mine/a"))
    user = connect(side, auth("authenticate", **log_in)["token"])
    side.note("permitted", (user.put("mine/b", "2"), user.get("mine/b"), user.get("read")))
    side.note("prefix", plain(user.get_prefix("mine/"), 0))
    refused(side, "another's key", lambda: user.get("theirs/a"))
    refused(side, "a put where only reads are permitted", lambda: user.put("read", "1"))
    refused(side, "a prefix beyond", lambda: user.get_prefix("m"))
    refused(side, "all", lambda: user.get_all())
    side.note("transaction", user.create("mine/c", "2"))
    refused(side, "transaction beyond", lambda: user.create("theirs/c", "2"))
    watch = Watch(user, "mine/a", start_revision=2)
    side.note("watch", watch.take(1, 0))
    watch.stop()
    root = connect(side, auth("authenticate", name="root", password="root-password")["token"])
    side.note("root", (root.get("theirs/a"), root.put("read", "9"), user.get("read")))
    side.note("users", auth("user/list", root))
    auth("user/revoke", root, name="user", role="user")
    again = connect(side, auth("authenticate", **log_in)["token"])
    refused(side, "after the role is gone", lambda: again.get("mine/a"))
    root = connect(side, auth("authenticate", name="root", password="root-password")["token"])
    auth("disable", root)
    side.note("nobody, when disabled", client.get("mine/a"))


@case("shared")
def test_refusals(side, client):
    base = revision(client)
    refused(side, "empty key", lambda: client.put("", "1"))
    refused(side, "empty key read", lambda: client.get(""))
    refused(side, "empty key deleted", lambda: client.delete(""))
    refused(side, "large", lambda: client.put("k", b"x" * 1_600_000))
    refused(side, "lease", lambda: client.put("k", "1", etcd3gw.lease.Lease(4711, client)))
    refused(side, "long lease", lambda: client.lease(10_000_000_000))
    for n in range(5):
        client.put("k", str(n))
    compact(client, base + 3, physical=True)
    refused(side, "compacted again", lambda: compact(client, base + 3))
    refused(side, "compacted in the future", lambda: compact(client, base + 100))
    refused(side, "compacted revision", lambda: client.get("k", revision=base + 2))
    refused(side, "future revision", lambda: client.get("k", revision=base + 100))
    side.note("older revision", client.get("k", revision=base + 4))
    refused(side, "no such call", lambda: client.post(client.get_url("/kv/none"), json={}))
    refused(side, "no JSON", lambda: client.post(client.get_url("/kv/put"), data="{"))


@case("shared")
def test_maintenance(side, client):
    status = client.status()
    side.note("version", (status["version"], client.api_path))
    members = client.members()
    side.note("members", [(m["name"], len(m["peerURLs"]), len(m["clientURLs"])) for m in members])
    side.note("leader", status["leader"] == members[0]["ID"])
