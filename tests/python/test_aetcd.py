"""The published client `aetcd` (asyncio): the same cases against etcd and Quorate, and the same to be seen."""

import asyncio
import functools
import io

import aetcd
import grpc
from aetcd import rpc

from harness import CALL_LIMIT, CASE_LIMIT, READY_LIMIT

# gRPC's asyncio half stays with the first event loop that it sees.
LOOP = asyncio.Runner()
RECONNECT = {"grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 200}


def connect(side, user=None, password=None):
    return aetcd.Client(
        side.server.host, side.server.port, username=user, password=password, timeout=CALL_LIMIT, options=RECONNECT
    )


def case(servers):
    """Makes a test of a coroutine that takes a side and a connected client."""

    def wrap(script):
        async def run(side, failures):
            try:
                async with asyncio.timeout(CASE_LIMIT), connect(side) as client:
                    await script(side, client)
            except Exception as failure:
                failures[side] = failure

        async def together(pair, failures):
            await asyncio.gather(*(run(side, failures) for side in pair.sides))

        @functools.wraps(script)
        def test(request):
            pair, failures = request.getfixturevalue(servers), {}
            pair.begin()
            LOOP.run(together(pair, failures))
            pair.compare(failures)

        del test.__wrapped__
        return test

    return wrap


async def refused(side, asked, call):
    """Records how a call that must fail does: the client's exception, and the status behind it."""
    try:
        answer = await call
    except (aetcd.ClientError, grpc.RpcError) as error:
        status = error if isinstance(error, grpc.RpcError) else error.__context__
        shown = (status.code().name, status.details()) if isinstance(status, grpc.RpcError) else ()
        return side.note(asked, (type(error).__name__, str(error.args), shown))
    raise AssertionError(f"{asked} was answered: {answer}")


async def eventually(what, condition):
    """Asks until the condition gives something true."""
    async with asyncio.timeout(READY_LIMIT):
        while not await condition():
            await asyncio.sleep(0.01)


async def revision(client):
    """The store's revision."""
    return (await client.get_prefix(b"any")).header.revision


def pair(item, base):
    return item and (item.key, item.value, item.create_revision - base, item.mod_revision - base, item.version)


def pairs(answer, base):
    return [pair(item, base) for item in answer]


async def take(watch, count, base):
    """The next events of a watch."""
    seen = []
    events = watch.__aiter__()
    async with asyncio.timeout(CALL_LIMIT):
        while len(seen) < count:
            event = await events.__anext__()
            previous = event.prev_kv and event.prev_kv.key and (event.prev_kv.value, event.prev_kv.mod_revision - base)
            seen.append((event.kind, *pair(event.kv, base), previous))
    return seen


@case("shared")
async def test_keys(side, client):
    base = await revision(client)
    side.note("put", (await client.put(b"kv/a", b"1")).header.revision - base)
    side.note("put again", pair((await client.put(b"kv/a", b"2", prev_kv=True)).prev_kv, base))
    await client.put(b"kv/b", b"\0\xff\n")
    await client.put(b"kv/c", b"")
    for key in [b"kv/a", b"kv/b", b"kv/c", b"kv/none"]:
        side.note(key, pair(await client.get(key, serializable=key == b"kv/c"), base))
    side.note("keys only", pairs(await client.get_prefix(b"kv/", keys_only=True), base))
    for target in ["key", "version", "create", "mod", "value"]:
        for order in ["ascend", "descend"]:
            found = await client.get_prefix(b"kv/", sort_order=order, sort_target=target)
            side.note(f"{order} {target}", (pairs(found, base), found.more, found.count))
    side.note("range", pairs(await client.get_range(b"kv/a", b"kv/c"), base))
    side.note("all", b"kv/a" in [item.key for item in await client.get_all()])
    side.note("replace", [await client.replace(b"kv/a", b"2", b"3"), await client.replace(b"kv/a", b"2", b"4")])
    deleted = await client.delete(b"kv/a", prev_kv=True)
    side.note("delete", (deleted.deleted, pair(deleted.prev_kv, base), await client.delete(b"kv/a")))
    side.note("delete range", (await client.delete_range(b"kv/b", b"kv/c")).deleted)
    rest = await client.delete_prefix(b"kv/", prev_kv=True)
    side.note("delete prefix", (rest.deleted, pairs(rest.prev_kvs, base)))
    assert side.note("revision", await revision(client) - base) == 8


@case("shared")
async def test_transactions(side, client):
    t = client.transactions
    base = await revision(client)
    await client.put(b"txn/a", b"1")

    async def ask(name, **parts):
        done, answers = await client.transaction(**parts)
        shown = [[value for value, _ in a] if isinstance(a, list) else type(a).__name__ for a in answers]
        side.note(name, (done, shown))
        return done

    both = [t.put(b"txn/b", b"b"), t.get(b"txn/b"), t.get(b"txn/none")]
    assert await ask("then", compare=[t.value(b"txn/a") == b"1"], success=both, failure=[t.get(b"txn/a")])
    assert not await ask("else", compare=[t.value(b"txn/a") == b"2"], success=both, failure=[t.get(b"txn/a")])
    kinds = [t.version(b"txn/a") > 0, t.create(b"txn/a") < base + 2, t.mod(b"txn/a") == base + 1]
    assert await ask("all comparisons", compare=kinds, success=[t.delete(b"txn/a")], failure=[])
    assert await ask("gone", compare=[t.create(b"txn/a") == 0], success=[t.put(b"txn/a", b"2")], failure=[])
    assert await ask("range", compare=[t.version(b"txn/", b"txn0") == 1], success=[t.get(b"txn/", b"txn0")], failure=[])
    inner = t.txn(compare=[t.value(b"txn/a") == b"2"], success=[t.put(b"txn/c", b"c")], failure=[])
    assert await ask("nested", compare=[], success=[inner, t.get(b"txn/c")], failure=[])
    twice = [t.put(b"txn/a", b"1"), t.put(b"txn/a", b"2")]
    await refused(side, "a key twice", client.transaction(compare=[], success=twice, failure=[]))
    await refused(side, "no key", client.transaction(compare=[], success=[t.put(b"", b"2")], failure=[]))
    side.note("revision", await revision(client) - base)


@case("shared")
async def test_watches(side, client):
    base = await revision(client)
    one = await client.watch(b"watch/a", prev_kv=True)
    many = await client.watch_prefix(b"watch/")
    await client.put(b"watch/a", b"1")
    await client.put(b"watch/b", b"2")
    await client.put(b"watch/a", b"3")
    await client.delete(b"watch/a")
    lease = await client.lease(60)
    await client.put(b"watch/c", b"4", lease=lease)
    await lease.revoke()
    side.note("one key", await take(one, 3, base))
    side.note("prefix", await take(many, 6, base))
    side.note("history", await take(await client.watch_prefix(b"watch/", start_revision=base + 2, prev_kv=True), 5, base))
    puts = await client.watch_prefix(b"watch/", start_revision=base + 1, kind=aetcd.EventKind.PUT)
    deletes = await client.watch_prefix(b"watch/", start_revision=base + 1, kind=aetcd.EventKind.DELETE)
    side.note("puts", await take(puts, 4, base))
    side.note("deletes", await take(deletes, 2, base))
    once = await client.watch_once(b"watch/a", timeout=CALL_LIMIT, start_revision=base + 4)
    side.note("once", (once.kind, pair(once.kv, base)))
    await one.cancel()
    await client.put(b"watch/a", b"6")
    side.note("the other watch", await take(many, 1, base))
    side.note("after cancel", [event async for event in one])
    await client.compact(base + 4)
    compacted = await client.watch(b"watch/a", start_revision=base + 1)
    await refused(side, "compacted", take(compacted, 1, base))


@case("fresh")
async def test_watch_through_a_restart(side, client):
    """The client tells that the stream broke; the program watches on from the next revision."""
    base = await revision(client)
    watch = await client.watch_prefix(b"r/")
    last = (await client.put(b"r/a", b"1")).header.revision
    side.note("before", await take(watch, 1, base))
    await asyncio.to_thread(side.server.kill)
    try:
        raise AssertionError(await take(watch, 1, base))
    except aetcd.ConnectionFailedError as error:
        side.note("the stream's end", type(error).__name__)
    side.server.start()
    await asyncio.to_thread(side.server.await_ready)

    async def put():
        try:
            return await client.put(b"r/b", b"2")
        except aetcd.ConnectionFailedError:
            return None

    await eventually("the client reaches the server again", put)
    await client.put(b"r/a", b"3")
    async with connect(side) as anew:
        again = await anew.watch_prefix(b"r/", start_revision=last + 1)
        side.note("what was missed", await take(again, 2, base))
        await client.delete(b"r/a")
        side.note("what comes then", await take(again, 1, base))


@case("shared")
async def test_leases(side, client):
    lease = await client.lease(100)
    await client.put(b"lease/a", b"1", lease=lease)
    await client.put(b"lease/b", b"1", lease=lease.id)
    remaining = await lease.remaining_ttl()
    side.note("granted", (await lease.granted_ttl(), 90 < remaining <= 100, sorted(await lease.keys())))
    side.note("kept alive", (await lease.refresh()).TTL)
    side.note("chosen id", (await client.lease(100, lease_id=78)).id)
    await refused(side, "the same id", client.lease(100, lease_id=78))
    await client.put(b"lease/b", b"2")
    side.note("keys after a put without it", list(await lease.keys()))
    await lease.revoke()
    side.note("revoked", [await client.get(b"lease/a"), (await client.get(b"lease/b")).value])
    await refused(side, "revoked again", lease.revoke())
    gone = await client.get_lease_info(lease.id)
    side.note("time to live of none", (gone.TTL, gone.grantedTTL))
    side.note("keep alive of none", (await client.refresh_lease(lease.id)).TTL)
    await refused(side, "put with none", client.put(b"lease/a", b"1", lease=lease.id))
    await client.revoke_lease(78)


@case("shared")
async def test_leases_that_end(side, client):
    """The lease that is kept alive outlives one of the same age that is not, and ends when nobody keeps it."""
    kept, left = await client.lease(1), await client.lease(1)
    base = (await client.put(b"end/kept", b"1", lease=kept)).header.revision - 1
    await client.put(b"end/left", b"1", lease=left)
    ended = await client.watch_prefix(b"end/", start_revision=base + 1, kind=aetcd.EventKind.DELETE)

    async def is_left_gone():
        assert (await kept.refresh()).TTL == kept.ttl
        return await client.get(b"end/left") is None

    await eventually("the lease ends", is_left_gone)
    side.note("kept", (kept.ttl, (await client.get(b"end/kept")).value))
    side.note("ends", await take(ended, 2, base))
    side.note("time to live", [await lease.remaining_ttl() for lease in (kept, left)])


@case("shared")
async def test_locks(side, client):
    async with connect(side) as other:
        mine, theirs = client.lock(b"lock/one", ttl=60), other.lock(b"lock/one", ttl=60)
        side.note("taken", (await mine.acquire(), await mine.is_acquired()))
        side.note("not taken", (await theirs.acquire(timeout=0), await theirs.is_acquired()))
        side.note("refreshed", (await mine.refresh()).TTL)
        waits = asyncio.create_task(theirs.acquire(timeout=CALL_LIMIT))
        side.note("released", await mine.release())
        side.note("taken by the other", (await waits, await theirs.is_acquired(), await mine.is_acquired()))
        side.note("not mine", await mine.release())
        await theirs.release()
        async with client.lock(b"lock/two", ttl=1) as held:
            taken = await other.lock(b"lock/two", ttl=60).acquire(timeout=CALL_LIMIT)
            side.note("until its lease ends", (taken, await held.is_acquired()))


@case("fresh")
async def test_users(side, client):
    auth = rpc.AuthStub(client.channel)
    await client.put(b"mine/a", b"1")
    await client.put(b"theirs/a", b"1")
    await refused(side, "enabled without root", auth.AuthEnable(rpc.AuthEnableRequest()))
    for name in ["root", "user"]:
        await auth.UserAdd(rpc.AuthUserAddRequest(name=name, password=name + "-password"))
        await auth.RoleAdd(rpc.AuthRoleAddRequest(name=name))
        await auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=name, role=name))
    await refused(side, "a user twice", auth.UserAdd(rpc.AuthUserAddRequest(name="user", password="x")))
    mine = {"permType": "READWRITE", "key": b"mine/", "range_end": b"mine0"}
    read = {"permType": "READ", "key": b"read"}
    for permission in [mine, read]:
        await auth.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="user", perm=permission))
    await auth.AuthEnable(rpc.AuthEnableRequest())
    await refused(side, "nobody", client.get(b"mine/a"))
    await refused(side, "a wrong password", connect(side, "user", "wrong").connect())
    await refused(side, "no such user", connect(side, "nobody", "wrong").connect())
    async with connect(side, "user", "user-password") as user, connect(side, "root", "root-password") as root:
        await user.put(b"mine/b", b"2")
        side.note("permitted", [(await user.get(b"mine/b")).value, await user.get(b"read")])
        side.note("prefix", [item.value for item in await user.get_prefix(b"mine/")])
        await refused(side, "another's key", user.get(b"theirs/a"))
        await refused(side, "a put where only reads are permitted", user.put(b"read", b"1"))
        await refused(side, "a prefix beyond", user.get_prefix(b"m"))
        await refused(side, "all", user.get_all())
        t = user.transactions
        within = {"compare": [t.value(b"mine/a") == b"1"], "failure": []}
        side.note("transaction", (await user.transaction(success=[t.put(b"mine/a", b"2")], **within))[0])
        await refused(side, "transaction beyond", user.transaction(success=[t.put(b"theirs/a", b"2")], **within))
        side.note("watch", await take(await user.watch(b"mine/a", start_revision=2), 2, 0))
        await root.put(b"read", b"9")
        side.note("root", [(await root.get(b"theirs/a")).value, (await user.get(b"read")).value])
        revoke = rpc.AuthUserRevokeRoleRequest(name="user", role="user")
        await auth.UserRevokeRole(revoke, metadata=root.metadata)
        async with connect(side, "user", "user-password") as again:
            await refused(side, "after the role is gone", again.get(b"mine/a"))
        async with connect(side, "root", "root-password") as again:
            side.note("users", sorted((await auth.UserList(rpc.AuthUserListRequest(), metadata=again.metadata)).users))
            await auth.AuthDisable(rpc.AuthDisableRequest(), metadata=again.metadata)
    side.note("nobody, when disabled", (await client.get(b"mine/a")).value)


@case("shared")
async def test_refusals(side, client):
    base = await revision(client)
    await refused(side, "empty key", client.put(b"", b"1"))
    await refused(side, "empty key read", client.get(b""))
    await refused(side, "empty key deleted", client.delete(b""))
    await refused(side, "large", client.put(b"k", b"x" * 1_600_000))
    await refused(side, "lease", client.put(b"k", b"1", lease=4711))
    await refused(side, "long lease", client.lease(10_000_000_000))
    for n in range(5):
        await client.put(b"k", b"%d" % n)
    await client.compact(base + 3, physical=True)

    def compacted(at):
        return client.kvstub.Range(rpc.RangeRequest(key=b"k", revision=base + at))

    await refused(side, "compacted again", client.compact(base + 3))
    await refused(side, "compacted in the future", client.compact(base + 100))
    await refused(side, "compacted revision", compacted(2))
    await refused(side, "future revision", compacted(100))
    side.note("older revision", (await compacted(4)).kvs[0].value)


@case("fresh")
async def test_maintenance(side, client):
    await client.put(b"k", b"1")
    status = await client.status()
    side.note("version", status.version)
    members = [member async for member in client.members()]
    side.note("members", [(m.name, len(m.peer_urls), len(m.client_urls)) for m in members])
    side.note("leader", status.leader.id == members[0].id)
    await client.defragment()
    side.note("alarm", [a.alarm_type for a in await client.create_alarm()])
    await refused(side, "put without space", client.put(b"k", b"2"))
    side.note("alarms", [alarm.alarm_type async for alarm in client.list_alarms()])
    side.note("disarmed", [a.alarm_type for a in await client.disarm_alarm()])
    await client.put(b"k", b"2")
    file = io.BytesIO()
    await client.snapshot(file)
    side.note("snapshot", len(file.getvalue()) % 512)
