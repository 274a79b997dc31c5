"""The published client `etcd3` (python-etcd3): the same cases against etcd and Quorate, and the same to be seen."""

import functools
import io
import os
import queue
import threading
import urllib.request

# The client's generated code is of a time before protobuf 4, which takes such code in its pure Python form only.
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import etcd3
import grpc

from harness import CALL_LIMIT, eventually

RECONNECT = {"grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 200}


def watchers(side):
    """How many watchers the server counts."""
    with urllib.request.urlopen(f"http://{side.server.endpoint}/metrics", timeout=CALL_LIMIT) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("etcd_debugging_mvcc_watcher_total "))


def connect(side, **options):
    return etcd3.client(
        side.server.host, side.server.port, timeout=CALL_LIMIT, grpc_options=RECONNECT.items(), **options
    )


def log_in(side, user):
    client = connect(side, user=user, password=user + "-password")
    # gRPC sends call credentials over TLS only; the client's metadata carry the token as well.
    client.call_credentials = client.watcher._credentials = None
    return client


def case(servers):
    """Makes a test of a function that takes a side and a connected client."""

    def wrap(script):
        def run(side):
            with connect(side) as client:
                script(side, client)

        # The fixture is asked for by name, as scripts need a pair of their own or share one.
        @functools.wraps(script)
        def test(request):
            request.getfixturevalue(servers).both(run)

        del test.__wrapped__
        return test

    return wrap


def refused(side, asked, call):
    """Records how a call that must fail does: the client's exception, and the status behind it."""
    try:
        answer = call()
    except (etcd3.Etcd3Exception, grpc.RpcError) as error:
        status = error if isinstance(error, grpc.RpcError) else error.__context__
        shown = (status.code().name, status.details()) if isinstance(status, grpc.RpcError) else str(error)
        kind = "RpcError" if isinstance(error, grpc.RpcError) else type(error).__name__
        return side.note(asked, (kind, shown))
    raise AssertionError(f"{asked} was answered: {answer}")


def revision(client):
    """The store's revision."""
    return client.get_response("any").header.revision


def pairs(answer, base=0):
    return [
        (value, meta.key, meta.create_revision - base, meta.mod_revision - base, meta.version)
        for value, meta in answer
    ]


def event(event, base):
    kind = type(event).__name__
    previous = (event.prev_value, event._event.prev_kv.mod_revision - base) if event._event.prev_kv.key else None
    return (kind, event.key, event.value, event.mod_revision - base, event.version, previous)


@case("shared")
def test_keys(side, client):
    base = revision(client)
    side.note("put", client.put("kv/a", "1").header.revision - base)
    side.note("put again", client.put("kv/a", "2", prev_kv=True).prev_kv.value)
    client.put("kv/b", b"\0\xff\n")
    client.put("kv/c", "")
    side.note("get", pairs([client.get("kv/a")], base))
    side.note("bytes", pairs([client.get("kv/b")], base))
    side.note("empty", pairs([client.get("kv/c", serializable=True)], base))
    side.note("missing", client.get("kv/none"))
    side.note("prefix", pairs(client.get_prefix("kv/"), base))
    side.note("keys only", pairs(client.get_prefix("kv/", keys_only=True), base))
    for target in ["key", "version", "create", "mod", "value"]:
        for order in ["ascend", "descend"]:
            sorted_ = client.get_prefix("kv/", sort_order=order, sort_target=target)
            side.note(f"{order} {target}", pairs(sorted_, base))
    side.note("range", pairs(client.get_range("kv/a", "kv/c"), base))
    side.note("all", b"kv/a" in [meta.key for _, meta in client.get_all()])
    side.note("replace", [client.replace("kv/a", "2", "3"), client.replace("kv/a", "2", "4"), client.get("kv/a")[0]])
    side.note("create", [client.put_if_not_exists("kv/a", "x"), client.put_if_not_exists("kv/d", "x")])
    side.note("delete", [client.delete("kv/a"), client.delete("kv/a")])
    side.note("deleted", client.delete("kv/b", prev_kv=True, return_response=True).prev_kvs[0].value)
    side.note("delete prefix", client.delete_prefix("kv/").deleted)
    assert revision(client) - base == 9
    side.note("revision", revision(client) - base)


@case("shared")
def test_transactions(side, client):
    t = client.transactions
    base = revision(client)
    client.put("txn/a", "1")

    def ask(name, **parts):
        done, answers = client.transaction(**parts)
        shown = [pairs(a, base) if isinstance(a, list) else type(a).__name__ for a in answers]
        side.note(name, (done, shown))
        return done

    both = [t.put("txn/b", "b"), t.get("txn/b"), t.get("txn/none")]
    assert ask("then", compare=[t.value("txn/a") == "1"], success=both, failure=[t.get("txn/a")])
    assert not ask("else", compare=[t.value("txn/a") == "2"], success=both, failure=[t.get("txn/a")])
    kinds = [t.version("txn/a") > 0, t.create("txn/a") < base + 2, t.mod("txn/a") == base + 1, t.value("txn/a") != "9"]
    assert ask("all comparisons", compare=kinds, success=[t.delete("txn/a")], failure=[])
    assert ask("gone", compare=[t.create("txn/a") == 0, t.version("txn/a") == 0], success=[t.put("txn/a", "2")], failure=[])
    inner = t.txn(compare=[t.value("txn/a") == "2"], success=[t.put("txn/c", "c")], failure=[])
    assert ask("nested", compare=[], success=[inner, t.get("txn/c")], failure=[])
    ask("nothing", compare=[], success=[], failure=[])
    twice = [t.put("txn/a", "1"), t.put("txn/a", "2")]
    refused(side, "a key twice", lambda: client.transaction(compare=[], success=twice, failure=[]))
    refused(side, "no key", lambda: client.transaction(compare=[], success=[t.put("", "2")], failure=[]))
    side.note("revision", revision(client) - base)


def collect(responses, count, base):
    """The next events of a watch whose callback fills the queue."""
    seen = []
    while len(seen) < count:
        response = responses.get(timeout=CALL_LIMIT)
        assert not isinstance(response, Exception), response
        seen += [event(e, base) for e in response.events]
    return seen


@case("shared")
def test_watches(side, client):
    base = revision(client)
    key, prefix = queue.Queue(), queue.Queue()
    one = client.add_watch_callback("watch/a", key.put, prev_kv=True)
    many = client.add_watch_prefix_callback("watch/", prefix.put)
    client.put("watch/a", "1")
    client.put("watch/b", "2")
    client.put("watch/a", "3")
    client.delete("watch/a")
    with_lease = client.lease(60)
    client.put("watch/c", "4", lease=with_lease)
    with_lease.revoke()
    side.note("one key", collect(key, 3, base))
    side.note("prefix", collect(prefix, 6, base))
    history = queue.Queue()
    client.add_watch_prefix_callback("watch/", history.put, start_revision=base + 2, prev_kv=True)
    assert len(side.note("history", collect(history, 5, base))) == 5
    events, cancel = client.watch("watch/d")
    client.put("watch/d", "5")
    side.note("iterator", event(next(events), base))
    cancel()
    side.note("after cancel", list(events))
    client.cancel_watch(one)
    client.put("watch/a", "6")
    side.note("the other watch", collect(prefix, 2, base))
    assert key.empty()
    client.cancel_watch(many)
    client.compact(base + 4)
    compacted = queue.Queue()
    client.add_watch_callback("watch/a", compacted.put, start_revision=base + 1)
    failure = compacted.get(timeout=CALL_LIMIT)
    side.note("compacted", (type(failure).__name__, failure.compacted_revision - base))


@case("fresh")
def test_watch_through_a_restart(side, client):
    """The client tells its callback that the stream broke; the program watches on from the next revision."""
    base = revision(client)
    responses = queue.Queue()
    client.add_watch_prefix_callback("r/", responses.put)
    last = client.put("r/a", "1").header.revision
    side.note("before", collect(responses, 1, base))
    side.server.restart()
    failure = responses.get(timeout=CALL_LIMIT)
    side.note("the stream's end", (type(failure).__name__, failure.code().name))

    def put():
        try:
            return client.put("r/b", "2")
        except etcd3.exceptions.ConnectionFailedError:
            return None

    eventually("the client reaches the server again", put)
    client.put("r/a", "3")
    again = queue.Queue()
    client.add_watch_prefix_callback("r/", again.put, start_revision=last + 1)
    side.note("what was missed", collect(again, 2, base))
    client.delete("r/a")
    side.note("what comes then", collect(again, 1, base))


@case("shared")
def test_leases(side, client):
    lease = client.lease(100)
    client.put("lease/a", "1", lease=lease)
    client.put("lease/b", "1", lease=lease.id)
    side.note("granted", (lease.granted_ttl, 90 < lease.remaining_ttl <= 100, sorted(lease.keys)))
    side.note("kept alive", [answer.TTL for answer in lease.refresh()])
    side.note("chosen id", client.lease(100, lease_id=77).id)
    refused(side, "the same id", lambda: client.lease(100, lease_id=77))
    client.put("lease/b", "2")
    side.note("keys after a put without it", list(lease.keys))
    lease.revoke()
    side.note("revoked", (client.get("lease/a")[0], client.get("lease/b")[0]))
    refused(side, "revoked again", lease.revoke)
    gone = client.get_lease_info(lease.id)
    side.note("time to live of none", (gone.TTL, gone.grantedTTL))
    side.note("keep alive of none", [answer.TTL for answer in client.refresh_lease(lease.id)])
    refused(side, "put with none", lambda: client.put("lease/a", "1", lease=lease.id))
    client.revoke_lease(77)


@case("shared")
def test_leases_that_end(side, client):
    """The lease that is kept alive outlives one of the same age that is not, and ends when nobody keeps it."""
    kept, left = client.lease(1), client.lease(1)
    ended = queue.Queue()
    base = client.put("end/kept", "1", lease=kept).header.revision
    client.put("end/left", "1", lease=left)
    client.add_watch_prefix_callback("end/", ended.put, start_revision=base + 2)

    def is_left_gone():
        assert [answer.TTL for answer in kept.refresh()] == [kept.ttl]
        return client.get("end/left")[0] is None

    eventually("the lease ends", is_left_gone)
    side.note("kept", client.get("end/kept")[0])
    for wanted in ["first", "second"]:
        side.note(wanted, [(type(e).__name__, e.key) for e in ended.get(timeout=CALL_LIMIT).events])
    side.note("time to live", [client.get_lease_info(lease.id).TTL for lease in (kept, left)])


@case("shared")
def test_locks(side, client):
    with connect(side) as other:
        mine, theirs = client.lock("one", ttl=60), other.lock("one", ttl=60)
        side.note("taken", (mine.acquire(), mine.is_acquired(), client.get("/locks/one")[0] == mine.uuid))
        side.note("not taken", (theirs.acquire(timeout=0), theirs.is_acquired()))
        side.note("refreshed", [answer.TTL for answer in mine.refresh()])
        answers = queue.Queue()
        waits = threading.Thread(target=lambda: answers.put(theirs.acquire(timeout=CALL_LIMIT)), daemon=True)
        waits.start()
        # The client watches from the moment on; a release before would pass it by.
        eventually("the other waits", lambda: watchers(side))
        side.note("released", mine.release())
        side.note("taken by the other", (answers.get(timeout=CALL_LIMIT), theirs.is_acquired(), mine.is_acquired()))
        side.note("not mine", mine.release())
        theirs.release()
        with client.lock("two", ttl=1) as held:
            side.note("until its lease ends", (held.is_acquired(), other.lock("two").acquire(timeout=CALL_LIMIT)))
            side.note("lost", held.is_acquired())


@case("fresh")
def test_users(side, client):
    rpc = etcd3.etcdrpc
    auth = rpc.AuthStub(client.channel)
    client.put("mine/a", "1")
    client.put("theirs/a", "1")
    refused(side, "enabled without root", lambda: auth.AuthEnable(rpc.AuthEnableRequest()))
    for name in ["root", "user"]:
        auth.UserAdd(rpc.AuthUserAddRequest(name=name, password=name + "-password"))
        auth.RoleAdd(rpc.AuthRoleAddRequest(name=name))
        auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=name, role=name))
    refused(side, "a user twice", lambda: auth.UserAdd(rpc.AuthUserAddRequest(name="user", password="x")))
    refused(side, "a role twice", lambda: auth.RoleAdd(rpc.AuthRoleAddRequest(name="user")))
    mine = {"permType": "READWRITE", "key": b"mine/", "range_end": b"mine0"}
    auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="user", perm=mine))
    auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="user", perm={"permType": "READ", "key": b"read"}))
    auth.AuthEnable(rpc.AuthEnableRequest())
    refused(side, "nobody", lambda: client.get("mine/a"))
    refused(side, "a wrong password", lambda: connect(side, user="user", password="wrong"))
    refused(side, "no such user", lambda: connect(side, user="nobody", password="wrong"))
    with log_in(side, "user") as user:
        side.note("permitted", (user.put("mine/b", "2") is not None, user.get("mine/b")[0], user.get("read")[0]))
        side.note("prefix", [value for value, _ in user.get_prefix("mine/")])
        refused(side, "another's key", lambda: user.get("theirs/a"))
        refused(side, "a put where only reads are permitted", lambda: user.put("read", "1"))
        refused(side, "a prefix beyond", lambda: list(user.get_prefix("m")))
        refused(side, "all", lambda: list(user.get_all()))
        t = user.transactions
        within = {"compare": [t.value("mine/a") == "1"], "failure": []}
        side.note("transaction", user.transaction(success=[t.put("mine/a", "2")], **within)[0])
        refused(side, "transaction beyond", lambda: user.transaction(success=[t.put("theirs/a", "2")], **within))
        events, cancel = user.watch("mine/a", start_revision=2)
        side.note("watch", next(events).value)
        cancel()
        with log_in(side, "root") as root:
            side.note("root", (root.get("theirs/a")[0], root.put("read", "9") is not None, user.get("read")[0]))
            auth.UserRevokeRole(rpc.AuthUserRevokeRoleRequest(name="user", role="user"), metadata=root.metadata)
            with log_in(side, "user") as again:
                refused(side, "after the role is gone", lambda: again.get("mine/a"))
            listed = auth.UserList(rpc.AuthUserListRequest(), metadata=root.metadata)
            side.note("users", sorted(listed.users))
            auth.AuthDisable(rpc.AuthDisableRequest(), metadata=root.metadata)
    side.note("nobody, when disabled", client.get("mine/a")[0])


@case("fresh")
def test_refusals(side, client):
    base = revision(client)
    refused(side, "empty key", lambda: client.put("", "1"))
    refused(side, "empty key read", lambda: client.get(""))
    refused(side, "empty key deleted", lambda: client.delete(""))
    refused(side, "large", lambda: client.put("k", b"x" * 1_600_000))
    refused(side, "lease", lambda: client.put("k", "1", lease=4711))
    refused(side, "long lease", lambda: client.lease(10_000_000_000))
    for n in range(5):
        client.put("k", str(n))
    client.compact(base + 3, physical=True)
    refused(side, "compacted again", lambda: client.compact(base + 3))
    refused(side, "compacted in the future", lambda: client.compact(base + 100))
    stub, request = client.kvstub, etcd3.etcdrpc.RangeRequest
    refused(side, "compacted revision", lambda: stub.Range(request(key=b"k", revision=base + 2)))
    refused(side, "future revision", lambda: stub.Range(request(key=b"k", revision=base + 100)))
    side.note("older revision", stub.Range(request(key=b"k", revision=base + 4)).kvs[0].value)


@case("fresh")
def test_maintenance(side, client):
    client.put("k", "1")
    status = client.status()
    side.note("version", status.version)
    members = list(client.members)
    side.note("members", [(m.name, len(m.peer_urls), len(m.client_urls)) for m in members])
    side.note("leader", status.leader.id == members[0].id)
    client.defragment()
    side.note("alarms", list(client.list_alarms()))
    side.note("alarm", [alarm.alarm_type for alarm in client.create_alarm()])
    refused(side, "put without space", lambda: client.put("k", "2"))
    side.note("disarmed", [alarm.alarm_type for alarm in client.disarm_alarm()])
    client.put("k", "2")
    file = io.BytesIO()
    client.snapshot(file)
    side.note("snapshot", len(file.getvalue()) % 512)
